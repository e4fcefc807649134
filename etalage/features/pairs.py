"""What a ranker is told of a shopper and a candidate together: the same code in training and in serving.

    B queries   K candidates of each   H acts of all histories   N items   F features   S sparse features

Arrays by item have N + 1 rows; row 0 is the unknown item, and also what pads a short list of candidates.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from etalage.errors import ExportDamaged
from etalage.features.behaviour import NEVER, Interactions, Queries
from etalage.features.encoder import Features
from etalage.features.examples import PARTS, Examples

DAY = 24 * 3600 * 10**6
FAR_DAYS = 365.0
"""Longer ago, never, and "nobody knows when" are the same."""
PAIR = (
    "times_before", "acted_before", "days_since", "category_share", "brand_share", "history_length",
    "popularity", "recent_popularity", "price_against_usual",
)  # fmt: skip
RETRIEVED = ("score", "normalised", "position", "found")
LABEL = "acted"


@dataclass(frozen=True)
class PairEncoder:
    """Fitted on the acts of training; `names` says what `encode` gives.

    times_before: log(1 + acts of this shopper with the item)
    acted_before: 0 or 1
    days_since: log(1 + days since the newest of them)
    category_share, brand_share: of the history's acts, those with items of the candidate's leaf, brand
    history_length: log(1 + acts)
    popularity, recent_popularity: log(1 + the item's acts over those of the mean item)
    price_against_usual: log price less the mean of the history's; 0 where one is not known
    score.<retriever>: as it came
    normalised.<retriever>: in spreads from the mean of what it found for this query
    position.<retriever>: 1 / rank there
    found.<retriever>: 0 or 1; where it is 0, so are the other three
    """

    popularity: np.ndarray
    """(N + 1,) float32."""
    recent: np.ndarray
    """(N + 1,) float32."""
    categories: np.ndarray
    """(N + 1,) int64 codes of the leaves; 0 = unknown."""
    brands: np.ndarray
    """(N + 1,) int64 codes; 0 = unknown."""
    prices: np.ndarray
    """(N + 1,) float32 on a scale of logarithms; NaN = unknown."""
    retrievers: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        acts: Interactions,
        items: int,
        features: Features | None = None,
        *,
        retrievers: Sequence[str] = (),
        recent_days: float = 28,
    ) -> "PairEncoder":
        """items: N + 1. features: of the items: the leaf of the bag `category_id` (`classified_path` where
        they came without categories), `brand`, `price`.

        Fit it on what is known before the acts that a ranker is to predict, or popularity tells the answer.
        """
        acts, features = acts.positive, features or Features()
        dated = acts.times[acts.times != NEVER]
        since = int(dated.max()) - int(recent_days * DAY) if len(dated) else NEVER
        path = features.bags.get("category_id", features.bags.get("classified_path"))
        price = features.dense.get("price")
        none = np.zeros(items, np.int64)
        unpriced = np.full(items, np.nan, np.float32)
        return cls(
            _popularity(acts.items, items),
            _popularity(acts.items[acts.times >= since], items),
            none if path is None else _last(path),
            features.sparse.get("brand", none),
            unpriced if price is None else np.where(price[:, 1] > 0, np.nan, price[:, 0]).astype(np.float32),
            tuple(retrievers),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """(F,) names of what `encode` gives, in its order."""
        return PAIR + tuple(f"{kind}.{name}" for name in self.retrievers for kind in RETRIEVED)

    def encode(
        self, queries: Queries, items_BK: np.ndarray, scores: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """(B, K, F) float32, finite. scores: retriever → (B, K); -inf or NaN: it did not find the candidate.

        A retriever that is not there found nothing; one that was not there in training is passed over.
        """
        count, width = items_BK.shape
        out = np.zeros((count, width, len(self.names)), np.float32)
        lengths = np.diff(queries.starts)
        owners, known = queries.owners, items_BK > 0
        times, newest = _matches(owners, queries.items, items_BK, len(self.popularity))
        out[..., 0], out[..., 1] = np.log1p(times), times > 0
        out[..., 2] = self._days(queries, newest)
        for column, codes in ((3, self.categories), (4, self.brands)):
            alike, _ = _matches(owners, codes[queries.items], codes[items_BK], int(codes.max(initial=0)) + 1)
            out[..., column] = alike / np.maximum(lengths, 1)[:, None]
        out[..., 5] = np.log1p(lengths)[:, None]
        out[..., 6], out[..., 7] = self.popularity[items_BK], self.recent[items_BK]
        out[..., 8] = np.nan_to_num(self.prices[items_BK] - self._usual(queries, owners)[:, None], nan=0.0)
        for number, name in enumerate(self.retrievers):
            if scores is not None and name in scores:
                start = len(PAIR) + number * len(RETRIEVED)
                _retrieved(np.where(known, scores[name], np.nan), out[..., start : start + len(RETRIEVED)])
        return out

    def _days(self, queries: Queries, newest_BK: np.ndarray) -> np.ndarray:
        """(B, K) log(1 + days) since the act at position `newest` of all histories; -1 = none."""
        if len(queries.items) == 0:
            return np.full(newest_BK.shape, np.log1p(FAR_DAYS))
        then = np.where(newest_BK >= 0, queries.times[newest_BK], NEVER)
        dated = (then != NEVER) & (queries.now != NEVER)[:, None]
        passed = np.where(dated, queries.now[:, None] - np.where(dated, then, 0), 0) / DAY
        return np.where(dated, np.log1p(np.clip(passed, 0, FAR_DAYS)), np.log1p(FAR_DAYS))

    def _usual(self, queries: Queries, owners: np.ndarray) -> np.ndarray:
        """(B,) mean log price of the history; NaN where no price is known."""
        prices = self.prices[queries.items]
        there = np.isfinite(prices)
        total = np.bincount(owners[there], weights=prices[there], minlength=len(queries))
        number = np.bincount(owners[there], minlength=len(queries))
        return np.where(number > 0, total / np.maximum(number, 1), np.nan)

    def aligned(self, to_model: np.ndarray) -> "PairEncoder":
        """For another vocabulary of items: its row n is to_model[n] here, (N' + 1,) int64; 0 = not known."""
        arrays = {name: getattr(self, name)[to_model] for name in _ARRAYS}
        return PairEncoder(**arrays, retrievers=self.retrievers)

    def to_folder(self, folder: Path) -> None:
        """Write pairs.json, and an npy for each array by item."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            np.save(folder / f"pairs-{name}.npy", getattr(self, name), allow_pickle=False)
        facts = {"names": self.names, "retrievers": self.retrievers, "items": len(self.popularity)}
        (folder / "pairs.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")

    @classmethod
    def from_folder(cls, folder: Path) -> "PairEncoder":
        """Raises ExportDamaged: a file is missing or torn, or was made for other features."""
        try:
            facts = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
            arrays = {n: np.load(folder / f"pairs-{n}.npy", allow_pickle=False) for n in _ARRAYS}
            found = cls(**arrays, retrievers=tuple(facts["retrievers"]))
            if any(array.shape != (facts["items"],) for array in arrays.values()):
                raise ValueError(f"arrays are not of {facts['items']} items")
            if list(found.names) != facts["names"]:
                raise ValueError(f"its features are {facts['names']}, this version's {list(found.names)}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportDamaged(f"{folder}: no encoder of pairs ({error}); export the model again") from error
        return found


_ARRAYS = tuple(field.name for field in fields(PairEncoder) if field.name != "retrievers")


def sparse_names(user_features: Features, item_features: Features, ids: bool = True) -> tuple[str, ...]:
    """The sparse inputs that there are: `user`, `item`, `user.<feature>`, `item.<feature>`; of a bag its
    first and its last entry, `item.<bag>.first` and `.last` (of a category path the top and the leaf)."""
    names = ["user", "item"] if ids else []
    for side, features in (("user", user_features), ("item", item_features)):
        names += [f"{side}.{name}" for name in sorted(features.sparse)]
        names += [f"{side}.{name}.{end}" for name in sorted(features.bags) for end in ("first", "last")]
    return tuple(names)


def pair_sparse(
    names: Sequence[str], queries: Queries, items_BK: np.ndarray, item_features: Features
) -> np.ndarray:
    """(B, K, S) int64: the inputs `names` of `sparse_names`, user features out of `queries.features`.

    A feature that the tables do not have (any more) is unknown, 0.
    """
    out = np.zeros((*items_BK.shape, len(names)), np.int64)
    for place, name in enumerate(names):
        side, _, feature = name.partition(".")
        if side == "item":
            column = items_BK if not feature else _column(item_features, feature, items_BK)
        else:
            of_user = queries.users if not feature else _column(queries.features, feature, None)
            column = None if of_user is None else of_user[:, None]
        if column is not None:
            out[..., place] = column
    return out


def ranking_examples(
    queries: Queries,
    truth: Sequence[np.ndarray],
    candidates_BK: np.ndarray,
    scores: Mapping[str, np.ndarray],
    *,
    encoder: PairEncoder,
    item_features: Features,
    users: int,
    part: str,
    ids: bool = True,
    negatives: int | None = None,
    seed: int = 0,
) -> Examples:
    """One row for each candidate of each query that has a right one among its candidates, in their order.

    truth: the item rows that each query's shopper went on to act on; the label is 1 for those. They are not
    added where no retriever found them: in serving nobody would, and "found by nobody" would give them away.
    users: rows of the user vocabulary. negatives: at most so many wrong candidates of each query, drawn
    by `seed`; None: all. part: of PARTS. Groups are the positions of the queries.
    """
    lengths = np.array([len(rows) for rows in truth], np.int64)
    owner_T = np.repeat(np.arange(len(truth)), lengths)
    wanted_T = np.concatenate([*truth, np.empty(0, np.int64)]).astype(np.int64)
    times_BK, _ = _matches(owner_T, wanted_T, candidates_BK, len(encoder.popularity))
    right_BK: np.ndarray = times_BK > 0
    kept_BK = (candidates_BK > 0) & right_BK.any(axis=1, keepdims=True)
    if negatives is not None:
        drawn_BK = np.random.default_rng(seed).random(candidates_BK.shape)
        drawn_BK[right_BK | ~kept_BK] = np.inf
        place_BK = np.argsort(np.argsort(drawn_BK, axis=1), axis=1)
        kept_BK &= right_BK | (place_BK < negatives)
    names = sparse_names(queries.features, item_features, ids)
    sizes = {"user": users, "item": len(encoder.popularity)}
    owner_M, column_M = np.nonzero(kept_BK)
    features = encoder.encode(queries, candidates_BK, scores)[owner_M, column_M]
    return Examples(
        pair_sparse(names, queries, candidates_BK, item_features)[owner_M, column_M],
        names,
        tuple(sizes.get(name) or _size(name, queries.features, item_features) for name in names),
        features,
        encoder.names,
        right_BK[owner_M, column_M].astype(np.float32)[:, None],
        (LABEL,),
        np.full(len(owner_M), PARTS.index(part), np.uint8),
        owner_M.astype(np.int64),
    )


def _matches(
    owners_H: np.ndarray, codes_H: np.ndarray, codes_BK: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """How often (b, code) stands among (owners, codes), and where last: (B, K) int64 each; code 0 never does.

    codes are below `width`; the position is -1 where there is none.
    """
    keys_H = owners_H * width + codes_H
    order = np.argsort(keys_H, kind="stable")
    ordered = keys_H[order]
    wanted_BK = np.arange(len(codes_BK))[:, None] * width + codes_BK
    after = np.searchsorted(ordered, wanted_BK, side="right")
    times = after - np.searchsorted(ordered, wanted_BK, side="left")
    times[codes_BK == 0] = 0
    if len(order) == 0:
        return times, np.full(times.shape, -1)
    return times, np.where(times > 0, order[after - 1], -1)


def _retrieved(scores_BK: np.ndarray, out_BK4: np.ndarray) -> None:
    """Fill in score, normalised, position, found."""
    found = np.isfinite(scores_BK)
    score = np.where(found, scores_BK, 0)
    number = np.maximum(found.sum(axis=1, keepdims=True), 1)
    mean = score.sum(axis=1, keepdims=True) / number
    apart = np.where(found, score - mean, 0)
    spread = np.sqrt(np.square(apart).sum(axis=1, keepdims=True) / number)
    order = np.argsort(np.where(found, -scores_BK, np.inf), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(1, order.shape[1] + 1), order.shape), axis=1)
    out_BK4[..., 0] = score
    out_BK4[..., 1] = apart / np.where(spread > 1e-6, spread, 1)
    out_BK4[..., 2] = np.where(found, 1 / rank, 0)
    out_BK4[..., 3] = found


def _popularity(rows: np.ndarray, items: int) -> np.ndarray:
    """Over the mean, so that it means the same whether a month was counted or a year."""
    counts = np.bincount(rows[rows > 0], minlength=items)
    mean = max(counts.sum(), 1) / max(items - 1, 1)
    return np.log1p(counts / mean).astype(np.float32)


def _last(bag_RT: np.ndarray) -> np.ndarray:
    """(R,) the last entry of each bag that is not padding; 0 for an empty one."""
    place = np.maximum((bag_RT > 0).sum(axis=1) - 1, 0)
    return np.asarray(bag_RT[np.arange(len(bag_RT)), place])


def _column(features: Features, name: str, rows: np.ndarray | None) -> np.ndarray | None:
    """One sparse feature, or one end of a bag, by its name; of these rows. None: there is no such feature."""
    if name in features.sparse:
        column = features.sparse[name]
    else:
        bag, _, end = name.rpartition(".")
        if bag not in features.bags:
            return None
        column = features.bags[bag][:, 0] if end == "first" else _last(features.bags[bag])
    return column if rows is None else column[rows]


def _size(name: str, user_features: Features, item_features: Features) -> int:
    side, _, feature = name.partition(".")
    sizes = (user_features if side == "user" else item_features).sizes
    return sizes[feature] if feature in sizes else sizes[feature.rpartition(".")[0]]
