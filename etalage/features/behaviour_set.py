"""Tables of the shop → BehaviourSet: which acts count, which of them are positive, who and what has a row.

    M acts   N items   U users

Repeated pairs (user, item): all acts of train are kept, in the order of their time, so whoever bought a thing
twice has it twice in their history. The later parts hold none of those pairs, unless shoppers take the same
again (features/parts.py). Models that count pairs say how.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import BehaviourConfig
from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import NEVER, BehaviourSet, Interactions
from etalage.features.encoder import Encoder, Features
from etalage.features.parts import parted
from etalage.features.vocabulary import Vocabulary
from etalage.lake.schema import INSTANT


def behaviour_set(
    interactions: pa.Table,
    items: pa.Table | None,
    users: pa.Table | None,
    config: BehaviourConfig,
    *,
    item_dense: Mapping[str, tuple[Sequence[str], np.ndarray]] | None = None,
) -> BehaviourSet:
    """The shop's behaviour as arrays, split as `config` says. Tables as in lake/schema.py.

    items: the catalogue; every item of it has a row, also one that nobody touched. Acts on others are left
    out and counted. None: the items of the acts. users: shoppers with attributes; who acts has a row anyway.
    item_dense: name → (item ids, (n, D) float32), such as embeddings of photos; zeros for an item not given.

    An act of a kind with a weight of 0 or less, or of a value below `positive_from`, is an explicit negative;
    one without a value is positive. `min_user` and `min_item` are applied until both hold, before the split;
    an item that has too few acts keeps its row, as a cold one. Acts of one time follow by interaction_id.

    Raises TooLittleData: nothing to learn from. ConfigError: a kind in [behaviour] that no act has.
    """
    facts: dict[str, Any] = {"read": interactions.num_rows, "repeat": config.repeat, "split": config.split}
    acts = _counting(interactions, config, facts)
    catalogue = Vocabulary.fit(acts["item_id"] if items is None else items["item_id"])
    known = pc.fill_null(pc.greater(pa.array(catalogue.rows(acts["item_id"])), 0), False)
    acts = acts.filter(known)
    facts["of_unknown_items"] = len(known) - acts.num_rows
    acts = _dense_core(acts, config.min_user, config.min_item)
    facts["of_rare"] = len(known) - facts["of_unknown_items"] - acts.num_rows
    if not acts.num_rows:
        raise TooLittleData(_nothing(facts))

    shoppers = Vocabulary.fit(_both(acts["user_id"], users))
    kinds = tuple(sorted(pc.unique(acts["kind"].drop_null()).to_pylist()))
    targets = tuple(kinds.index(kind) + 1 for kind in config.targets if kind in kinds)
    columns = _columns(acts, shoppers, catalogue, kinds, config)
    parts = parted(columns, config, targets)
    train = parts["train"]
    if not len(train.positive):
        raise TooLittleData(
            f"none of the {len(columns)} interactions that count is a positive one to learn from "
            f"(train has {len(train)}); see [behaviour] positive_from, weights and split"
        )
    facts |= {name: len(part) for name, part in parts.items()}
    facts["repeated"] = len(columns) - sum(map(len, parts.values()))
    facts["weights"] = {kind: config.weights.get(kind, 1.0) for kind in kinds}

    item_encoder, item_features = _encoded(items, "item_id", catalogue, train.items)
    user_encoder, user_features = _encoded(users, "user_id", shoppers, train.users)
    for name, (ids, numbers) in (item_dense or {}).items():
        item_features = item_features.plus(name, _placed(name, ids, numbers, catalogue))
    return BehaviourSet(
        shoppers, catalogue, kinds, parts, item_features, user_features, item_encoder, user_encoder,
        facts=facts, targets=targets,
    )  # fmt: skip


def _counting(interactions: pa.Table, config: BehaviourConfig, facts: dict[str, Any]) -> pa.Table:
    """The acts of kinds that count, with all columns of the schema that are used."""
    count = interactions.num_rows
    wanted = {"interaction_id": pa.string(), "user_id": pa.string(), "item_id": pa.string(),
              "kind": pa.string(), "value": pa.float64(), "time": INSTANT}  # fmt: skip
    there = set(interactions.column_names)
    acts = pa.table(
        {n: interactions[n].cast(t) if n in there else pa.nulls(count, t) for n, t in wanted.items()}
    )
    acts = acts.filter(pc.and_(acts["user_id"].is_valid(), acts["item_id"].is_valid()))
    found = pc.unique(acts["kind"].drop_null()).to_pylist()
    counting = set(config.weights) if config.weights else set(found)
    for option, named in (("weights", set(config.weights)), ("targets", set(config.targets))):
        if named and found and named.isdisjoint(found):
            raise ConfigError(
                f"[behaviour] {option} names {', '.join(sorted(named))}, but the interactions are of kind "
                f"{', '.join(sorted(found))}"
            )
    if not counting.issuperset(config.targets) and config.weights:
        raise ConfigError(
            f"[behaviour] targets has {', '.join(sorted(set(config.targets) - counting))}, which [behaviour] "
            f"weights does not count; give it a weight there"
        )
    if config.weights:
        acts = acts.filter(pc.is_in(acts["kind"], value_set=pa.array(sorted(counting), pa.string())))
    facts["of_other_kinds"] = count - acts.num_rows
    return acts


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
    acts: pa.Table, users: Vocabulary, items: Vocabulary, kinds: tuple[str, ...], config: BehaviourConfig
) -> Interactions:
    # Equal times are ordered by interaction_id: the order of rows in a table changes as its files are merged.
    acts = acts.take(pc.sort_indices(acts["interaction_id"]))
    codes = Vocabulary(list(kinds)).rows(acts["kind"])
    values = acts["value"].to_numpy(zero_copy_only=False).astype(np.float32)
    times = pc.fill_null(acts["time"].cast(pa.int64()), NEVER).to_numpy(zero_copy_only=False)
    weights = np.array([1.0, *(config.weights.get(kind, 1.0) for kind in kinds)])
    labels = weights[codes] > 0
    if config.positive_from is not None:
        labels &= ~(values < config.positive_from)
    return Interactions.sorted(
        users.rows(acts["user_id"]), items.rows(acts["item_id"]), codes, values, times, labels
    )


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


def _placed(name: str, ids: Sequence[str], numbers: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """(N + 1, D) float32 by row of the vocabulary."""
    if numbers.ndim != 2 or len(ids) != len(numbers):
        raise ValueError(f"{name}: {len(ids)} ids with numbers of shape {numbers.shape}; expected (n, D)")
    placed = np.zeros((len(vocabulary), numbers.shape[1]), np.float32)
    placed[vocabulary.rows(list(ids))] = numbers
    placed[0] = 0
    return placed


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
        f"does not have, {facts['of_rare']} of users or items below [behaviour] min_user or min_item"
    )
