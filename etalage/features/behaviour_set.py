"""Tables of the shop → BehaviourSet: which acts count, which of them are positive, who and what has a row.

    M acts   N items   U users

Repeated pairs (user, item): all acts of train are kept, in the order of their time, so whoever bought a thing
twice has it twice in their history. The later parts hold none of those pairs, unless shoppers take the same
again (features/split_interactions.py). Models that count pairs say how.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import BehaviourConfig, FunnelConfig
from etalage.errors import TooLittleData
from etalage.features.behaviour import NEVER, PARTS, BehaviourSet, Interactions
from etalage.features.counted_acts import POSITIVE, SaidParts, counted, kind_facts, require_kinds
from etalage.features.encoder import Encoder, Features
from etalage.features.history import BehaviourRule
from etalage.features.split_interactions import as_published, parted
from etalage.features.vocabulary import Vocabulary
from etalage.kinds import TAKEN_AGAIN_OFTEN, TAKEN_AGAIN_TELLING, known_meaning, plain_kind

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
    found = counted(interactions, rule)
    acts = found.acts
    require_kinds(config, sorted(name for name in found.kinds if name))
    facts |= kind_facts(rule, found.kinds, interactions.num_rows)
    facts |= {"idle": found.idle, "taken_back": found.taken_back}
    if config.split == "published" and not whole:
        said = SaidParts()
        acts = said.of(acts)
        said.require_train()
        facts["without_part"] = said.without
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
        raise TooLittleData(nothing_left(facts))

    shoppers = Vocabulary.fit(both_ids(acts["user_id"], users))
    kinds = tuple(sorted(pc.unique(acts["kind"].drop_null()).to_pylist()))
    columns = _columns(acts, shoppers, catalogue, kinds)
    if whole:
        parts = {"train": columns, **{name: Interactions.none() for name in PARTS[1:]}}
    elif config.split == "published":
        of_part = {name: acts.filter(pc.equal(acts["part"], name)) for name in PARTS}
        each = {name: _columns(some, shoppers, catalogue, kinds) for name, some in of_part.items()}
        parts = as_published(each, config.rank, config.seed)
    else:
        parts = parted(columns, config, codes_of_targets(config, kinds))
    train = parts["train"]
    require_positives(len(train.positive), len(train), len(columns))
    facts["repeated"] = len(columns) - sum(map(len, parts.values()))
    held = _columns(found.held, shoppers, catalogue, kinds, only_known=True)
    return assembled(
        shoppers, catalogue, kinds, parts, held, facts, rule, items, users, funnel,
        learned=(np.unique(train.items), np.unique(train.users)),
    )  # fmt: skip


def assembled(
    shoppers: Vocabulary,
    catalogue: Vocabulary,
    kinds: tuple[str, ...],
    parts: dict[str, Interactions],
    held: Interactions,
    facts: dict[str, Any],
    rule: BehaviourRule,
    items: pa.Table | None,
    users: pa.Table | None,
    funnel: FunnelConfig | None,
    learned: tuple[np.ndarray, np.ndarray],
) -> BehaviourSet:
    """The set of these parts, with what the rule says of the kinds and the features of items and shoppers.

    learned: the item rows and the user rows that stand in train.
    """
    config = rule.behaviour
    facts |= {name: len(part) for name, part in parts.items()}
    facts["weights"] = {kind: rule.weight(kind) for kind in kinds}
    facts["has"] = sorted(kind for kind in kinds if rule.has(kind))
    off = tuple(n for n, kind in enumerate(("", *kinds)) if rule.drops(kind))
    item_encoder, item_features = _encoded(items, "item_id", catalogue, learned[0])
    user_encoder, user_features = _encoded(users, "user_id", shoppers, learned[1])
    return BehaviourSet(
        shoppers, catalogue, kinds, parts, item_features, user_features, item_encoder, user_encoder,
        facts=facts, targets=codes_of_targets(config, kinds),
        weights=tuple(rule.weight(kind) for kind in ("", *kinds)),
        own_split=config.split != "published", off_slate=None if funnel is None else off,
        opinions=tuple(n for n, kind in enumerate(("", *kinds)) if rule.of(kind).opinion),
        held=held, history=None if funnel is None else funnel.history,
    )  # fmt: skip


def codes_of_targets(config: BehaviourConfig, kinds: Sequence[str]) -> tuple[int, ...]:
    """Of the kinds that [behaviour] targets names."""
    plain = {plain_kind(kind) for kind in config.targets}
    return tuple(n for n, kind in enumerate(kinds, 1) if kind in config.targets or plain_kind(kind) in plain)


def require_positives(positives: int, train: int, acts: int) -> None:
    """Raises TooLittleData: no act of train is positive."""
    if not positives:
        raise TooLittleData(
            f"none of the {acts} interactions that count is a positive one to learn from "
            f"(train has {train}); see [behaviour] positive_from, weights and split"
        )


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


def taken_again(data: BehaviourSet) -> tuple[int, int]:
    """(moments of train at which a shopper took an item, those of them at which they had taken it before in
    the same way): whoever puts a thing into the cart and then buys it takes it once in each way."""
    has = [n for n, kind in enumerate(data.kinds, 1) if kind in data.facts["has"]]
    train = data.part("train").positive
    taken = train.take(np.isin(train.kinds, has))
    if not len(taken):
        return 0, 0
    order = np.lexsort((taken.times, taken.kinds, taken.keys))
    keys, kinds, times = taken.keys[order], taken.kinds[order], taken.times[order]
    another = (keys[1:] != keys[:-1]) | (kinds[1:] != kinds[:-1])
    moments = 1 + int(np.count_nonzero(another | (times[1:] != times[:-1])))
    return moments, moments - 1 - int(np.count_nonzero(another))


def describe_taken_again(data: BehaviourSet, training: str | None = None) -> list[str]:
    """Nothing, or that this is a shop in which the same is taken again, and what then to set. training: the
    model that learns from it now."""
    if data.facts.get("repeat"):
        return []
    times, again = taken_again(data)
    if times < TAKEN_AGAIN_TELLING or again < TAKEN_AGAIN_OFTEN * times:
        return []
    return [
        f"{again / times:.0%} of what shoppers took ({again:,} of {times:,} times) they had taken before, "
        "and is not shown to them again: where things are used up and bought again, set [behaviour] repeat = "
        f"true{', and train `buy_again` again' if training == 'buy_again' else ', and train `buy_again` too'}"
    ]


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
    """Features of every row of the vocabulary, row 0 in front; their words are those of rows `learned`."""
    if table is None or not table.num_rows:
        return None, Features()
    at = np.full(len(vocabulary), table.num_rows)
    at[vocabulary.rows(table[key])] = np.arange(table.num_rows)
    trained = at[learned]
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


def both_ids(acting: pa.ChunkedArray, users: pa.Table | None) -> pa.ChunkedArray:
    """The ids of who acts and of who stands in the table of users."""
    if users is None:
        return acting
    return pa.chunked_array([*acting.chunks, *users["user_id"].cast(pa.string()).chunks], pa.string())


def nothing_left(facts: dict[str, Any]) -> str:
    """What a shop is told whose interactions all fall away."""
    if not facts["read"]:
        return "there is no interaction; ingest some: etalage ingest FILE interactions"
    return (
        f"of {facts['read']} interactions none is left to learn from: {facts['of_other_kinds']} are of kinds "
        f"that [behaviour] weights does not name, {facts['of_unknown_items']} of items that the catalogue "
        f"does not have, {facts['of_crawlers']} of users above [behaviour] max_user, {facts['of_rare']} of "
        "users or items below min_user or min_item"
    )
