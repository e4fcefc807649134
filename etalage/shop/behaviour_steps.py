"""Training and judging the models of behaviour: retrievers, and the ranker of what they retrieve."""

import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from etalage.errors import ConfigError, NothingToPublish, TableMissing, TooLittleData
from etalage.shop import stream_steps
from etalage.shop.progress import meter_steps
from etalage.shop.search_steps import searched
from etalage.shop.source_steps import rows_of_vectors, with_sources
from etalage.shop.transfer_steps import Taken, find_start, tell_shared_users
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from etalage.features.behaviour import BehaviourSet
    from etalage.features.behaviour_stream import BehaviourStream
    from etalage.features.examples import Examples
    from etalage.features.pairs import PairEncoder
    from etalage.models.dssm import VectorRows
    from etalage.models.recipe import Recipe, Trained
    from etalage.runtime.scorer import ExportScorer
    from etalage.training.export_source import Source

log = logging.getLogger(__name__)

TABLES = ("items", "users", "interactions", "classifications")
QUOTA = 200
"""Candidates of a retriever that [funnel] gives no quota."""
EXAMPLES_OF = {"rank": "train", "validation": "validation", "test": "test"}
"""Part of the behaviour → part of a ranker's examples: it learns from acts that no retriever learned from."""
QUERIES_AT_ONCE = 512


@dataclass(frozen=True)
class Behaviour:
    """The shop's behaviour, split as [behaviour] says, and the versions of the tables."""

    data: "BehaviourSet"
    versions: dict[str, int]
    titles: dict[str, str]
    stream: "BehaviourStream | None" = None
    """Where the interactions of `data` lie in files, what a model learns from."""


def behaviour(
    workspace: Workspace, whole: bool = False, streamed_by: Any = None, training: str | None = None
) -> Behaviour:
    """Read it. Items have the category that the classifier told beside the merchant's own, and nothing of
    what other models embed of them (source_steps.py). whole: nothing is held back. streamed_by: the config of
    a model that reads the interactions as a stream (stream_steps.py); None: they come into memory.
    training: the model that is trained on it, by name.

    Raises TableMissing, TooLittleData.
    """
    from etalage.bundle.contents import classifications, with_classified
    from etalage.datasets.published import negative_items, with_negatives
    from etalage.features.behaviour_set import behaviour_set, describe_facts, describe_taken_again
    from etalage.lake.unknown_ids import unknown_in_tables

    at = {name: v for name, v in workspace.lake.versions().items() if name in TABLES}
    if "interactions" not in at:
        raise TableMissing("there are no interactions: `etalage ingest FILE interactions` first")

    def table(name: str) -> "pa.Table | None":
        return workspace.lake.table(name).read(at[name]) if name in at else None

    named = workspace.config.behaviour.negatives
    negatives = None if named is None else workspace.folder / named
    found = None
    with workspace.bar("read what users did", None):
        items, users = table("items"), table("users")
        if items is not None:
            items = with_classified(items, classifications(workspace.lake, at, items["item_id"]))
        more_items = () if negatives is None or items is not None else negative_items(negatives)
        if streamed_by is not None:
            found = stream_steps.stream(workspace, streamed_by, at, items, users, more_items, whole)
            data = found.data
        else:
            data = behaviour_set(
                table("interactions"), items, users, workspace.config.behaviour,
                funnel=workspace.config.funnel, whole=whole, more_items=more_items,
            )  # fmt: skip
            if negatives is not None and not whole:
                data = with_negatives(data, negatives)
    unknown = unknown_in_tables(workspace.lake, at["interactions"])
    data = replace(data, facts={**data.facts, "unknown_ids": unknown})
    for line in (*describe_facts(data.facts), *describe_taken_again(data, training)):
        log.warning("%s", line)
    titles = {}
    if items is not None:
        titles = {
            i: t for i, t in zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True) if t
        }
    return Behaviour(data, at, titles, None if found is None else found.with_data(data))


def for_training(workspace: Workspace, recipe: "Recipe[Any]", config: Any, whole: bool = False) -> Behaviour:
    """The shop's behaviour as this model is to learn from it: as a stream where its config says so. whole:
    nothing is held back. Raises as `behaviour`."""
    streamed = recipe.data == "behaviour" and stream_steps.streams(workspace, config)
    return behaviour(workspace, whole, streamed_by=config if streamed else None, training=recipe.name)


@dataclass(frozen=True)
class KindFacts:
    """What one kind of interaction is taken for."""

    kind: str
    count: int
    meaning: str
    weight: float
    has: bool


def kinds(workspace: Workspace) -> list[KindFacts]:
    """The kinds of the table of interactions, the most frequent first, as [behaviour] and their names say."""
    from collections import Counter

    from etalage.features.history import BehaviourRule
    from etalage.kinds import known_meaning

    rule = BehaviourRule(workspace.config.behaviour, workspace.config.funnel)
    table = workspace.lake.table("interactions")
    counts: Counter[str] = Counter()
    if table.exists():
        for batch in table.batches(None, columns=["kind"], rows=1 << 16):
            for one in batch["kind"].value_counts().to_pylist():
                counts[one["values"] or ""] += one["counts"]
    return [
        KindFacts(kind, count, known_meaning(kind), rule.weight(kind), rule.has(kind))
        for kind, count in counts.most_common()
    ]


@dataclass(frozen=True)
class Learned:
    """What a model of behaviour learns from, and what its export keeps beside it."""

    config: Any
    """With where its weights start, if it starts from another training."""
    data: "BehaviourSet | BehaviourStream | Examples | VectorRows"
    source: "Source"
    inputs: dict[str, str]
    """What `data` holds beside the tables: the hashes of other models and files, by name."""
    taken: Taken | None


def learned(workspace: Workspace, recipe: "Recipe[Any]", config: Any, whole: Behaviour) -> Learned:
    """The shop's behaviour as `recipe` learns from it: with the embeddings of its feature sources, or the
    rows of a file, or, for a ranker, what the shop's retrievers find.

    Raises ConfigError, TooLittleData.
    """
    from etalage.features.behaviour import BehaviourSet
    from etalage.training.export_source import Source

    if recipe.role != "closed_form" and len({w for w in whole.data.weights[1:] if w > 0}) > 1:
        log.warning(
            "%s takes each positive alike: [behaviour] weights weigh in closed-form models", recipe.name
        )
    data: BehaviourSet | BehaviourStream | Examples | VectorRows = whole.data
    source, inputs = Source.of(whole.data), {}
    taken = None
    if (start := find_start(workspace, recipe, config)) is not None:
        config, taken = config.model_copy(update={"pretrained": str(start.weights)}), Taken(start)
        tell_shared_users(taken, whole.data)
    if hasattr(config, "feature_sources"):
        data = with_features = with_sources(workspace, whole.data, recipe.name, config, taken)
        source, inputs = Source.of(with_features), dict(with_features.feature_sources)
        if getattr(config, "rows", None) is not None:
            dense = with_features.item_features.dense
            widths = tuple(dense[name].shape[1] for name in config.feature_sources)
            data, files = rows_of_vectors(workspace, config, widths)
            inputs |= files
    if start is not None:
        inputs["pretrained"] = start.model_hash
    if recipe.data == "examples":
        data, pairs = made = examples(workspace, whole)
        sizes = dict(zip(made[0].sparse_names, made[0].sizes, strict=True))
        source = Source.of(whole.data, pairs, sizes)
    if whole.stream is not None and isinstance(data, BehaviourSet):
        data = whole.stream.with_data(data)
    return Learned(config, data, source, inputs, taken)


def train(
    workspace: Workspace,
    recipe: "Recipe[Any]",
    config: Any,
    fresh: bool,
    known: Behaviour | None = None,
    exports: Path | None = None,
) -> "tuple[Trained[Any], Path]":
    """Train and export, into the shop's exports or `exports`; a ranker of examples learns from what the
    shop's retrievers find."""
    from etalage.training.run import train_behaviour

    whole = known or for_training(workspace, recipe, config)
    given = learned(workspace, recipe, config, whole)
    chosen, search = searched(workspace, recipe, given.config, whole.data, given.source)
    given = replace(given, config=chosen)
    with workspace.disk(), workspace.bar(f"train {recipe.name}", None) as meter:
        return train_behaviour(
            recipe,
            given.config,
            given.data,
            runs=workspace.runs,
            exports=exports or workspace.exports(recipe.name),
            source=given.source,
            versions=whole.versions,
            learned=(whole.data.fingerprint(), given.inputs) if given.inputs else None,
            start=None if given.taken is None else given.taken.facts,
            behaviour=workspace.config.behaviour.model_dump(mode="json"),
            search=None if search is None else asdict(search),
            fresh=fresh,
            progress=meter_steps(meter, f"train {recipe.name}"),
            engine=workspace.engine,
            blocks=workspace.array_loop,
            tracked=workspace.tracked,
        )


def retrievers(workspace: Workspace, data: "BehaviourSet") -> "dict[str, ExportScorer]":
    """The retrievers of [funnel], opened: those named there, else every one that was trained on this data.

    Raises NothingToPublish (one that is named was not trained), ConfigError (trained on other data).
    """
    from etalage.runtime.export_files import newest_export, read_facts
    from etalage.runtime.opening import open_scorer

    named = workspace.config.funnel.retrievers
    models = workspace.models.listed()
    found: dict[str, ExportScorer] = {}
    for name in named or models:
        workspace.models.known(name, where="[funnel] retrievers")
        if models[name].data != "behaviour" or not models[name].retrieves:
            continue  # named may be the model of photos: it finds nothing by behaviour
        try:
            export = newest_export(workspace.exports(name))
        except NothingToPublish:
            if name in named:
                raise
            continue
        if read_facts(export).get("data") == data.fingerprint():
            found[name] = open_scorer(export)
        elif name in named:
            raise ConfigError(
                f"{name} was trained on other data than the tables hold now: `etalage train {name}`"
            )
    return found


def examples(workspace: Workspace, whole: Behaviour) -> "tuple[Examples, PairEncoder]":
    """What the retrievers find for the shoppers of each later part, and which of it they then took.

    Raises TooLittleData: no part `rank`, no retriever, nothing right among the candidates.
    """
    from etalage.features.examples import Examples
    from etalage.features.pairs import PairEncoder, ranking_examples
    from etalage.funnel.candidates import Excluded, candidates

    data = whole.data
    if not len(data.part("rank")):
        raise TooLittleData(
            "a ranker learns from the part `rank`: set [behaviour] rank = 0.1, train the retrievers"
        )
    scorers = retrievers(workspace, data)
    if not scorers:
        raise TooLittleData("no retriever of this data: `etalage train popularity` (and others) first")
    ways = [scorer.retriever() for scorer in scorers.values()]
    quotas = {name: workspace.config.funnel.retrievers.get(name, QUOTA) for name in scorers}
    pairs = PairEncoder.fit(data.part("train"), len(data.items), data.item_features, retrievers=list(scorers))
    parts = []
    for part, into in EXAMPLES_OF.items():
        queries, truth = data.queries(part)
        seen = data.seen(part)
        with workspace.bar(f"candidates of {part}", len(queries)) as meter:
            for start in range(0, len(queries), QUERIES_AT_ONCE):
                some = queries.block(start, min(start + QUERIES_AT_ONCE, len(queries)))
                begin, end = (np.searchsorted(seen.users, some.users + n) for n in (0, 1))
                had = Excluded([seen.items[a:b] for a, b in zip(begin, end, strict=True)], len(data.items))
                found = candidates(ways, some, quotas, None, had)
                made = ranking_examples(
                    some,
                    truth[start : start + len(some)],
                    found.rows,
                    found.scores,
                    encoder=pairs,
                    item_features=data.item_features,
                    users=len(data.users),
                    part=into,
                    ids=False,
                )
                parts.append(made)
                meter(len(some))
    whole_of_it = Examples.joined(*parts)
    if not len(whole_of_it.rows("train")):
        raise TooLittleData("nothing that shoppers took in `rank` is among the candidates: raise the quotas")
    return whole_of_it, pairs


def yardstick(workspace: Workspace, name: str, whole: Behaviour, exports: Path) -> Path:
    """A closed-form model of this data to compare others with, exported into `exports`."""
    from etalage.training.run import resolve

    recipe = workspace.models.find(name)
    config = resolve(recipe, workspace.config.models.get(name, {}), {})
    return train(workspace, recipe, config, False, whole, exports)[1]
