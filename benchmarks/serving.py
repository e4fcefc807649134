"""How long does an answer take, and how many does one core give?

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/serving.py [--items 100000] [--items 1000000]

One client that waits for each answer before it asks again. Beside the server, in the same run and on the same
bundle: the bare work without HTTP (`bare loop`), and MLflow's scoring server.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer

sys.path[:0] = [str(Path(__file__).parent)]
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.bundle.draft import (  # noqa: E402
    Draft,
    DraftedModel,
)
from etalage.bundle.manifest import read_manifest  # noqa: E402
from etalage.bundle.opening import open_bundle  # noqa: E402
from etalage.bundle.pointer import Bundles  # noqa: E402
from etalage.bundle.publish import publish  # noqa: E402
from etalage.config import BehaviourConfig, FunnelConfig, IndexConfig, PublishConfig  # noqa: E402
from etalage.features.history import BehaviourRule  # noqa: E402
from etalage.features.vocabulary import Vocabulary  # noqa: E402
from etalage.funnel.similar import WIDER  # noqa: E402
from etalage.lake.schema import TABLES  # noqa: E402
from etalage.online import Act, open_live  # noqa: E402
from etalage.runtime.embeddings import EmbeddingScorer  # noqa: E402
from etalage.runtime.export_files import FACTS, FORMAT, QUERY, hash_export  # noqa: E402
from etalage.runtime.export_files import ITEMS as ITEM_IDS  # noqa: E402
from etalage.runtime.export_files import USERS as USER_IDS  # noqa: E402

D, HIDDEN, CENTRES, LATENT = 64, 128, 2000, 12
ACTS, K, QUOTA = 20, 10, 200
SHOPPERS = 500
WARM = 50
COMMAND = "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/serving.py"
NOTE = (
    "One client, one connection, which waits for each answer; {requests} requests of each system in "
    "{rounds} rounds in turn, and a tenth of that of MLflow's; one thread each. A shopper has {acts} "
    "acts; a network ({d} → {hidden} → {d}) makes an embedding of them, an index of IVF-Flat is "
    "searched for {quota} items, and {k} are shown. `bare loop`: this network in ONNX Runtime and this "
    "search in the same index, in the same process, from arrays that are ready; for /v1/similar {wide} "
    "items by inner product of which the best {k} by cosine. `etalage`: all of the request: JSON, the "
    "shopper's history, what they have and what is out of stock kept out, candidates merged with the "
    "most popular, order, JSON of the items. `by user_id` reads the history in the online store. "
    "Latency: median of the rounds, and their lowest and highest. Requests per second per core: from "
    "processor time of the serving process, so that other work on the machine does not count."
)

Ask = Callable[[int], None]
"""One question, by its number."""


@dataclass(frozen=True)
class System:
    case: str
    name: str
    ask: Ask
    cpu: Callable[[], float]
    """Seconds of processor time of whoever answers, so far."""
    share: float = 1.0


def main(
    items: Annotated[list[int] | None, typer.Option(help="Sizes of the catalogue.")] = None,
    requests: Annotated[int, typer.Option(help="Of each system.")] = 2000,
    rounds: Annotated[int, typer.Option()] = 5,
    mlflow: Annotated[bool, typer.Option(help="MLflow's scoring server too.")] = True,
    seed: Annotated[int, typer.Option()] = 0,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("serving", small, out)
    sizes = items or [100_000]
    if small:
        sizes, requests, rounds = [1_000], 60, 1
    rows: list[Row] = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as made:
            rows += measured(Path(made), size, requests, rounds, mlflow, seed)
    facts = {"acts": ACTS, "d": D, "hidden": HIDDEN, "quota": QUOTA, "k": K, "wide": WIDER * K + 50}
    note = NOTE.format(requests=requests, rounds=rounds, **facts)
    packages = ["numpy", "faiss-cpu", "onnxruntime", "fastapi", "uvicorn", "mlflow"]
    given = "".join(f" --items {size}" for size in sizes)
    bench.write(rows, command=COMMAND + given, seeds=[seed], packages=packages, note=note)


# -- a bundle out of nothing -------------------------------------------------------------------


def made_bundle(folder: Path, count: int, seed: int) -> Bundles:
    """`count` items around CENTRES points, popularity, and a network that embeds a history."""
    generator = np.random.default_rng(seed)
    latent = generator.standard_normal((CENTRES, LATENT), np.float32)[generator.integers(0, CENTRES, count)]
    latent += 0.5 * generator.standard_normal((count, LATENT), np.float32)
    embeddings = latent @ generator.standard_normal((LATENT, D), np.float32)
    embeddings += 0.2 * generator.standard_normal((count, D), np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    ids = [f"i{number:07d}" for number in range(count)]
    popularity = 1e6 / (1 + generator.permutation(count))
    exports = folder / "exports"
    tower = _embedder(exports / "two_tower", ids, embeddings, generator)
    prior = np.concatenate([[0], popularity]).astype(np.float32)
    popular = _export(exports / "popularity", "popularity", "closed_form", "prior", ids, {"scores": prior})
    draft = Draft(
        _items(ids, popularity, generator),
        pa.table({"sha256": pa.array([], pa.string()), "bytes": pa.array([], pa.binary())}),
        {"items": 0},
        (DraftedModel(tower, {"passed": True, "metric": "none"}), DraftedModel(popular)),
        rules=BehaviourRule(
            BehaviourConfig(), FunnelConfig(retrievers={"two_tower": QUOTA, "popularity": 20})
        ),
    )
    bundles = Bundles(folder / "bundles")
    publish(bundles, draft, config=PublishConfig(), index_config=IndexConfig(kind="ivf_flat"))
    return bundles


def _items(ids: list[str], popularity: np.ndarray, generator: np.random.Generator) -> pa.Table:
    count = len(ids)
    brand, category = generator.integers(0, 400, count), generator.integers(0, 200, count)
    columns: dict[str, Any] = {
        "item_id": ids,
        "title": [f"Piece {number} of a collection" for number in range(count)],
        "brand": [f"Brand {number}" for number in brand],
        "price": generator.uniform(5, 200, count).round(2),
        "currency": ["EUR"] * count,
        "category_id": [f"Group {number % 20} > Kind {number}" for number in category],
        "in_stock": generator.random(count) > 0.1,
    }
    schema = TABLES["items"].schema
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(count, field.type)
        for field in schema
    ]
    table = pa.table(arrays, schema=pa.schema([pa.field(f.name, f.type) for f in schema]))
    table = table.append_column("photo_sha256", pa.nulls(count, pa.string()))
    return table.append_column("popularity", pa.array(popularity, pa.float64()))


def _embedder(folder: Path, ids: list[str], embeddings: np.ndarray, generator: np.random.Generator) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def weights(name: str, *shape: int) -> Any:
        drawn = generator.standard_normal(shape, np.float32) * np.float32(0.3 / np.sqrt(shape[0]))
        return numpy_helper.from_array(drawn, name)

    acts = "history_embeddings"
    nodes = [
        helper.make_node("Cast", ["history_mask"], ["there"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["there", "axis"], ["count"], keepdims=1),
        helper.make_node("ReduceSum", [acts, "axis"], ["sum"], keepdims=0),
        helper.make_node("Max", ["count", "one"], ["most"]),
        helper.make_node("Div", ["sum", "most"], ["mean"]),
        helper.make_node("MatMul", ["mean", "first"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["lit"]),
        helper.make_node("MatMul", ["lit", "second"], ["turned"]),
        helper.make_node("Add", ["mean", "turned"], ["query"]),
        helper.make_node("LpNormalization", ["query"], ["embedding"], axis=1, p=2),
    ]
    constants = [
        numpy_helper.from_array(np.array([1], np.int64), "axis"),
        numpy_helper.from_array(np.array([1], np.float32), "one"),
        weights("first", D, HIDDEN),
        weights("second", HIDDEN, D),
    ]
    inputs = [
        helper.make_tensor_value_info(acts, TensorProto.FLOAT, ["queries", ACTS, D]),
        helper.make_tensor_value_info("history_mask", TensorProto.BOOL, ["queries", ACTS]),
    ]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["queries", D])]
    graph = helper.make_graph(nodes, "tower", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    folder.mkdir(parents=True)
    (folder / QUERY).write_bytes(model.SerializeToString())
    whole = np.concatenate([np.zeros((1, D), np.float32), embeddings])
    arrays = {"item_embeddings": whole, "history_embeddings": whole}
    facts = {"dimension": D, "history_length": ACTS}
    return _export(folder, "two_tower", "embedder", "embeddings", ids, arrays, **facts)


def _export(
    folder: Path,
    name: str,
    role: str,
    scoring: str,
    ids: list[str],
    arrays: dict[str, np.ndarray],
    **facts: Any,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in arrays.items():
        np.save(folder / f"{file}.npy", array, allow_pickle=False)
    Vocabulary(ids).save(folder / ITEM_IDS)
    Vocabulary([]).save(folder / USER_IDS)
    said = {"format": FORMAT, "name": name, "role": role, "kind": scoring, "kinds": ["view", "buy"]}
    said |= {"settings": {}, **facts, "model_hash": hash_export(folder)}
    (folder / FACTS).write_text(json.dumps(said), encoding="utf-8")
    return folder


def made_histories(bundles: Bundles, seed: int) -> np.ndarray:
    """(SHOPPERS, ACTS) vocabulary rows: a shopper acts on items like a first one."""
    generator = np.random.default_rng(seed + 1)
    tower, index = _opened(bundles)
    firsts = generator.integers(1, len(tower.items), SHOPPERS)
    near = index.search(np.asarray(tower.item_embeddings[firsts], np.float32), 300).rows
    return np.stack([generator.choice(rows[rows > 0], ACTS, replace=False) for rows in near])


def _opened(bundles: Bundles) -> tuple[EmbeddingScorer, Any]:
    folder = bundles.path(bundles.current_id())
    parts = open_bundle(folder, read_manifest(folder), verify=False)
    one = next(one for one in parts.models if isinstance(one.scorer, EmbeddingScorer))
    assert isinstance(one.scorer, EmbeddingScorer)
    return one.scorer, one.index


# -- the systems -------------------------------------------------------------------------------


def measured(folder: Path, count: int, requests: int, rounds: int, mlflow: bool, seed: int) -> list[Row]:
    began = time.perf_counter()
    bundles = made_bundle(folder, count, seed)
    histories = made_histories(bundles, seed)
    ids = _opened(bundles)[0].items.ids.to_pylist()
    live = open_live(folder / "live" / "events.sqlite")
    live.seed(
        (f"u{user}", Act(ids[row - 1], "view", None, 1_700_000_000_000_000 + at))
        for user, rows in enumerate(histories)
        for at, row in enumerate(rows)
    )
    live.close()
    print(f"{count:,} items: bundle made in {time.perf_counter() - began:.0f} s", flush=True)
    bodies = [[{"item_id": ids[row - 1]} for row in rows] for rows in histories]
    with _serving(bundles) as (port, process):
        systems = [*_bare(bundles, histories, count), *_ours(port, process, bodies, count)]
        if not mlflow:
            return _timed(systems, requests, rounds)
        with _mlflow(bundles, folder) as (mlflow_port, group):
            systems.append(_theirs(mlflow_port, group, bodies, count))
            return _timed(systems, requests, rounds)


def _bare(bundles: Bundles, histories: np.ndarray, count: int) -> list[System]:
    """What a slate cannot do without: the network and the search, from arrays that are ready."""
    import faiss
    import onnxruntime

    folder = bundles.path(bundles.current_id())
    tower = _opened(bundles)[0].opened.folder
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(tower / QUERY), options, providers=["CPUExecutionProvider"])
    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(folder / "indexes" / "two_tower" / "index.faiss"))
    index.nprobe = json.loads((folder / "indexes" / "two_tower" / "index.json").read_text())["probes"]
    embeddings = np.array(np.load(tower / "item_embeddings.npy"))
    there = np.ones((1, ACTS), bool)

    def recommend(number: int) -> None:
        acts = embeddings[histories[number % SHOPPERS]][None]
        (query,) = session.run(None, {"history_embeddings": acts, "history_mask": there})
        rows = index.search(query, QUOTA)[1][0]
        assert len(rows) == QUOTA

    def similar(number: int) -> None:
        query = embeddings[histories[number % SHOPPERS, 0]]
        rows = index.search(query[None], WIDER * K + 50)[1][0]
        cosines = embeddings[rows] @ query
        assert len(np.argsort(-cosines)[:K]) == K

    return [
        System(f"/v1/recommend, {count:,} items", "bare loop", recommend, time.process_time),
        System(f"/v1/similar, {count:,} items", "bare loop", similar, time.process_time),
    ]


def _ours(port: int, process: int, bodies: list[list[dict[str, str]]], count: int) -> list[System]:
    post = _posting(port)
    histories = [json.dumps({"history": body, "k": K}).encode() for body in bodies]
    users = [json.dumps({"user_id": f"u{user}", "k": K}).encode() for user in range(SHOPPERS)]
    items = [json.dumps({"item_id": body[0]["item_id"], "k": K}).encode() for body in bodies]

    def cpu() -> float:
        return _seconds([process])

    return [
        System(f"/v1/recommend, {count:,} items", f"etalage, {name}", _asking(post, path, said), cpu)
        for name, path, said in (
            ("by history", "/v1/recommend", histories),
            ("by user_id", "/v1/recommend", users),
        )
    ] + [System(f"/v1/similar, {count:,} items", "etalage", _asking(post, "/v1/similar", items), cpu)]


def _theirs(port: int, group: int, bodies: list[list[dict[str, str]]], count: int) -> System:
    said = [
        json.dumps({"dataframe_records": [{"history": json.dumps(body)}], "params": {"k": K}}).encode()
        for body in bodies
    ]
    name, case = "MLflow scoring server", f"/v1/recommend, {count:,} items"
    return System(
        case, name, _asking(_posting(port), "/invocations", said), lambda: _seconds(_members(group)), 0.1
    )


def _asking(post: Callable[[str, bytes], None], path: str, bodies: Sequence[bytes]) -> Ask:
    return lambda number: post(path, bodies[number % len(bodies)])


def _posting(port: int) -> Callable[[str, bytes], None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(path: str, body: bytes) -> None:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200 or content.count(b'"item_id"') < K:
            raise RuntimeError(f"{path}: {answer.status} {content[:300]!r}")

    return post


@contextmanager
def _serving(bundles: Bundles) -> Iterator[tuple[int, int]]:
    """`etalage serve` as a process of its own: its port and process id."""
    program = (
        "import sys; from pathlib import Path; from etalage.config import ServeConfig; "
        "from etalage.serve.run import run; run(Path(sys.argv[1]), ServeConfig(port=0))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ETALAGE_KEY"}
    with subprocess.Popen(
        [sys.executable, "-c", program, str(bundles.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().rsplit(":", 1)[1]), process.pid
        finally:
            process.terminate()


@contextmanager
def _mlflow(bundles: Bundles, folder: Path) -> Iterator[tuple[int, int]]:
    """`mlflow models serve` of the same bundle: its port and process group."""
    import mlflow

    from etalage.serve.pyfunc import log_bundle

    tracking = f"sqlite:///{folder / 'mlflow.db'}"
    uri = log_bundle(bundles.path(bundles.current_id()), tracking, "serving", "serving", "recommend")
    mlflow.set_tracking_uri(None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ["models", "serve", "--env-manager", "local", "-m", uri, "--workers", "1", "-p", str(port)]
    paths = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with subprocess.Popen(
        [sys.executable, "-m", "mlflow", *arguments, "-h", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MLFLOW_TRACKING_URI": tracking, "PATH": paths},
        cwd=folder,
        start_new_session=True,
    ) as process:
        try:
            _wait_for(port, process)
            yield port, process.pid
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("mlflow models serve does not answer")


def _members(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getpgid(int(entry.name)) == group:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def _seconds(processes: Sequence[int]) -> float:
    """Processor time of these processes so far."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# -- the clock ---------------------------------------------------------------------------------


def _timed(systems: Sequence[System], requests: int, rounds: int) -> list[Row]:
    """The systems in turn, round by round: what else the machine does falls on all alike."""
    for system in systems:
        for number in range(WARM):
            system.ask(number)
    taken: dict[int, list[tuple[float, float, float]]] = {at: [] for at in range(len(systems))}
    for round_ in range(rounds):
        for at, system in enumerate(systems):
            count = max(int(requests * system.share) // rounds, 20)
            before, times = system.cpu(), np.empty(count)
            for number in range(count):
                began = time.perf_counter()
                system.ask(round_ * count + number)
                times[number] = time.perf_counter() - began
            rate = count / max(system.cpu() - before, 1e-9)
            taken[at].append((*(1000 * np.quantile(times, (0.5, 0.99))), rate))
    rows = []
    for at, system in enumerate(systems):
        for column, (metric, unit) in enumerate((("p50", "ms"), ("p99", "ms"), ("per core", "requests/s"))):
            values = [one[column] for one in taken[at]]
            rows.append(Row(system.case, system.name, metric, *_spread(values), unit))
    return [*rows, *_ratios(systems, taken)]


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return float(np.median(values)), float(min(values)), float(max(values))


def _ratios(systems: Sequence[System], taken: dict[int, list[tuple[float, float, float]]]) -> list[Row]:
    """Round by round, how much longer than the bare loop of the same case."""
    bare = {system.case: at for at, system in enumerate(systems) if system.name == "bare loop"}
    rows = []
    for at, system in enumerate(systems):
        limit = taken[bare[system.case]]
        if at == bare[system.case]:
            continue
        for metric, column, turned in (
            ("p50 / bare loop", 0, False),
            ("processor time / bare loop", 2, True),
        ):
            ratios = [
                (one[column] / other[column]) ** (-1 if turned else 1)
                for one, other in zip(taken[at], limit, strict=True)
            ]
            rows.append(Row(system.case, system.name, metric, *_spread(ratios), "×"))
    return rows


if __name__ == "__main__":
    run_main(main)
