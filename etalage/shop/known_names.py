"""Names in shop.toml: of models, slices, metrics, attributes. One that means nothing is refused by whichever
command reads the settings first, and not only where it would have acted: a typo in `[funnel] ranker` would
else publish a bundle without a ranker.

What can be told from the settings alone is told when they are read, without loading any model. What an item
must have is told where the items are read.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from etalage.config import (
    BehaviourConfig,
    EvaluateConfig,
    FunnelConfig,
    IndexConfig,
    OrderConfig,
    ShopConfig,
    suggestion,
)
from etalage.errors import ConfigError
from etalage.evaluation.names import CATEGORY, OF_LABELS, OF_RANKS, WITHOUT_K, cut_of, slice_names
from etalage.features.sources import PHOTO, TEXT
from etalage.lake.attributes import require_attribute
from etalage.models.own import Models
from etalage.models.recipe import Listed
from etalage.models.setting_names import setting_names

if TYPE_CHECKING:
    import pyarrow as pa

ATTRIBUTES = "attributes."


def require_known_names(
    config: ShopConfig, where: str, own: Models, published: Callable[[], Collection[str]] = tuple
) -> None:
    """Raises ConfigError with `where`, every name that means nothing or cannot act, and what to write.

    own: the models that there are. published: those of the current bundle, which a machine that only serves
    has without their files; asked for where a name is unknown otherwise. Of such a name, and of a file that
    cannot be read, nothing is asked here.
    """
    models, unread = own.readable()
    if not _models_named(config) <= {*models, *unread}:
        unread |= set(published())
    known = {*models, *unread}
    wrong = [
        *(f"[models.{name}]: no model {name!r}; {suggestion(name, models)}" for name in config.models
          if name not in known),
        *_of_models(config, models),
        *_of_sources(config.models, own, unread),
        *_of_funnel(config.funnel, models, unread),
        *_of_evaluation(config.evaluate, config.behaviour, models, unread),
        *_no_train(config),
        *_of_index(config.index),
        *_idle(config),
    ]  # fmt: skip
    if wrong:
        raise ConfigError("\n".join(f"{where}: {one}" for one in wrong))


def _models_named(config: ShopConfig) -> set[str]:
    """Every model that the settings name."""
    ranker = () if config.funnel.ranker is None else (config.funnel.ranker,)
    return {*config.models, *config.funnel.retrievers, *ranker, *config.evaluate.slices}


def require_values(order: OrderConfig, items: "pa.Table") -> None:
    """What `[funnel.order] value_of` names, some item has. Raises ConfigError with the nearest attribute.

    items: the table, with its columns `attributes` and `price`.
    """
    if not order.value or not items.num_rows:
        return
    setting = f"[funnel.order] value_of = {order.value_of!r}"
    if order.value_of != "price":
        key = order.value_of.removeprefix(ATTRIBUTES)
        require_attribute(items["attributes"].to_pylist(), key, setting, numbers=True)
    elif items["price"].null_count == items.num_rows:
        raise ConfigError(
            f"{setting}: none of the {items.num_rows:,} items has a price; load prices, or set value = 0"
        )


# -- from the settings alone -------------------------------------------------------------------


def _of_models(config: ShopConfig, models: dict[str, Listed]) -> Iterator[str]:
    for name, table in config.models.items():
        names = setting_names(name) if table and name in models and not models[name].own else None
        for key in table:
            if names is not None and (trouble := names.trouble(key)):
                yield f"[models.{name}]: {trouble}"


def _of_sources(
    tables: Mapping[str, Mapping[str, Any]], models: Models, unread: Collection[str]
) -> Iterator[str]:
    for model, settings in tables.items():
        named = settings.get("feature_sources")
        there = [PHOTO, TEXT, *models.feature_sources(model)]
        listed_names = [named] if isinstance(named, str) else named if isinstance(named, list | tuple) else ()
        for name in listed_names:  # what is no name at all, the model's config refuses
            if name not in there and name not in unread:
                yield (
                    f"[models.{model}] feature_sources names {name!r}: no feature of items and no model that "
                    f"embeds them; {suggestion(str(name), there)}"
                )


def _of_funnel(funnel: FunnelConfig, models: dict[str, Listed], unread: Collection[str]) -> Iterator[str]:
    retrievers = [name for name, one in models.items() if one.retrieves]
    rankers = [name for name, one in models.items() if one.role == "ranker"]
    for name in (one for one in funnel.retrievers if one not in unread):
        yield from _of_role("[funnel] retrievers", name, retrievers, "retriever", models)
    if funnel.ranker is not None and funnel.ranker not in unread:
        yield from _of_role("[funnel] ranker", funnel.ranker, rankers, "ranker", models)
    for setting, wanted, data, role in (
        ("photos", funnel.photos, "photos", "photo embedder"),
        ("classifier", funnel.classifier, "categories", "classifier"),
    ):
        good = [name for name, one in models.items() if one.data == data]
        if wanted is not None and wanted not in unread:
            yield from _of_role(f"[funnel] {setting}", wanted, good, role, models)
    if funnel.enough > funnel.history:
        yield (
            f"[funnel] enough = {funnel.enough}: of a shopper's acts no more than history = {funnel.history} "
            "are looked at, so that the deep models never speak; raise history, or lower enough"
        )
    of = funnel.order.value_of
    if of != "price" and not (of.startswith(ATTRIBUTES) and of != ATTRIBUTES):
        near = suggestion(of, ["price"])
        said = near if near.startswith("did") else f"an attribute is written {ATTRIBUTES + of!r}"
        yield f"[funnel.order] value_of = {of!r}: expected 'price' or 'attributes.<key>'; {said}"
    elif "value_of" in funnel.order.model_fields_set and not funnel.order.value:
        yield f"[funnel.order] value_of = {of!r} weighs nothing with value = 0: set value, or leave it out"


def _of_role(setting: str, name: str, good: list[str], role: str, models: dict[str, Listed]) -> Iterator[str]:
    if name in good:
        return
    if name not in models:
        yield f"{setting}: no {role} {name!r}; {suggestion(name, good)}"
        return
    one = models[name]
    is_a = "retriever" if one.retrieves else one.role
    there = {"retriever": "; [funnel] retrievers is its place", "ranker": "; [funnel] ranker is its place"}
    yield f"{setting}: {name} is a {is_a}, not a {role}{there.get(is_a, '')}; each {role}: {', '.join(good)}"


def _of_evaluation(
    evaluate: EvaluateConfig,
    behaviour: BehaviourConfig,
    models: dict[str, Listed],
    unread: Collection[str],
) -> Iterator[str]:
    judged = [name for name, one in models.items() if one.data in ("behaviour", "examples")]
    for name, slice in evaluate.slices.items():
        if name in unread:
            continue
        if name not in judged:
            yield f"[evaluate] slices: no model of behaviour {name!r}; {suggestion(name, judged)}"
        elif trouble := _slice_trouble(slice, models[name].role, behaviour.repeat):
            yield f"[evaluate] slices: {name} = {slice!r}: {trouble}"
    yield from _of_metric("retrieval_metric", evaluate.retrieval_metric, OF_RANKS, WITHOUT_K)
    yield from _of_metric("ranking_metric", evaluate.ranking_metric, OF_RANKS, WITHOUT_K)
    yield from _of_metric("metric", evaluate.metric, OF_LABELS, ("mrr",))


def _slice_trouble(slice: str, role: str, repeat: bool) -> str | None:
    there = slice_names(role, repeat)
    if slice in there or (slice.startswith(CATEGORY) and slice != CATEGORY):
        return None
    if slice in slice_names(role, repeat=True):
        return "it is there only with [behaviour] repeat = true"
    if slice in slice_names("embedder", repeat):
        return f"a {role} is not judged there: it orders what retrievers found in the whole catalogue"
    return f"no such slice; {suggestion(slice, there, f'there are {CATEGORY}NAME, and')}"


def _of_metric(setting: str, metric: str, with_k: tuple[str, ...], without: tuple[str, ...]) -> Iterator[str]:
    name, k = cut_of(metric)
    if (k is None and name in without) or (k and name in with_k):
        return
    there = [*(f"{one}_at_{k or 10}" for one in with_k), *without]
    yield f"[evaluate] {setting} = {metric!r}: no such metric; {suggestion(metric, there)}"


def _no_train(config: ShopConfig) -> Iterator[str]:
    """Shares of a split that leave nothing to learn from."""
    behaviour, split = config.behaviour, config.split
    shares = {
        "behaviour": {"rank": behaviour.rank, "validation": behaviour.validation, "test": behaviour.test},
        "split": {"validation": split.validation, "test": split.test},
    }
    for table, parts in shares.items():
        if (table == "split" or behaviour.split in ("time", "random")) and sum(parts.values()) >= 1:
            said = ", ".join(f"{name} = {share:g}" for name, share in parts.items())
            yield f"[{table}] {said}: nothing is left to learn from; their sum has to be below 1"


def _of_index(index: IndexConfig) -> Iterator[str]:
    if index.lists is not None and index.probes is not None and index.probes > index.lists:
        yield (
            f"[index] probes = {index.probes}: a search reads no more lists than there are, and lists = "
            f"{index.lists}; lower probes, or raise lists"
        )


def _idle(config: ShopConfig) -> Iterator[str]:
    """Settings that were written down and change nothing as the others stand."""
    behaviour, split, index, taxonomy = config.behaviour, config.split, config.index, config.taxonomy
    photos = config.photos
    idle = [
        ("[behaviour]", behaviour, ("last_n",), behaviour.split != "last_n", 'split = "last_n"'),
        ("[behaviour]", behaviour, ("seed",), behaviour.split not in ("random", "published"),
         'split = "random" or "published"'),
        ("[behaviour]", behaviour, ("negatives",), behaviour.split != "published", 'split = "published"'),
        ("[behaviour]", behaviour, ("test",), behaviour.split not in ("time", "random"),
         'split = "time" or "random"'),
        ("[behaviour]", behaviour, ("validation",), behaviour.split in ("leave_one_out", "published"),
         "another split"),
        ("[split]", split, ("phash_distance", "similarity"), not split.near_duplicates,
         "near_duplicates = true"),
        ("[split]", split, ("burst_reach",), split.burst is None, "burst"),
        ("[index]", index, ("lists", "probes"), index.kind == "exact", 'kind = "ivf_flat" or "auto"'),
        ("[publish]", config.publish, ("min_recall",), index.kind == "exact",
         'an index that may miss something, [index] kind = "ivf_flat" or "auto"'),
        ("[photos]", photos, ("side", "quality"), photos.format == "keep", 'format = "jpeg"'),
        ("[taxonomy]", taxonomy, tuple(sorted(taxonomy.model_fields_set - {"file"})), taxonomy.file is None,
         "file"),
    ]  # fmt: skip
    for table, settings, keys, does_nothing, needs in idle:
        for key in keys:
            if does_nothing and key in settings.model_fields_set:
                yield f"{table} {key} does nothing here: it needs {needs}; set that, or leave {key} out"
