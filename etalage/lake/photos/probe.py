"""`etalage photos probe`: a seeded sample of the links first. What fails, of which merchant; and what all
would cost.

    n links of the sample   L links in all   H hosts

Nothing is written to the tables.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import PhotosConfig
from etalage.engine.contract import Engine
from etalage.engine.local import LOCAL
from etalage.lake.attributes import require_attribute
from etalage.lake.delta import Lake
from etalage.lake.photos.estimate import Cost, Share, estimate, wilson
from etalage.lake.photos.fetch import run_shards
from etalage.lake.photos.links import ASKED, RESULT
from etalage.lake.photos.plan import FetchPlan, plan_of, require_contact
from etalage.lake.photos.spool import read_results
from etalage.lake.photos.states import State

NO_MERCHANT = "(none)"


@dataclass(frozen=True)
class Merchant:
    """The links of one merchant, or of all: how many, how many were asked for, and how those ended."""

    name: str
    links: int
    asked: int
    states: Mapping[str, Share]

    @property
    def failed(self) -> Share:
        """All that is not ok, with its 95% interval."""
        ok = self.states[State.ok].count if State.ok in self.states else 0
        return wilson(self.asked - ok, self.asked)


@dataclass(frozen=True)
class Probe:
    """What a probe found. `merchants`: the ones with the most links first; `whole`: all of them together."""

    seed: int
    links: int
    asked: int
    whole: Merchant
    merchants: tuple[Merchant, ...]
    cost: Cost
    reasons: Mapping[str, Mapping[str, int]]
    """State → what happened, the most frequent first; at most five."""


def probe(
    lake: Lake,
    config: PhotosConfig,
    *,
    count: int = 1000,
    seed: int = 0,
    started: Callable[[int], None] | None = None,
    progress: Callable[[int], None] | None = None,
    engine: Engine = LOCAL,
    scratch: Path | None = None,
) -> Probe:
    """Ask for `count` links (all, where there are fewer), the same ones for the same seed.

    scratch: an existing folder that every worker sees, for files that are gone when it ends; None: this
    machine's own.
    Raises ConfigError as `fetch`; DataError, TableDamaged: the tables cannot be read.
    """
    plan = plan_of(lake)
    require_contact(config, plan.hosts)
    names = merchants_of(lake, plan, config.merchant)
    chosen = sample(plan.links["url"].to_pylist(), count, seed)
    asked = plan.links.take(pa.array(chosen, pa.int64()))
    if started is not None:
        started(len(chosen))
    results = _results(asked, config, progress, engine, scratch)
    return _summary(plan, names, results, config, seed)


def sample(urls: list[str], count: int, seed: int) -> list[int]:
    """The rows of `count` urls that a hash puts first: a url that is added changes one of them at most."""
    order = sorted((hashlib.blake2b(f"{seed}:{url}".encode(), digest_size=8).digest(), row)
                   for row, url in enumerate(urls))  # fmt: skip
    return sorted(row for _, row in order[:count])


def _results(
    asked: pa.Table,
    config: PhotosConfig,
    progress: Callable[[int], None] | None,
    engine: Engine,
    scratch: Path | None,
) -> pa.Table:
    """RESULT rows without photos."""
    given = {name: asked[name] for name in ("url", "host", "owners")}
    blank = pa.Table.from_pylist([], schema=ASKED)
    links = pa.table(
        [given[f.name] if f.name in given else _empty(f.type, asked.num_rows) for f in blank.schema],
        schema=ASKED,
    ).sort_by("host")
    if not links.num_rows:
        return RESULT.empty_table()
    with tempfile.TemporaryDirectory(prefix="etalage-probe-", dir=scratch) as made:
        run_shards(links, config, Path(made), engine, photos=False)
        if progress is not None:
            progress(links.num_rows)
        files = sorted(Path(made).glob("[0-9]*.arrow"))
        return pa.concat_tables([read_results(file) for file in files])


def _empty(kind: pa.DataType, count: int) -> pa.Array:
    if pa.types.is_boolean(kind):
        return pa.repeat(pa.scalar(False), count)
    return pa.repeat(pa.scalar(0, kind), count) if pa.types.is_integer(kind) else pa.nulls(count, kind)


def merchants_of(lake: Lake, plan: FetchPlan, attribute: str | None) -> list[str]:
    """Whose each link of the plan is: the attribute of its first item, or its host.

    Raises ConfigError: no item has the attribute.
    """
    if attribute is None:
        return [host or NO_MERCHANT for host in plan.links["host"].to_pylist()]
    items = lake.table("items").read(columns=["item_id", "attributes"])
    require_attribute(items["attributes"].to_pylist(), attribute, f"[photos] merchant = {attribute!r}")
    said = dict(zip(items["item_id"].to_pylist(), items["attributes"].to_pylist(), strict=True))
    names = []
    for owners in plan.links["owners"].to_pylist():
        found = json.loads(said.get(owners[0]) or "{}")
        names.append(found.get(attribute) or NO_MERCHANT)
    return names


def _summary(plan: FetchPlan, names: list[str], results: pa.Table, config: PhotosConfig, seed: int) -> Probe:
    of_url = dict(zip(plan.links["url"].to_pylist(), names, strict=True))
    whose = np.array([of_url[url] for url in results["url"].to_pylist()], dtype=object)
    states = np.array(results["status"].to_pylist(), dtype=object)
    sizes = dict(zip(*np.unique(np.array(names, dtype=object), return_counts=True), strict=True))
    merchants = [
        _merchant(name, int(size), states[whose == name])
        for name, size in sorted(sizes.items(), key=lambda pair: (-pair[1], pair[0]))
    ]
    return Probe(
        seed,
        plan.links.num_rows,
        results.num_rows,
        _merchant("all", plan.links.num_rows, states),
        tuple(merchants),
        estimate(results, plan.links["host"], config, seed),
        _reasons(results),
    )


def _merchant(name: str, links: int, states: np.ndarray) -> Merchant:
    kinds, counts = np.unique(states, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    shares = {str(kinds[n]): wilson(int(counts[n]), len(states)) for n in order}
    return Merchant(name, links, len(states), shares)


def _reasons(results: pa.Table) -> dict[str, dict[str, int]]:
    failed = results.filter(pc.is_valid(results["reason"]))
    grouped = failed.group_by(["status", "reason"], use_threads=False).aggregate([([], "count_all")])
    told: dict[str, dict[str, int]] = {}
    for row in sorted(grouped.to_pylist(), key=lambda row: (-row["count_all"], row["reason"])):
        of_state = told.setdefault(row["status"], {})
        if len(of_state) < 5:
            of_state[row["reason"]] = row["count_all"]
    return told
