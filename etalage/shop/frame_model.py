"""A model on a data frame, without a shop: `etalage.model("item_knn").fit(frame).recommend("u1")`.

Everything is done by the steps of a shop, in a temporary folder that goes with the object: the same reading
of the frame, the same split, the same questions, so that the figures are those of a shop with this data.
Only the tracking in MLflow is left out. A model that counts or solves learns from everything that `fit` is
given; a network holds back what it is validated on, as in a shop. `evaluate` trains anew on what its split
leaves.
"""

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etalage.api import Answer, Slot
from etalage.config import MappingConfig, ShopConfig, texts_of, validated
from etalage.console import counted
from etalage.errors import ConfigError, InputUnreadable, NotFound, TooLittleData, Unprocessable
from etalage.features.behaviour import NEVER, Queries
from etalage.features.encoder import Features
from etalage.features.history import Histories
from etalage.lake.casting import identity
from etalage.lake.column_names import likely
from etalage.lake.drafting.drafts import Ids
from etalage.lake.drafting.guessing import columns_of, drafted
from etalage.lake.feeds.contract import Head
from etalage.lake.feeds.recognising import Recognised
from etalage.lake.frames import DataFrame, frame_of, is_frame
from etalage.lake.notes import Note
from etalage.nearest import nearest
from etalage.runtime.retrieving import Excluded
from etalage.shop import behaviour_steps, judging_steps
from etalage.shop.answers import Alike, Slate
from etalage.shop.known_names import require_known_names
from etalage.shop.search_steps import attempts_of, searched
from etalage.shop.shop import Shop
from etalage.training.export_source import Source

if TYPE_CHECKING:
    from etalage.evaluation.evaluation import Evaluation
    from etalage.features.behaviour import BehaviourSet
    from etalage.lake.drafting.drafts import Draft
    from etalage.lake.frames import Frame
    from etalage.lake.ingest import Ingested, TableName
    from etalage.runtime.scorer import ExportScorer
    from etalage.shop.behaviour_steps import Behaviour

_LOOKED_AT = 1000
_SHOWN = ("title", "brand", "price", "currency", "category_id", "in_stock")


def model(
    name: str,
    *,
    behaviour: Mapping[str, Any] | None = None,
    evaluate: Mapping[str, Any] | None = None,
    **settings: Any,
) -> "FrameModel":
    """A model to try on data frames: `model("item_knn", neighbours=50)`.

    settings: of the model, as in [models.NAME]. behaviour: as [behaviour] of a shop.toml, such as
    {"positive_from": 4, "split": "leave_one_out"}. evaluate: as [evaluate]. Raises ConfigError: no such model
    or setting, or one that needs a shop (photos, categories, rankers).
    """
    given = {"behaviour": dict(behaviour or {}), "evaluate": dict(evaluate or {}), "models": {name: settings}}
    return FrameModel(name, validated(ShopConfig, given, where=f"model {name!r}"))


@dataclass(frozen=True)
class Learned:
    """What a model learned from, and how much was not taken."""

    interactions: int
    positive: int
    """How many of them say that a shopper wants the item; a model of positives alone learns from these."""
    shoppers: int
    items: int
    held_back: int
    """Interactions that a network is validated and tested on; 0: none."""
    refused: int
    """Rows of the frames that could not be taken: see `FrameModel.loaded`."""
    seconds: float

    def __str__(self) -> str:
        less = f"; {self.held_back:,} held back to validate and test it" if self.held_back else ""
        less += f"; {self.refused:,} rows of the frame refused" if self.refused else ""
        return (
            f"learned from {self.interactions:,} interactions ({self.positive:,} positive) of "
            f"{self.shoppers:,} shoppers with {self.items:,} items in {self.seconds:.1f} s{less}"
        )


class FrameModel:
    """See `model`. Its folder goes when the object does, or with `close`."""

    def __init__(self, name: str, config: ShopConfig) -> None:
        self.name = name
        self._config = config
        self._folder = tempfile.TemporaryDirectory(prefix="etalage-", ignore_cleanup_errors=True)
        self._fitted: _Fitted | None = None
        self.loaded: dict[str, Ingested] = {}
        """What became of the rows of each frame: counts, refusals, notes."""
        shop = _Aside(Path(self._folder.name) / "fit", config)
        listed = shop.models.listed().get(name)  # as its file says, which is run only where it helps
        if listed is not None and listed.data != "behaviour":
            raise ConfigError(
                f"{name}: learns from {listed.data}, which takes a shop: `Shop.create(folder, name)`, then "
                f"ingest and `train({name!r})`"
            )
        recipe = shop.models.find(name)
        validated(recipe.config, config.models[name], where=f"model {name!r}")
        self._shop, self._recipe = shop, recipe

    def __repr__(self) -> str:
        given = "".join(f", {key}={value!r}" for key, value in self._config.models[self.name].items())
        said = "not fitted yet" if self._fitted is None else str(self._fitted.learned)
        notes = sum(len(one.notes) for one in self.loaded.values())
        noted = f"; {counted(notes, 'note', 'notes')} (`.loaded`)" if notes else ""
        return f"<model {self.name}{given}: {said}{noted}>"

    def _repr_html_(self) -> str:
        """With what was guessed and refused of each frame."""
        frames = "".join(f"<p>{table}:</p>{one._repr_html_()}" for table, one in self.loaded.items())
        return f"<p>{escape(repr(self))}</p>{frames}"

    @property
    def learned(self) -> Learned:
        """What it learned from. Raises ConfigError: it is not fitted yet."""
        return self._require_fitted().learned

    def close(self) -> None:
        """Remove the temporary folder now. The model cannot be asked any more."""
        self._folder.cleanup()
        self._fitted = None

    def fit(
        self,
        interactions: DataFrame,
        items: DataFrame | None = None,
        users: DataFrame | None = None,
        *,
        columns: Mapping[str, str] | None = None,
    ) -> "FrameModel":
        """Learn from what shoppers did, and return the model.

        interactions: a frame of pandas, polars or Arrow with a shopper, an item and, where there are any, a
        time, a kind and a value. items: the catalogue, with titles, prices, attributes. users: attributes of
        shoppers. columns: Etalage's column → that of `interactions`; what is not named is guessed from names
        and values, as by `etalage new --from`, and said in `loaded`. Raises InputUnreadable: no shopper or no
        item; TooLittleData.
        """
        started = time.perf_counter()
        if self._fitted is not None:
            shutil.rmtree(self._fitted.shop.folder, ignore_errors=True)
        self._fitted, self.loaded = None, {}
        shop = self._shop = _Aside(self._new_folder("fit"), self._config)
        frames: dict[TableName, DataFrame | None] = {
            "items": items, "users": users, "interactions": interactions,
        }  # fmt: skip
        mapping = MappingConfig()
        for table, given in frames.items():
            if given is not None:
                frame = _frame(given, table)
                mapping, notes = _guess(frame, table, columns or {} if table == "interactions" else {})
                self.loaded[table] = _load(shop, frame, table, mapping)
                self.loaded[table].notes[:0] = notes
        whole, export = self._trained(shop, everything=self._recipe.role == "closed_form")
        refused = sum(one.refused for one in self.loaded.values())
        learned = _learned(whole.data, refused, time.perf_counter() - started)
        self._fitted = _Fitted(shop, whole, export, learned, mapping)
        return self

    def recommend(
        self, user: str | float | None = None, n: int = 10, *, history: Sequence[str | float] | None = None
    ) -> Alike:
        """The n items that the model finds for a shopper of the frame, or for one who had the items of
        `history`, oldest first. What a shopper has is left out, as [funnel] seen has it by default.

        Raises NotFound: no such shopper or item; Unprocessable: both, or neither, or nothing to go by.
        """
        fitted = self._require_fitted()
        if (user is None) == (history is None):
            raise Unprocessable("give a user or a history, one of them")
        if n < 1:
            raise Unprocessable(f"n = {n}: at least 1")
        if user is not None:
            return fitted.for_user(_id(user), n)
        return fitted.for_history([_id(one) for one in history or ()], n)

    def evaluate(
        self,
        test: DataFrame | None = None,
        *,
        split: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> "Evaluation":
        """Train on a part of what `fit` was given, and measure on the rest, beside the simple models.

        split: `time` (by default, or as `behaviour` says), `leave_one_out`, `last_n`, `random`. test: a frame
        to measure on instead, as a split that was published; one interaction of each shopper of the frame is
        then held back for validation. columns: where those of `test` are called otherwise than in `fit`.
        The figures are those of a shop with the same data. Raises ConfigError: `test` and `split`;
        TooLittleData, LeakageFound.
        """
        fitted = self._require_fitted()
        if test is not None and split is not None:
            raise ConfigError("give test or split, one of them: a frame to test on is a split already")
        shop = fitted.shop
        if test is not None:
            shop = self._with_test(test, columns)
        elif split is not None:
            shop = _Aside(shop.folder, _with_split(self._config, split))
        whole, done = self._judged(shop)
        parts = {name: len(part) for name, part in whole.data.parts.items() if len(part)}
        told = ", ".join(f"{count:,} {name}" for name, count in parts.items())
        if left := whole.data.facts.get("repeated"):
            told += f" ({left:,} left out of the later parts: their shoppers had the item before)"
        how = "test frame" if test is not None else f"split {shop.config.behaviour.split!r}"
        return replace(done, about=(f"interactions by {how}: {told}", *done.about))

    # -- parts -----------------------------------------------------------------------------------

    def _require_fitted(self) -> "_Fitted":
        if self._fitted is None:
            raise ConfigError(f"model {self.name}: not fitted yet: `.fit(interactions)` first")
        return self._fitted

    def _judged(self, shop: Shop) -> "tuple[Behaviour, Evaluation]":
        """Train on what the shop's split leaves, and measure on the rest. What was trained goes again; what
        it was compared with stays."""
        from etalage.evaluation.evaluation import evaluate

        whole, export = self._trained(shop, everything=False)
        try:
            return whole, evaluate(judging_steps.evaluator_of(shop, self._recipe, export))
        finally:
            shutil.rmtree(export.parent, ignore_errors=True)

    def _new_folder(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._folder.name))

    def _trained(self, shop: Shop, everything: bool) -> "tuple[Behaviour, Path]":
        """everything: nothing is held back."""
        from etalage.training.run import resolve

        recipe = self._recipe
        config = resolve(recipe, shop.config.models.get(self.name, {}), {})
        if everything:
            config = self._chosen(shop, config)
            whole = behaviour_steps.behaviour(shop, whole=True)
        else:
            whole = behaviour_steps.for_training(shop, recipe, config)
        aside = self._new_folder("exports")
        return whole, behaviour_steps.train(shop, recipe, config, False, whole, aside)[1]

    def _chosen(self, shop: Shop, config: Any) -> Any:
        """The settings that a shop's training would choose on validation: of everything, nothing is left to
        compare them by."""
        if len(attempts_of(self._recipe, config.model_dump(exclude_unset=True))) < 2:
            return config
        try:
            split = behaviour_steps.behaviour(shop).data
        except TooLittleData:
            return config
        return searched(shop, self._recipe, config, split, Source.of(split))[0]

    def _with_test(self, test: DataFrame, columns: Mapping[str, str] | None) -> Shop:
        """A shop whose interactions are of the part train, with those of `test` as the part test."""
        shop = _Aside(self._new_folder("test"), _with_split(self._config, "published"))
        before = self._require_fitted().shop.lake
        for name in ("items", "users"):
            if before.table(name).exists():
                shop.lake.table(name).merge(before.table(name).read())
        acts = before.table("interactions").read()
        part = acts.schema.get_field_index("part")
        acts = acts.set_column(part, acts.schema.field(part), pa.array(["train"] * len(acts), pa.string()))
        shop.lake.table("interactions").merge(acts)
        mapping = self._require_fitted().mapping
        said = {
            "columns": {**mapping.columns, **(columns or {})},
            "constants": {**mapping.constants, "part": "test"},
        }
        mapping = mapping.model_copy(update=said)
        self.loaded["test"] = _load(shop, _frame(test, "test"), "interactions", mapping)
        return shop


def _id(given: object) -> str:
    """An id as the tables have it: 3 and 3.0 are `3`. Raises Unprocessable."""
    try:
        return identity(given.item() if isinstance(given, np.generic) else given)
    except ValueError as error:
        raise Unprocessable(f"{given!r}: an id {error}") from None


class _Aside(Shop):
    """A shop in a temporary folder, with settings from Python and without tracking."""

    tracked = False

    def __init__(self, folder: Path, config: ShopConfig) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "shop.toml").touch()
        super().__init__(folder)
        self._given = config
        require_known_names(config, "model", self.models)

    @cached_property
    def config(self) -> ShopConfig:
        return self._given


def _with_split(config: ShopConfig, split: str) -> ShopConfig:
    behaviour = {**config.behaviour.model_dump(exclude_unset=True), "split": split}
    changed = validated(type(config.behaviour), behaviour, where="evaluate")
    return config.model_copy(update={"behaviour": changed})


def _learned(data: "BehaviourSet", refused: int, seconds: float) -> Learned:
    from etalage.training.learned_from import learned_from

    held = sum(len(part) for name, part in data.parts.items() if name != "train")
    of = learned_from(data)
    positive = len(data.part("train").positive)
    return Learned(of["interactions"], positive, of["shoppers"], of["items"], held, refused, seconds)


# -- frames in ---------------------------------------------------------------------------------


def _frame(given: DataFrame, name: str) -> "Frame":
    """Raises InputUnreadable: it is no data frame, or can mean several things."""
    if is_frame(given):
        return frame_of(given, name)
    raise InputUnreadable(
        f"{name}: {type(given).__name__} is no data frame; `pandas.read_csv(file)`, `polars.read_csv`, or a "
        "shop, which loads files: `Shop.create(folder, name)`"
    )


def _load(shop: Shop, frame: "Frame", table: "TableName", mapping: MappingConfig) -> "Ingested":
    """Ingest a frame. Raises InputUnreadable; TooLittleData: no row could be taken."""
    from etalage.lake.ingest import ingest

    done = ingest(shop.lake, frame, table, mapping)
    if not done.read or done.read == done.refused - done.photos_refused:
        why = next(iter(done.first_refused.values()), "it has no rows")
        raise TooLittleData(f"{frame.whence}: none of {done.read:,} rows could be taken: {why}")
    return done


def _guess(frame: "Frame", table: str, columns: Mapping[str, str]) -> tuple[MappingConfig, list[Note]]:
    """What `etalage new --from` would write for the frame, behind what `columns` says; and what of it was
    guessed."""
    draft = _draft(frame)
    guessed: dict[str, Any] = {}
    if draft is not None and draft.table == table:
        guessed = _settings(draft)
    else:
        names = {ours: name for name in frame.columns if (ours := likely(table, name)) is not None}
        guessed["columns"] = {ours: name for ours, name in names.items() if ours not in frame.columns}
    read = guessed.get("columns", {})
    guessed["columns"] = {
        ours: source
        for ours, source in read.items()
        if ours not in columns and source not in columns.values()
    } | dict(columns)
    for name in columns:
        guessed.get("constants", {}).pop(name, None)
    mapping = validated(MappingConfig, guessed, where=f"columns of {frame.whence}")
    said = {ours: texts_of(source) for ours, source in mapping.columns.items() if ours not in columns}
    said = {ours: texts for ours, texts in said.items() if texts != (ours,)}
    told = [f"{ours} = {' or '.join(texts)}" for ours, texts in said.items()]
    told += [f"{ours} is {word!r} in every row" for ours, word in mapping.constants.items()]
    if not told:
        return mapping, []
    return mapping, [Note(f"guessed: {', '.join(told)} (columns={{...}} says otherwise)")]


def _settings(draft: "Draft") -> dict[str, Any]:
    """What the draft is sure of, as it stands beneath [ingest.<table>]."""
    found: dict[str, Any] = {"columns": columns_of(draft.lines)}
    for one in draft.settings:
        if one.sure and one.name != "#":
            at = found
            for part in one.within.split(".") if one.within else ():
                at = at.setdefault(part, {})
            at[one.name] = one.value
    return found


def _draft(frame: "Frame") -> "Draft | None":
    first = next(frame.raw(_LOOKED_AT).chunks(), None)
    if first is None or not first.lines:
        return None
    rows = tuple(first.row(n) for n in range(len(first.lines)))
    head = Head(Path(frame.whence.name), "parquet", tuple(first.columns), rows)
    try:
        return drafted(Recognised(head), Ids())
    except InputUnreadable:
        return None


# -- fitted ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fitted:
    """A model that can be asked: its data, its export, what it learned."""

    shop: Shop
    whole: "Behaviour"
    export: Path
    learned: Learned
    mapping: MappingConfig
    """Of the interactions."""

    @cached_property
    def scorer(self) -> "ExportScorer":
        from etalage.runtime.opening import open_scorer

        return open_scorer(self.export)

    @cached_property
    def data(self) -> "BehaviourSet":
        """All acts as what shoppers did before they ask: what was held back while training too."""
        from etalage.features.behaviour import PARTS, Interactions

        data = self.whole.data
        every = Interactions.joined(*(data.part(name) for name in PARTS))
        return data.with_parts(**{name: Interactions.none() for name in PARTS[1:]}, train=every)

    def for_user(self, user: str, n: int) -> Alike:
        row = self.data.users.row(user)
        if not row:
            near = nearest(user, self.data.users.ids.to_pylist())
            hint = f"did you mean {near!r}? " if near else ""
            raise NotFound(
                f"nothing is known of shopper {user[:60]!r}; {hint}of a stranger, say what they had: "
                "history=[...]"
            )
        users = np.array([row])
        queries = self.data.queries_of(users, self.data.before("test").positive, self._now)
        seen = self.data.seen("test").of_users(users).items
        return self._slate(queries, seen, n, f"shopper {user}")

    def for_history(self, items: Sequence[str], n: int) -> Alike:
        rows = np.array([self._row(item) for item in items], np.int64)
        if not len(rows):
            raise Unprocessable("history is empty; give items that somebody had, or a user")
        kinds = np.full(len(rows), self._commonest_kind)
        histories = Histories(np.array([0, len(rows)]), rows, kinds, np.full(len(rows), self._now[0]))
        queries = Queries.of(np.zeros(1, np.int64), histories, self._now, self._no_features)
        return self._slate(queries, rows, n, f"somebody who had {counted(len(rows), 'item', 'items')}")

    def _row(self, item: str) -> int:
        row = self.data.items.row(item)
        if not row:
            near = nearest(item, self.data.items.ids.to_pylist())
            raise NotFound(
                f"history: no such item {item[:60]!r}" + (f"; did you mean {near!r}?" if near else "")
            )
        return row

    @cached_property
    def _now(self) -> np.ndarray:
        """(1,) the last moment of which anything is known."""
        return np.array([self.data.part("train").times.max(initial=NEVER)])

    @cached_property
    def _commonest_kind(self) -> int:
        return int(np.bincount(self.data.part("train").positive.kinds, minlength=1).argmax())

    @cached_property
    def _no_features(self) -> Features:
        features = self.data.user_features
        return features.take(np.zeros(1, np.int64)) if len(features) else features

    def _slate(self, queries: Queries, seen: np.ndarray, n: int, whom: str) -> Alike:
        found = self.scorer.retriever().find(queries, n, None, Excluded([seen], len(self.data.items)))
        places = [(int(row), float(score)) for row, score in zip(found.rows[0], found.scores[0], strict=True)]
        slots = [
            Slot(rank=rank, score=score, photo=None, **self._shown(self.data.items.id(row)))
            for rank, (row, score) in enumerate([one for one in places if one[0]], start=1)
        ]
        reason = None if len(slots) == n else f"the model finds only {len(slots)}"
        return Slate(f"for {whom}, by {self.scorer.name}", Answer(0, None, reason, slots), slots, Slot)

    def _shown(self, item_id: str) -> dict[str, Any]:
        return {"item_id": item_id, **self._items.get(item_id, dict.fromkeys(_SHOWN))}

    @cached_property
    def _items(self) -> dict[str, dict[str, Any]]:
        table = self.shop.lake.table("items")
        if not table.exists():
            return {}
        rows = table.read(columns=["item_id", *_SHOWN]).to_pylist()
        return {row.pop("item_id"): row for row in rows}
