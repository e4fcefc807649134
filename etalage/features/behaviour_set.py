"""Tables of the shop → BehaviourSet: which acts count, which of them are positive, who and what has a row.

    M acts   N items   U users

Repeated pairs (user, item): all acts of train are kept, in the order of their time, so whoever bought a thing
twice has it twice in their history. The later parts hold none of those pairs, unless shoppers take the same
again (features/split_interactions.py). Models that count pairs say how.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import BehaviourConfig, FunnelConfig, suggestion
from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import NEVER, PARTS, BehaviourSet, Interactions
from etalage.features.encoder import Encoder, Features
from etalage.features.history import BehaviourRule
from etalage.features.interaction_tables import judged_table
from etalage.features.split_interactions import as_published, parted
from etalage.features.vocabulary import Vocabulary
from etalage.kinds import known_meaning, plain_kind
from etalage.lake.schema import INSTANT

POSITIVE = "positive"
"""The column, while a set is made, of what each act was judged to be among all acts of the table."""
_NOT_COUNTED = {
    "undone": "it takes something back",
    "shown": "being shown, or a search, is no interest; [behaviour] weights counts it all the same",
}


def behaviour_set(
    interactions: pa.Table,
    items: pa.Table | None,
    users: pa.Table | None,
    config: BehaviourConfig,
    *,
    funnel: FunnelConfig | None = None,
    whole: bool = False,
    more_items: Sequence[str] = (),
) -> BehaviourSet:
    """The shop's behaviour as arrays, split as `config` says. Tables as in lake/schema.py.

    items: the catalogue; every item of it has a row, also one that nobody touched. Acts on others are left
    out and counted. None: the items of the acts. users: shoppers with attributes; who acts has a row anyway.

    Which acts are positive, explicit negatives or nothing is said by features/history.py. Users of more than
    `max_user` different items are left out, then `min_user` and `min_item` are applied until both hold, all
    before the split; an item that has too few acts keeps its row, as a cold one. Acts of one time follow by
    interaction_id.

    funnel: what is not shown again, and how many acts a question looks at, when models are judged: as it is
    served. None: all that is judged is not shown again, and every act is looked at. whole: all acts are
    `train`, for models that are judged already. more_items: ids that have a row too, where there is no
    catalogue, such as published negatives.

    Raises TooLittleData: nothing to learn from. ConfigError: a kind in [behaviour] that no act has; a
    published split, but no act says its part, or one that is none.
    """
    facts: dict[str, Any] = {"read": interactions.num_rows, "repeat": config.repeat, "split": config.split}
    rule = BehaviourRule(config, funnel or FunnelConfig())
    acts, held = _counting(interactions, rule, facts)
    if config.split == "published" and not whole:
        acts = _of_parts(acts, facts)
    elif not whole:
        facts["parts_unused"] = acts.num_rows - acts["part"].null_count
    if items is None:
        catalogue = Vocabulary.fit(
            pa.chunked_array([*acts["item_id"].chunks, pa.array(more_items, pa.string())])
        )
    else:
        catalogue = Vocabulary.fit(items["item_id"])
    known = pc.fill_null(pc.greater(pa.array(catalogue.rows(acts["item_id"])), 0), False)
    acts = acts.filter(known)
    facts["of_unknown_items"] = len(known) - acts.num_rows
    acts = _without_heavy(acts, config.max_user, facts)
    before = acts.num_rows
    acts = _dense_core(acts, config.min_user, config.min_item)
    facts["of_rare"] = before - acts.num_rows
    if not acts.num_rows:
        raise TooLittleData(_nothing(facts))

    shoppers = Vocabulary.fit(_both(acts["user_id"], users))
    kinds = tuple(sorted(pc.unique(acts["kind"].drop_null()).to_pylist()))
    plain_targets = {plain_kind(kind) for kind in config.targets}
    targets = tuple(
        n for n, kind in enumerate(kinds, 1) if kind in config.targets or plain_kind(kind) in plain_targets
    )
    columns = _columns(acts, shoppers, catalogue, kinds)
    if whole:
        parts = {"train": columns, **{name: Interactions.none() for name in PARTS[1:]}}
    elif config.split == "published":
        said = {name: acts.filter(pc.equal(acts["part"], name)) for name in PARTS}
        each = {name: _columns(some, shoppers, catalogue, kinds) for name, some in said.items()}
        parts = as_published(each, config.rank, config.seed)
    else:
        parts = parted(columns, config, targets)
    train = parts["train"]
    if not len(train.positive):
        raise TooLittleData(
            f"none of the {len(columns)} interactions that count is a positive one to learn from "
            f"(train has {len(train)}); see [behaviour] positive_from, weights and split"
        )
    facts |= {name: len(part) for name, part in parts.items()}
    facts["repeated"] = len(columns) - sum(map(len, parts.values()))
    facts["weights"] = {kind: rule.weight(kind) for kind in kinds}
    facts["has"] = sorted(kind for kind in kinds if rule.has(kind))
    off = tuple(n for n, kind in enumerate(("", *kinds)) if rule.drops(kind))

    item_encoder, item_features = _encoded(items, "item_id", catalogue, train.items)
    user_encoder, user_features = _encoded(users, "user_id", shoppers, train.users)
    return BehaviourSet(
        shoppers, catalogue, kinds, parts, item_features, user_features, item_encoder, user_encoder,
        facts=facts, targets=targets, weights=tuple(rule.weight(kind) for kind in ("", *kinds)),
        own_split=config.split != "published", off_slate=None if funnel is None else off,
        opinions=tuple(n for n, kind in enumerate(("", *kinds)) if rule.of(kind).opinion),
        held=_columns(held, shoppers, catalogue, kinds, only_known=True),
        history=None if funnel is None else funnel.history,
    )  # fmt: skip


_TOLD = {
    "taken_back": "{taken_back:,} interactions were taken back by a later one (refund, remove_from_cart, a "
    "worse rating, …) and teach nothing; what was returned is not shown again",
    "idle": "{idle:,} interactions say nothing by their value, below 0 (a return) or a like of 0, and are "
    "not counted",
    "of_rare": "{of_rare:,} interactions of users or items with fewer than [behaviour] min_user or min_item "
    "are left out",
    "of_crawlers": "{of_crawlers:,} interactions of crawlers are left out: users who touched more items "
    "than [behaviour] max_user, for example {crawlers[0]!r}",
    "without_part": "{without_part:,} interactions are of no part of the published split and are left out "
    "where models are judged: `etalage ingest FILE interactions --part ...`, or set another split",
    "parts_unused": "{parts_unused:,} interactions say their part of a published split, which is not looked "
    'at: [behaviour] split = "{split}"; set "published" to use theirs',
    "unknown_negatives": "{unknown_negatives:,} of the published negatives are of items that the catalogue "
    "lacks, and are left out",
    "idle_negatives": "{idle_negatives:,} lines of the published negatives are of users who are not asked: "
    "what they took is not there to be found",
}
"""One of `BehaviourSet.facts` that is not 0 → what a shop should know then."""


def describe_facts(facts: Mapping[str, Any]) -> list[str]:
    """What a shop should know of `BehaviourSet.facts`: acts that were left out, or mean less than thought."""
    lines = []
    if facts.get("nobody_has"):
        kinds = ", ".join(
            f"{kind or '(none)'} ({count:,})" for kind, count in _most_first(facts["nobody_has"])
        )
        lines.append(
            f"no interaction is of a kind that means that a shopper has the item (kinds: {kinds}): what was "
            'bought may be shown again; name such kinds in shop.toml: [behaviour] has = ["..."], or say that '
            'there are none: [funnel] seen = "keep"'
        )
    reasons: dict[str, list[str]] = {}
    for kind, count in _most_first(facts.get("other_kinds", {})):
        why = _NOT_COUNTED.get(known_meaning(kind), "[behaviour] weights does not name it")
        reasons.setdefault(why, []).append(f"{kind or '(none)'} ({count:,})")
    lines += [
        f"interactions that are not counted: {', '.join(kinds)}: {why}" for why, kinds in reasons.items()
    ]
    lines += _describe_values(facts)
    lines += [text.format_map(facts) for name, text in _TOLD.items() if facts.get(name)]
    return [*lines, *facts.get("unknown_ids", ())]


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0] or ""))


def _describe_values(facts: Mapping[str, Any]) -> list[str]:
    """What kinds that nobody knows, and values of kinds, were taken for."""
    lines = []
    if facts.get("no_threshold"):
        listed = ", ".join(facts["no_threshold"])
        lines.append(
            "[behaviour] positive_from is about ratings, and no interaction is of a kind that is one (kinds: "
            f"{listed}): nothing is measured by it; say what rates, positive_from = {{play = 3}}, or load "
            'ratings as such: [ingest.interactions.constants] kind = "rating"'
        )
    if facts.get("unknown_kinds"):
        listed = ", ".join(
            f"{kind or '(none)'} ({n:,}{_between(facts.get('unknown_values', {}).get(kind))})"
            for kind, n in facts["unknown_kinds"].items()
        )
        lines.append(
            f"kinds that are not known by name count as interest, each 1: {listed}; say what they are in "
            "[ingest.interactions.values.kind], [behaviour] has or weights, or that they are known: kinds"
        )
    lines += [
        f"interactions of kind {kind} have values from {low:g} to {high:g}, and each counts as a like; say "
        "from which value on one is: [behaviour] positive_from"
        for kind, (low, high) in facts.get("stars", {}).items()
    ]
    lines += [
        f"{count:,} interactions of kind {kind or '(none)'} have a value below 0: explicit negatives"
        for kind, count in facts.get("below_zero", {}).items()
    ]
    lines += [
        f"[behaviour] positive_from is taken to be about kind {kind or '(none)'} too: {low:,} of {of:,} are "
        "explicit negatives; by kind: positive_from = {rating = 4}"
        for kind, (low, of) in facts.get("split_by_stars", {}).items()
    ]
    return lines


def _between(values: tuple[float, float] | None) -> str:
    return "" if values is None else f", values from {values[0]:g} to {values[1]:g}"


def _counting(
    interactions: pa.Table, rule: BehaviourRule, facts: dict[str, Any]
) -> tuple[pa.Table, pa.Table]:
    """The acts of kinds that count, with all columns of the schema that are used; and those of other kinds
    that keep their items off the slate."""
    count = interactions.num_rows
    wanted = {"interaction_id": pa.string(), "user_id": pa.string(), "item_id": pa.string(),
              "kind": pa.string(), "value": pa.float64(), "time": INSTANT, "part": pa.string()}  # fmt: skip
    there = set(interactions.column_names)
    acts = pa.table(
        {n: interactions[n].cast(t) if n in there else pa.nulls(count, t) for n, t in wanted.items()}
    )
    acts = acts.filter(pc.and_(acts["user_id"].is_valid(), acts["item_id"].is_valid()))
    # Equal times are ordered by interaction_id, as in `standing`: the order of rows in a table changes as its
    # files are merged.
    acts = acts.take(pc.sort_indices(acts["interaction_id"]))
    judged = judged_table(acts, rule)
    names, codes, values = judged.acts.names, judged.acts.kinds, judged.acts.values
    _require_kinds(rule.behaviour, sorted(name for name in names if name))
    counting = np.array([rule.counts(name) for name in names], bool)
    each = np.bincount(codes, minlength=len(names))
    facts["of_other_kinds"] = count - int(counting[codes].sum())
    facts["other_kinds"] = {
        name or "": int(n)
        for name, n, counts in zip(names, each, counting, strict=True)
        if n and not counts and not rule.weighs_nothing(name)
    }
    facts |= {"idle": int(judged.idle.sum()), "taken_back": int((~judged.stands).sum())}
    _look_at_values(rule, names, codes, values, facts)
    acts = acts.append_column(POSITIVE, pa.array(judged.positive))
    held = acts.filter(pa.array(judged.drops & ~judged.teaches))
    acts = acts.filter(pa.array(judged.teaches))
    nobody = rule.seen == "drop_bought" and not any(rule.has(name) for name in names) and len(codes)
    facts["nobody_has"] = (
        {name or "": int(n) for name, n in zip(names, each, strict=True) if n} if nobody else {}
    )
    return acts, held


def _look_at_values(
    rule: BehaviourRule,
    names: Sequence[str | None],
    codes: np.ndarray,
    values: np.ndarray,
    facts: dict[str, Any],
) -> None:
    """Into `facts`: kinds that nobody knows, and what values of stars are taken for where nobody says it."""
    unknown, between, stars, below, split = {}, {}, {}, {}, {}
    for code, name in enumerate(names):
        said = rule.of(name)
        own = values[codes == code]
        own = own[~np.isnan(own)]
        if not said.named:
            unknown[name or ""] = int((codes == code).sum())
            if len(own) and own.max() > own.min():
                between[name or ""] = (float(own.min()), float(own.max()))
        if said.weight <= 0 or not len(own) or said.meaning not in ("rating", "other"):
            continue
        if said.threshold is not None:
            if said.meaning == "other" and not isinstance(rule.behaviour.positive_from, dict):
                split[name or ""] = (int((own < said.threshold).sum()), len(own))
        elif (own < 0).any():
            below[name or ""] = int((own < 0).sum())
        elif said.meaning == "rating" and own.max() > own.min():
            stars[name or ""] = (float(own.min()), float(own.max()))
    facts |= {"unknown_kinds": unknown, "unknown_values": between, "stars": stars, "below_zero": below,
              "split_by_stars": split}  # fmt: skip
    measured = any(rule.threshold(name) is not None for name in names)
    given = isinstance(rule.behaviour.positive_from, float | int)
    facts["no_threshold"] = [] if measured or not given else [name or "(none)" for name in names]


def _of_parts(acts: pa.Table, facts: dict[str, Any]) -> pa.Table:
    """The acts that say their part of a published split; the others are counted. Raises ConfigError."""
    there = pc.unique(acts["part"].drop_null()).to_pylist()
    wrong = sorted(set(there) - set(PARTS))
    if wrong:
        raise ConfigError(
            f'[behaviour] split = "published": interactions say that they are of the part {wrong[0]!r}; '
            f"{suggestion(wrong[0], PARTS)}: map it, [ingest.interactions.values.part], and load them again"
        )
    if acts.num_rows and "train" not in there:
        raise ConfigError(
            '[behaviour] split = "published": no interaction says that it is of the part train; load each '
            "file with its part: `etalage ingest FILE interactions --part train`"
        )
    facts["without_part"] = acts["part"].null_count
    return acts.filter(acts["part"].is_valid())


def _require_kinds(config: BehaviourConfig, found: Sequence[str]) -> None:
    """Raises ConfigError: [behaviour] names a kind that no act has, where one that acts have is nearly it, or
    where none of those that the setting names is there."""
    starts = config.positive_from if isinstance(config.positive_from, dict) else {}
    for option, named in (
        ("weights", tuple(config.weights)),
        ("targets", config.targets),
        ("has", config.has),
        ("positive_from", tuple(starts)),
    ):
        there = {*found, *map(plain_kind, found)}
        missing = [kind for kind in named if kind not in there and plain_kind(kind) not in there]
        near = {kind: difflib.get_close_matches(kind, [f for f in found if f not in named], n=1, cutoff=0.75)
                for kind in missing}  # fmt: skip
        typo = next(((kind, close[0]) for kind, close in near.items() if close), None)
        if found and typo is not None:
            raise ConfigError(
                f"[behaviour] {option} names {typo[0]!r}, but no interaction is of that kind; did you mean "
                f"{typo[1]!r}?"
            )
        if found and named and len(missing) == len(named):
            raise ConfigError(
                f"[behaviour] {option} names {', '.join(sorted(named))}, but the interactions are of kind "
                f"{', '.join(found)}"
            )
    weighed = {plain_kind(kind) for kind in config.weights}
    idle = [kind for kind in config.targets if plain_kind(kind) not in weighed]
    if config.weights and idle:
        raise ConfigError(
            f"[behaviour] targets has {', '.join(sorted(idle))}, which [behaviour] weights does not count; "
            "give it a weight there"
        )


def _without_heavy(acts: pa.Table, most: int, facts: dict[str, Any]) -> pa.Table:
    """Without the acts of users who touched more than `most` different items: crawlers."""
    facts["of_crawlers"], facts["crawlers"] = 0, []
    if not most or acts.num_rows <= most:
        return acts
    pairs = (
        acts.select(["user_id", "item_id"]).group_by(["user_id", "item_id"], use_threads=False).aggregate([])
    )
    users = pairs.group_by("user_id", use_threads=False).aggregate([("item_id", "count")])
    heavy = users.filter(pc.greater(users["item_id_count"], most))["user_id"]
    if not len(heavy):
        return acts
    kept = acts.filter(pc.invert(pc.is_in(acts["user_id"], value_set=heavy.combine_chunks())))
    facts["of_crawlers"] = acts.num_rows - kept.num_rows
    facts["crawlers"] = sorted(heavy.to_pylist())[:10]
    return kept


def _dense_core(acts: pa.Table, min_user: int, min_item: int) -> pa.Table:
    """What is left when users and items with too few acts go, again and again until none does."""
    if max(min_user, min_item) <= 1:
        return acts
    owners = [acts[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in
              ("user_id", "item_id")]  # fmt: skip
    keep = np.ones(acts.num_rows, bool)
    before = -1
    while keep.sum() != before:
        before = keep.sum()
        for owner, least in zip(owners, (min_user, min_item), strict=True):
            if len(owner):
                keep &= np.bincount(owner[keep], minlength=owner.max() + 1)[owner] >= least
    return acts.filter(pa.array(keep))


def _columns(
    acts: pa.Table,
    users: Vocabulary,
    items: Vocabulary,
    kinds: tuple[str, ...],
    only_known: bool = False,
) -> Interactions:
    codes = Vocabulary(list(kinds)).rows(acts["kind"])
    values = acts["value"].to_numpy(zero_copy_only=False)
    times = pc.fill_null(acts["time"].cast(pa.int64()), NEVER).to_numpy(zero_copy_only=False)
    labels = acts[POSITIVE].to_numpy()  # judged by the values in float64, as they are written
    rows = users.rows(acts["user_id"]), items.rows(acts["item_id"])
    found = Interactions.sorted(*rows, codes, values, times, labels)
    return found.take((found.users > 0) & (found.items > 0)) if only_known else found


def _encoded(
    table: pa.Table | None, key: str, vocabulary: Vocabulary, learned: np.ndarray
) -> tuple[Encoder | None, Features]:
    """Features of every row of the vocabulary, row 0 in front; their words are those of rows in train."""
    if table is None or not table.num_rows:
        return None, Features()
    at = np.full(len(vocabulary), table.num_rows)
    at[vocabulary.rows(table[key])] = np.arange(table.num_rows)
    trained = at[np.unique(learned)]
    encoder = Encoder.fit(table.take(pa.array(trained[trained < table.num_rows])))
    if not (encoder.sparse or encoder.bags or encoder.dense):
        return None, Features()
    # Who stands in no row of the table has one of nulls: unknown words, missing numbers.
    padded = {
        name: pa.chunked_array([*table[name].chunks, pa.nulls(1, table[name].type)], table[name].type)
        for name in table.column_names
    }
    features = encoder.encode(pa.table(padded))
    return encoder, features.take(at[1:]).with_unknown()


def _both(acting: pa.ChunkedArray, users: pa.Table | None) -> pa.ChunkedArray:
    if users is None:
        return acting
    return pa.chunked_array([*acting.chunks, *users["user_id"].cast(pa.string()).chunks], pa.string())


def _nothing(facts: dict[str, Any]) -> str:
    if not facts["read"]:
        return "there is no interaction; ingest some: etalage ingest FILE interactions"
    return (
        f"of {facts['read']} interactions none is left to learn from: {facts['of_other_kinds']} are of kinds "
        f"that [behaviour] weights does not name, {facts['of_unknown_items']} of items that the catalogue "
        f"does not have, {facts['of_crawlers']} of users above [behaviour] max_user, {facts['of_rare']} of "
        "users or items below min_user or min_item"
    )
