"""Scorers that need no export, and shops whose shoppers have tastes that can be known."""

import numpy as np
import pyarrow as pa

from etalage.features.behaviour import BehaviourSet, Interactions, Queries
from etalage.features.vocabulary import Vocabulary


class Table:
    """Scores out of a (users, N + 1) table, or one row for everybody."""

    role = "embedder"
    model_hash = "0" * 64
    kinds: tuple[str, ...] = ()

    def __init__(self, table: np.ndarray, name: str = "table", items: Vocabulary | None = None) -> None:
        self.table = np.asarray(table, np.float32)
        self.name = name
        self.items = named("i", self.table.shape[-1] - 1) if items is None else items
        self.users = named("u", 1)

    def knows(self, queries: Queries) -> np.ndarray:
        return queries.users > 0

    def scores(self, queries: Queries) -> np.ndarray:
        found = self.table[queries.users] if self.table.ndim == 2 else np.tile(self.table, (len(queries), 1))
        found[:, 0] = -np.inf
        return found

    def scores_of(self, queries: Queries, items_BK: np.ndarray) -> np.ndarray:
        return np.take_along_axis(self.scores(queries), items_BK, axis=1)


class Shared(Table):
    """Gives away its own array, as the scorer of popularity does."""

    def scores(self, queries: Queries) -> np.ndarray:
        self.table[0] = -np.inf
        return np.broadcast_to(self.table, (len(queries), len(self.table)))


class Embedded(Table):
    """An inner product, with the two attributes that make ranking fast."""

    def __init__(self, users: np.ndarray, items: np.ndarray, name: str = "embedded") -> None:
        super().__init__(np.zeros((len(users), len(items))), name)
        self._users, self.item_embeddings = users.astype(np.float32), items.astype(np.float32)
        self.asked: list[int] = []

    def embed_queries(self, queries: Queries) -> np.ndarray:
        self.asked.append(len(queries))
        return self._users[queries.users]

    def scores(self, queries: Queries) -> np.ndarray:
        found = self._users[queries.users] @ self.item_embeddings.T
        found[:, 0] = -np.inf
        return found


class Probable(Table):
    """A ranker: its scores are logits."""

    role = "ranker"

    def probability(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-np.asarray(scores, np.float64))))


def named(prefix: str, count: int) -> Vocabulary:
    return Vocabulary(pa.array([f"{prefix}{n:05d}" for n in range(1, count + 1)], pa.string()))


def asking(users: np.ndarray, histories: list[list[int]] | None = None) -> Queries:
    histories = [[] for _ in users] if histories is None else histories
    flat = np.array([item for history in histories for item in history], np.int64)
    starts = np.concatenate([[0], np.cumsum([len(history) for history in histories])]).astype(np.int64)
    times = np.zeros(len(flat), np.int64)
    return Queries(np.asarray(users, np.int64), starts, flat, times, times, np.zeros(len(users), np.int64))


def tastes(users: int, items: int, seed: int = 0, topics: int = 5, fame: float = 0.6) -> np.ndarray:
    """(users + 1, items + 1) float32: how much each shopper likes each item; some items please everybody."""
    rng = np.random.default_rng(seed)
    wants, offers = rng.normal(size=(users + 1, topics)), rng.normal(size=(items + 1, topics))
    return (wants @ offers.T + fame * topics * rng.normal(size=items + 1)).astype(np.float32)


def shop(
    users: int = 260,
    items: int = 90,
    acts: int = 14,
    new: int = 8,
    seed: int = 0,
    repeat: float = 0.0,
    disliked: bool = False,
) -> tuple[BehaviourSet, np.ndarray]:
    """A split shop and the tastes behind it. The last `new` items come up in validation and test alone.

    repeat: the share of test acts on what the shopper had already. disliked: explicit negatives too.
    """
    likes = tastes(users, items, seed)
    rng = np.random.default_rng(seed + 1)
    parts: dict[str, list[tuple[int, int, int, float]]] = {"train": [], "validation": [], "test": []}
    for user in range(1, users + 1):
        noisy = likes[user, 1:] + rng.gumbel(size=items) * 1.5
        old = np.argsort(-noisy[: items - new])[:acts] + 1
        fresh = np.argsort(-noisy[items - new :])[:2] + items - new + 1
        drawn = rng.permutation(old)
        some = len(drawn) if user % 7 else 3  # every seventh shopper has little history
        chosen = {
            "train": drawn[: some - 2 - some // 5],
            "validation": drawn[some - 2 - some // 5 : some - 2],
        }
        chosen["test"] = drawn[some - 2 : some]
        if user % 3 == 0:
            chosen["validation"] = np.append(chosen["validation"], fresh[0])
            chosen["test"] = np.append(chosen["test"], fresh[1])
        if rng.random() < repeat:
            chosen["test"] = np.append(chosen["test"], chosen["train"][:1])
        for time, (part, rows) in enumerate(chosen.items()):
            parts[part] += [(user, int(item), time * 1000 + n, 1.0) for n, item in enumerate(rows)]
            if disliked:
                worst = rng.choice(np.argsort(noisy[: items - new])[:20], 2, replace=False) + 1
                parts[part] += [(user, int(item), time * 1000 + 50, 0.0) for item in worst]
    done = {}
    for part, acted in parts.items():
        columns = np.array(acted).T
        rows = [columns[n].astype(np.int64) for n in range(3)]
        done[part] = Interactions.sorted(rows[0], rows[1], times=rows[2], labels=columns[3])
    return BehaviourSet(named("u", users), named("i", items), (), done), likes


def counts(data: BehaviourSet) -> np.ndarray:
    """(N + 1,) positives in train: popularity."""
    return np.bincount(data.part("train").positive.items, minlength=len(data.items)).astype(np.float32)


def noise(data: BehaviourSet, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(data.users), len(data.items))).astype(np.float32)
