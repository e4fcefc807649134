"""Which items a model learns from, is tuned on and is judged on.

N items   P photos   D embedding dimension   G groups   C classes
"""

import hashlib
import json
import logging
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from etalage.config import SplitConfig, suggestion
from etalage.errors import ConfigError
from etalage.features.grouping import Groups, bursts, equal, near_embeddings, near_hashes
from etalage.lake.attributes import require_attribute

PARTS = ("train", "validation", "test")
LARGE = 0.1
"""A group with more than this share of all items is worth a warning: no split around it is even."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeenPhotos:
    """What near-duplicates are found by: of P photos, in any order."""

    owners_P: np.ndarray
    """(P,) int64 row of each photo's item."""
    phashes_P: np.ndarray
    """(P,) int64, see lake/photo_facts.py."""
    embeddings_PD: np.ndarray | None = None
    names_P: Sequence[str] | None = None
    """File names or links, for bursts."""
    sha256_P: Sequence[str] | None = None
    """Of the files: the same one is a near-duplicate whatever its perceptual hash says."""
    classes_N: Sequence[Hashable | None] | None = None
    """Each item's category, None where it has none: within one, bursts and alike embeddings join."""


def assign(items: pa.Table, config: SplitConfig) -> np.ndarray:
    """(N,) of "train", "validation" or "test", one for each row of `items`.

    An item whose published attribute says "test" or "validation" is just that; one that says
    "train" may still be held out for validation, never for test. All others fall by a hash of their
    `group`, so an item keeps its part when the catalogue grows, and all of a group fall together.

    Raises ConfigError: no such group column, no item that has the published attribute, or a published part of
    another name.
    """
    if config.group not in items.column_names:
        raise ConfigError(_no_column(items, config))
    draws_N = np.array([_draw(value) for value in items.column(config.group).to_pylist()])
    return _parts(items, config, draws_N)


def assign_groups(items: pa.Table, config: SplitConfig, photos: SeenPhotos) -> np.ndarray:
    """As `assign`, but whole groups: items of one `product`, near-duplicates and bursts, as `config` says.

    All of a group fall by the hash of its smallest value of `group`, so an item that is alone has the part
    that `assign` gives it, large groups fall no other way than small ones, and an item keeps its part when
    the catalogue grows, unless what was added belongs to its group. Published parts stay as they are.
    Raises ConfigError: as `assign`; bursts without names, categories or embeddings.
    """
    return parts_of_groups(items, config, grouped(items, config, photos))


def parts_of_groups(items: pa.Table, config: SplitConfig, group_N: np.ndarray) -> np.ndarray:
    """As `assign_groups`, of the groups that `grouped` found."""
    _warn(group_N, items)
    smallest: dict[int, str | None] = {}
    for number, value in zip(group_N.tolist(), items.column(config.group).to_pylist(), strict=True):
        smallest[number] = min(smallest.get(number, value), value, key=repr)
    draws_G = np.array([_draw(smallest[number]) for number in range(len(smallest))])
    return _parts(items, config, draws_G[group_N])


def grouped(items: pa.Table, config: SplitConfig, photos: SeenPhotos) -> np.ndarray:
    """(N,) int64 number of each item's group. Raises ConfigError, as `assign_groups`."""
    if config.group not in items.column_names:
        raise ConfigError(_no_column(items, config))
    column = items.column(config.group).to_pylist()
    groups = Groups(len(column))
    groups.join(*equal(column))
    groups.join(*equal(product_keys(items, config.product)))
    for a_E, b_E in _photo_pairs(config, photos):
        groups.join(photos.owners_P[a_E], photos.owners_P[b_E])
    return groups.numbers()


def product_keys(items: pa.Table, attribute: str | None) -> list[str | None]:
    """(N,) what each item's attribute says, None where it says nothing.

    Numbers lose their leading zeros: a GTIN of 12, 13 or 14 digits is one product. Raises ConfigError: no
    item has it.
    """
    if attribute is None:
        return [None] * items.num_rows
    require_attribute(items.column("attributes").to_pylist(), attribute, f"[split] product = {attribute!r}")
    said = [json.loads(text or "{}").get(attribute) for text in items.column("attributes").to_pylist()]
    texts = ["" if value is None else str(value).strip() for value in said]
    return [(text.lstrip("0") if text.isdigit() else text) or None for text in texts]


def split_groups(
    groups_N: np.ndarray,
    ids: Sequence[str],
    fractions: tuple[float, float, float] = (0.70, 0.15, 0.15),
    labels_N: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """(N,) of "train", "validation" or "test": whole groups, by the hash of each group's smallest id.

    Without labels a group's part depends on nothing but that id and the seed, so an item keeps its part when
    rows are reordered and when the catalogue grows. With labels_N, (N,) int64, the parts are stratified so
    far as groups allow: in the order of their hashes, each group goes where the counts of its classes then
    lie nearest to `fractions` (least sum of squares; after Sechidis et al., ECML PKDD 2011). That does not
    depend on the order of rows either, but on all that is there: a golden set keeps what was decided.

    Raises ValueError: not one group and label an id, ids that are not unique, or fractions that are not 1.
    """
    if len(set(ids)) != len(groups_N) or len(ids) != len(groups_N):
        raise ValueError(f"{len(groups_N)} groups for {len(ids)} ids, {len(set(ids))} of them different")
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions {fractions}: none below 0, 1 in all")
    codes_N = np.unique(groups_N, return_inverse=True)[1]
    smallest: dict[int, str] = {}
    for code, id in zip(codes_N.tolist(), ids, strict=True):
        smallest[code] = min(smallest.get(code, id), id)
    draws_G = np.array([_draw((seed, smallest[code])) for code in range(len(smallest))])
    if labels_N is None:
        return np.array(PARTS)[np.searchsorted(np.cumsum(fractions)[:2], draws_G, side="right")][codes_N]
    if np.shape(labels_N) != np.shape(groups_N):
        raise ValueError(f"{np.shape(labels_N)} labels for {len(groups_N)} ids")
    part_G = _stratified(codes_N, np.unique(labels_N, return_inverse=True)[1], draws_G, np.array(fractions))
    return np.array(PARTS)[part_G][codes_N]


def _stratified(
    codes_N: np.ndarray, class_N: np.ndarray, draws_G: np.ndarray, fractions: np.ndarray
) -> np.ndarray:
    """(G,) int64 place among PARTS."""
    totals = np.bincount(class_N)
    wanted_C3 = totals[:, None] * fractions
    had_C3 = np.zeros_like(wanted_C3)
    order = np.argsort(codes_N, kind="stable")
    starts = np.searchsorted(codes_N[order], np.arange(len(draws_G) + 1))
    part_G = np.zeros(len(draws_G), np.int64)
    for code in np.argsort(draws_G, kind="stable").tolist():
        classes, counts = np.unique(class_N[order[starts[code] : starts[code + 1]]], return_counts=True)
        # Of the sum of squares only what differs between the three choices.
        short, counts_C1 = had_C3[classes] - wanted_C3[classes], counts[:, None]
        cost = (counts_C1 * (2 * short + counts_C1) / totals[classes, None]).sum(axis=0)
        part_G[code] = np.where(fractions > 0, cost, np.inf).argmin()
        had_C3[classes, part_G[code]] += counts
    return part_G


def _photo_pairs(config: SplitConfig, photos: SeenPhotos) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if config.near_duplicates:
        if photos.sha256_P is not None:
            yield equal(photos.sha256_P)
        yield from near_hashes(photos.phashes_P, config.phash_distance)
        if photos.embeddings_PD is not None and config.similarity is not None:
            for a_E, b_E in near_embeddings(photos.embeddings_PD, config.similarity):
                alike_E = _same_class(photos, a_E, b_E)
                yield a_E[alike_E], b_E[alike_E]
    if config.burst is not None:
        if photos.names_P is None or photos.classes_N is None or photos.embeddings_PD is None:
            raise ConfigError(
                "[split] burst: needs photos with names, categories and embeddings; leave it out"
            )
        classes = [photos.classes_N[owner] for owner in photos.owners_P.tolist()]
        reach = config.burst_reach or None
        yield equal(bursts(photos.names_P, classes, photos.embeddings_PD, config.burst, reach))


def _same_class(photos: SeenPhotos, a_E: np.ndarray, b_E: np.ndarray) -> np.ndarray:
    """(E,) bool: of one class, or one of the two has none. Likeness across classes is no identity."""
    if photos.classes_N is None:
        return np.ones(len(a_E), dtype=bool)
    number: dict[Hashable | None, int] = {None: -1}
    codes_N = np.array([number.setdefault(one, len(number)) for one in photos.classes_N], np.int64)
    a_E, b_E = codes_N[photos.owners_P[a_E]], codes_N[photos.owners_P[b_E]]
    same_E: np.ndarray = (a_E == b_E) | (a_E < 0) | (b_E < 0)
    return same_E


def _warn(group_N: np.ndarray, items: pa.Table) -> None:
    size = np.bincount(group_N, minlength=1)
    if size.max() > max(2, LARGE * len(group_N)):
        example = items.column("item_id")[int(np.flatnonzero(group_N == size.argmax())[0])]
        log.warning(
            "%d of %d items are one group of near-duplicates, %s among them: look at it, and lower "
            "[split] phash_distance or raise similarity if they are not",
            size.max(), len(group_N), example,
        )  # fmt: skip


def _parts(items: pa.Table, config: SplitConfig, draws_N: np.ndarray) -> np.ndarray:
    parts = np.full(len(draws_N), "train", dtype="<U10")
    parts[draws_N < config.test + config.validation] = "validation"
    parts[draws_N < config.test] = "test"
    if config.published is None:
        return parts
    setting = f"[split] published = {config.published!r}"
    require_attribute(items.column("attributes").to_pylist(), config.published, setting)
    for row, text in enumerate(items.column("attributes").to_pylist()):
        said = json.loads(text or "{}").get(config.published)
        if said is None:
            continue
        if said not in PARTS:
            raise ConfigError(
                f"[split] published = {config.published!r}: item {items.column('item_id')[row]} says "
                f"{said!r}; expected one of {', '.join(PARTS)}"
            )
        if said == "train" and draws_N[row] < config.validation:
            parts[row] = "validation"
        else:
            parts[row] = said
    return parts


def _no_column(items: pa.Table, config: SplitConfig) -> str:
    said = suggestion(config.group, items.column_names)
    return f"[split] group = {config.group!r}: no such column of items; {said}"


def _draw(value: object) -> float:
    digest = hashlib.blake2b(repr(value).encode(), digest_size=8, person=b"etalage-split").digest()
    return int.from_bytes(digest, "big") / 2**64
