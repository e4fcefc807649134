"""The catalogue ranked for many shoppers by several workers: a block of queries and one system at a time.

`rank_block` is a function of files alone: the folder of the questions, mapped, and that of the export. Blocks
begin where `rank_all` begins one anyway, so that every product has the operands that it has in one process,
and the figures are the same to the last bit.

    B queries   N items   T right answers of all queries
"""

import json
import pickle
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from etalage.engine.contract import Engine
from etalage.evaluation.ranking import Ranked, queries_at_once, rank_all
from etalage.evaluation.slices import Questions
from etalage.features.behaviour import Interactions, Queries
from etalage.features.encoder import Features
from etalage.runtime.scorer import ExportScorer, Scorer

PAYS, SAVES = 2_000_000_000, 10.0
"""Scores, queries × items, from which on workers are started: they take 6 to 10 seconds of one core. Of
fewer, to start a process and to open the model in it takes longer than it saves. As `[engine] saving` has it:
so many scores for so many seconds."""
BLOCKS = 16
"""A worker's share of a system is about so many blocks, so that one that is late keeps nobody waiting."""
_DESCRIPTION, _SYSTEM, _CANDIDATES = "questions.json", "system.pickle", "candidates"
_QUERIES, _ACTS = ("users", "starts", "items", "kinds", "times", "now"), ("users", "items")


@dataclass(frozen=True)
class Job:
    """One system on some questions. candidates: (N + 1,) bool, what may be shown; None: everything."""

    scorer: Scorer
    asked: Questions
    candidates: np.ndarray | None = None

    @property
    def scores(self) -> int:
        """How many scores it takes."""
        return len(self.asked.truth) * len(self.scorer.items)


@dataclass(frozen=True)
class Block:
    """Queries `start` … `stop` of a folder of questions, put to one system: all that a worker is sent."""

    questions: str
    system: str
    """The folder of an export, or a file with a pickled scorer, which has none."""
    candidates: str | None
    start: int
    stop: int
    ks: tuple[int, ...]


@dataclass(frozen=True)
class Workers:
    """Where blocks run. scratch: a folder that the workers can read; None: this machine's own for such
    files."""

    engine: Engine
    scratch: Path | None = None
    count: int | None = None
    """None: as many as the engine takes."""
    pays: int = PAYS


def rank_jobs(
    jobs: Sequence[Job],
    ks: Sequence[int],
    workers: Workers | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Ranked]:
    """`rank_all` of every job, in this process, or by `workers` where it pays; in the order of the jobs.

    Raises ExportDamaged: a score is NaN.
    """
    if workers is None or sum(job.scores for job in jobs) < workers.pays:
        return [
            rank_all(
                job.scorer, job.asked.queries, job.asked.truth, ks=ks, exclude=job.asked.seen,
                candidates=job.candidates, progress=progress,
            )
            for job in jobs
        ]  # fmt: skip
    if workers.scratch is not None:
        workers.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="etalage-", dir=workers.scratch) as name:
        cut = [_blocks(job, number, Path(name), tuple(ks)) for number, job in enumerate(jobs)]
        found = workers.engine.map(rank_block, [one for some in cut for one in some], workers.count)
        done = []
        for some in cut:
            parts = []
            for _ in some:
                parts.append(next(found))
                if progress is not None:
                    progress(len(parts[-1].candidates))
            done.append(Ranked.joined(parts))
        for _ in found:  # nothing is left: the engine ends its workers
            pass
    return done


def rank_block(block: Block) -> Ranked:
    """What one system makes of one block of queries; run by a worker."""
    asked, scorer = _questions(block.questions), _system(block.system)
    return rank_all(
        scorer,
        asked.queries.block(block.start, block.stop),
        asked.truth[block.start : block.stop],
        ks=block.ks,
        exclude=asked.seen,
        candidates=None if block.candidates is None else np.load(block.candidates),
        first=block.start,
    )


def _blocks(job: Job, number: int, folder: Path, ks: tuple[int, ...]) -> list[Block]:
    """Write what the job needs into `folder`, and cut it into blocks."""
    questions = folder / f"questions-{id(job.asked)}"
    if not questions.exists():
        save_questions(job.asked, questions)
    if isinstance(job.scorer, ExportScorer):
        system = job.scorer.opened.folder.resolve()
    else:
        system = folder / f"{id(job.scorer)}-{_SYSTEM}"
        system.write_bytes(pickle.dumps(job.scorer))
    candidates = None
    if job.candidates is not None:
        candidates = str(folder / f"{_CANDIDATES}-{number}.npy")
        np.save(candidates, job.candidates, allow_pickle=False)
    count, step = len(job.asked.truth), queries_at_once(job.scorer)
    size = max(1, -(-count // (BLOCKS * step))) * step
    return [
        Block(str(questions), str(system), candidates, start, min(start + size, count), ks)
        for start in range(0, count, size)
    ]


@lru_cache(maxsize=2)
def _questions(folder: str) -> Questions:
    return open_questions(Path(folder))


@lru_cache(maxsize=1)
def _system(place: str) -> Scorer:
    """Opened once a worker: the blocks of a system follow each other."""
    from etalage.runtime.opening import open_scorer

    path = Path(place)
    if path.is_dir():
        return open_scorer(path, verify=False)  # whoever cut the blocks has opened it
    found: Scorer = pickle.loads(path.read_bytes())  # noqa: S301 - our own, of a moment ago
    return found


# -- questions as files ------------------------------------------------------------------------


def save_questions(asked: Questions, folder: Path) -> None:
    """Write the questions into a new folder, as arrays that `open_questions` maps."""
    folder.mkdir()
    features = asked.queries.features
    arrays = {f"queries.{name}": getattr(asked.queries, name) for name in _QUERIES}
    arrays |= {f"seen.{name}": getattr(asked.seen, name) for name in _ACTS}
    arrays |= {"truth.items": asked.items}
    arrays |= {"truth.lengths": np.array([len(right) for right in asked.truth], np.int64)}
    columns: dict[str, str] = {}
    for kind in ("sparse", "bags", "dense"):
        for name, array in getattr(features, kind).items():
            columns[f"{kind}/{name}"] = place = f"features.{len(columns)}"
            arrays[place] = array
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
    said: dict[str, Any] = {"part": asked.part, "dropped": asked.dropped}
    said |= {"features": columns, "sizes": features.sizes}
    (folder / _DESCRIPTION).write_text(json.dumps(said), encoding="utf-8")


def open_questions(folder: Path) -> Questions:
    """What `save_questions` wrote. Of `seen`, users and items alone: it says what is not shown again."""
    said = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))

    def array(name: str) -> np.ndarray:
        return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    kinds: dict[str, dict[str, np.ndarray]] = {"sparse": {}, "bags": {}, "dense": {}}
    for column, place in said["features"].items():
        kind, _, name = column.partition("/")
        kinds[kind][name] = array(place)
    columns = {name: array(f"queries.{name}") for name in _QUERIES}
    queries = Queries(**columns, features=Features(**kinds, sizes=said["sizes"]))
    items, lengths = array("truth.items"), array("truth.lengths")
    truth = np.split(np.asarray(items), np.cumsum(lengths)[:-1]) if len(lengths) else []
    users, had = (array(f"seen.{name}") for name in _ACTS)
    nothing = np.empty(0)
    seen = Interactions(users, had, nothing, nothing, nothing, nothing)
    return Questions(said["part"], queries, truth, seen, said["dropped"])
