"""What the MLflow endpoint answers: a table of questions → a table of answers, one class for each task.

`etalage.serve.pyfunc` says how a task is chosen, and shows a request of each.
"""

import base64
import binascii
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, get_args, get_type_hints

import numpy as np
from PIL import Image

from etalage import api
from etalage.api import MAX_ACTS, MAX_K, Act
from etalage.config import suggestion
from etalage.errors import RequestError, Unprocessable
from etalage.funnel.catalogue import Catalogue
from etalage.online import LiveStore
from etalage.recommend import Recommender
from etalage.serve.moments import read_moment

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
ENCODINGS = ("png", "float32_hex", "none")


class TableTask(Protocol):
    """One task of a bundle."""

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The parameters, and what holds when one is not given."""
        ...

    def answer(self, data: "pd.DataFrame", asked: Mapping[str, Any]) -> "pd.DataFrame":
        """Raises RequestError that names the rows which cannot be answered; Unprocessable: a parameter."""
        ...

    def example(self) -> "pd.DataFrame":
        """Questions that the bundle can answer: the signature is inferred from them."""
        ...


class SimilarTable:
    """Column `input`, base64 of an image file → row, rank, item_id, score, image."""

    defaults: ClassVar[Mapping[str, Any]] = {"k": 5, "image": "png"}

    def __init__(self, recommender: Recommender, live: LiveStore | None = None) -> None:
        """Raises Unprocessable: the bundle has no model of photos."""
        if recommender.embedder is None:
            raise Unprocessable("this bundle has no model of photos: choose the task `recommend` or `rank`")
        self._recommender, self._encoder = recommender, recommender.embedder.encoder

    def answer(self, data: "pd.DataFrame", asked: Mapping[str, Any]) -> "pd.DataFrame":
        """See TableTask.answer."""
        k, encoding = _k(asked), str(asked["image"])
        if encoding not in ENCODINGS:
            raise Unprocessable(f"image = {encoding!r}: one of {', '.join(ENCODINGS)}")
        photos = _decoded(data["input"].tolist())
        answers = self._recommender.similar(photos=photos, k=k) if photos else []
        return table_of_rows(
            api.SimilarRow,
            (
                api.SimilarRow(
                    answer.row, slot.rank, slot.item_id, slot.score, self._image(slot.item_id, encoding)
                )
                for answer in answers
                for slot in answer.slate
            ),
        )

    def _image(self, item_id: str, encoding: str) -> str:
        if encoding == "none":
            return ""
        return encoded(self._encoder.decode(self._recommender.photo(item_id)), encoding)

    def example(self) -> "pd.DataFrame":
        """See TableTask.example: the photo of the first item that has one; a white one where none has."""
        import pandas as pd

        return pd.DataFrame({"input": [_some_photo(self._recommender.catalogue)]})


class RecommendTable:
    """Columns `user_id`, `history` (JSON), one of them or both in a row → row, rank, item_id, score, why."""

    defaults: ClassVar[Mapping[str, Any]] = {"k": 10}

    def __init__(self, recommender: Recommender, live: LiveStore | None = None) -> None:
        """`live`: whose histories count for rows without one of their own."""
        self._recommender, self._live = recommender, live

    def answer(self, data: "pd.DataFrame", asked: Mapping[str, Any]) -> "pd.DataFrame":
        """See TableTask.answer."""
        k = _k(asked)
        users, histories = _texts(data, "user_id"), _texts(data, "history")
        questions, refused = [], []
        for row, (user_id, history) in enumerate(zip(users, histories, strict=True)):
            try:
                if user_id is None and history is None:
                    raise RequestError("neither user_id nor history")
                questions.append((user_id, None if history is None else read_history(history)))
            except RequestError as error:
                refused.append(f"row {row}: {error}")
        if refused:
            raise RequestError("; ".join(refused[:5]))
        return table_of_rows(api.RecommendedRow, self._rows(questions, k))

    def _rows(
        self, questions: list[tuple[str | None, list[Act] | None]], k: int
    ) -> Iterable[api.RecommendedRow]:
        for row, (user_id, history) in enumerate(questions):
            found = self._recommender.recommend(
                user_id=user_id, history=history, k=k, explain=True, live=self._live
            )
            for slot in found.slate:
                yield api.RecommendedRow(row, slot.rank, slot.item_id, slot.score, slot.why or "")

    def example(self) -> "pd.DataFrame":
        """See TableTask.example: either column may be missing."""
        import pandas as pd

        history = json.dumps([{"item_id": self._recommender.catalogue.ids[1], "kind": "buy"}])
        return pd.DataFrame({"user_id": [_some_user(self._recommender), None], "history": [None, history]})


class RankTable:
    """Columns `user_id`, `item_id` → row, score, probability (NaN where no ranker knows both)."""

    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, recommender: Recommender, live: LiveStore | None = None) -> None:
        """`live`: whose histories count."""
        self._recommender, self._live = recommender, live

    def answer(self, data: "pd.DataFrame", asked: Mapping[str, Any]) -> "pd.DataFrame":
        """See TableTask.answer."""
        pairs = list(zip(_texts(data, "user_id"), _texts(data, "item_id"), strict=True))
        refused = [
            f"row {row}: user_id and item_id are needed" for row, pair in enumerate(pairs) if None in pair
        ]
        if refused:
            raise RequestError("; ".join(refused[:5]))
        ranked = self._recommender.rank([(str(user), str(item)) for user, item in pairs], live=self._live)
        return table_of_rows(
            api.RankedRow, (api.RankedRow(one.row, one.score, one.probability) for one in ranked)
        )

    def example(self) -> "pd.DataFrame":
        """See TableTask.example."""
        import pandas as pd

        item_id = self._recommender.catalogue.ids[1]
        return pd.DataFrame({"user_id": [_some_user(self._recommender)], "item_id": [item_id]})


class ClassifyTable:
    """Columns `input` (base64 of an image file), `title`, one of them or both in a row → row, category_id,
    path, confidence. Not classified: empty texts, the best leaf's confidence (NaN: nothing to look at)."""

    def __init__(self, recommender: Recommender, live: LiveStore | None = None) -> None:
        """Raises Unprocessable: the bundle has no classifier."""
        self._recommender = recommender
        self.defaults: Mapping[str, Any] = {"threshold": recommender.classifier().settings.threshold}

    def answer(self, data: "pd.DataFrame", asked: Mapping[str, Any]) -> "pd.DataFrame":
        """See TableTask.answer."""
        threshold = float(asked["threshold"])
        if not 0 <= threshold <= 1:
            raise Unprocessable(f"threshold = {threshold:g}: 0 to 1")
        given = _texts(data, "input")
        decoded = iter(
            _decoded([text for text in given if text], [n for n, text in enumerate(given) if text])
        )
        photos = [[next(decoded)] if text else [] for text in given]
        found = self._recommender.classify(
            photos=photos, titles=_texts(data, "title"), threshold=threshold, top=0
        )
        return table_of_rows(
            api.CategoryRow,
            (api.CategoryRow(one.row, one.category_id, one.path, one.confidence) for one in found),
        )

    def example(self) -> "pd.DataFrame":
        """See TableTask.example: either column may be missing."""
        import pandas as pd

        photo = _some_photo(self._recommender.catalogue)
        return pd.DataFrame({"input": [photo, None], "title": [None, self._recommender.catalogue.title(1)]})


TASKS: dict[str, type[SimilarTable] | type[RecommendTable] | type[RankTable] | type[ClassifyTable]] = {
    "similar": SimilarTable,
    "recommend": RecommendTable,
    "rank": RankTable,
    "classify": ClassifyTable,
}


def table_of(recommender: Recommender, task: str | None, live: LiveStore | None = None) -> TableTask:
    """The table of a task; None: `similar` of a bundle with photos, else `recommend`, or `classify` of one
    that has a classifier and nothing else.

    Raises Unprocessable.
    """
    if task is None and recommender.embedder is not None:
        task = "similar"
    if task is None:
        task = "recommend" if recommender.manifest.funnel else "classify"
    if task not in TASKS:
        raise Unprocessable(f"task = {task!r}: {suggestion(task, TASKS)}")
    return TASKS[task](recommender, live)


def encoded(pixels_HWC: np.ndarray, encoding: str) -> str:
    """(H, W, C) uint8 as `png` or `float32_hex` text."""
    if encoding == "float32_hex":
        return (pixels_HWC.astype("<f4") / np.float32(255)).astype("<f4").tobytes().hex()
    flat = pixels_HWC[:, :, 0] if pixels_HWC.shape[2] == 1 else pixels_HWC
    buffer = io.BytesIO()
    Image.fromarray(flat).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def read_history(text: str) -> list[Act]:
    """`[{"item_id", "kind"?, "value"?, "time"?}, …]` or `["item_id", …]`, oldest first.

    Raises RequestError that names the place.
    """
    try:
        acts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"history: not JSON: {error}") from error
    if not isinstance(acts, list) or len(acts) > MAX_ACTS:
        raise RequestError(f"history: a JSON list of at most {MAX_ACTS} acts is needed")
    return [_act(act, f"history.{place}") for place, act in enumerate(acts)]


def _act(act: Any, where: str) -> Act:
    fields = {"item_id": act} if isinstance(act, str) else act
    if not isinstance(fields, dict) or not set(fields) <= {"item_id", "kind", "value", "time"}:
        raise RequestError(f"{where}: an item_id, or an object of item_id, kind, value, time")
    item_id, kind, value, time = (fields.get(name) for name in ("item_id", "kind", "value", "time"))
    kind = "view" if kind is None else kind
    if not (isinstance(item_id, str) and item_id and isinstance(kind, str) and kind):
        raise RequestError(f"{where}: item_id and kind are texts, and item_id is needed")
    if value is not None and not (_is_number(value) and math.isfinite(value)):
        raise RequestError(f"{where}.value: a finite number")
    try:
        when = None if time is None else read_moment(time)
    except ValueError as error:
        raise RequestError(f"{where}.time: {error}") from None
    return Act(item_id, kind, None if value is None else float(value), when)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _k(asked: Mapping[str, Any]) -> int:
    k = int(asked["k"])
    if not 1 <= k <= MAX_K:
        raise Unprocessable(f"k = {k}: 1 to {MAX_K}")
    return k


def _texts(data: "pd.DataFrame", name: str) -> list[str | None]:
    """A column of texts; None where there is none."""
    if name not in data.columns:
        return [None] * len(data)
    return [value if isinstance(value, str) else None for value in data[name].tolist()]


def _decoded(texts: list[Any], rows: Sequence[int] | None = None) -> list[bytes]:
    """Raises RequestError that names the row of each text that is not base64; `rows`: where they stand."""
    photos, refused = [], []
    for row, text in zip(rows or range(len(texts)), texts, strict=True):
        try:
            photos.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError, TypeError) as error:
            refused.append(f"row {row}: not base64: {error}")
    if refused:
        raise RequestError("; ".join(refused[:5]))
    return photos


_PANDAS = {int: "int64", float: "float64", str: "object"}
_MISSING: dict[str, Any] = {"float64": math.nan, "object": ""}


def columns_of(row: type) -> dict[str, str]:
    """Column → pandas type of a table of these rows."""
    kinds = {name: (get_args(hint) or (hint,))[0] for name, hint in get_type_hints(row).items()}
    return {name: _PANDAS[kind] for name, kind in kinds.items()}


def table_of_rows(kind: type[T], rows: Iterable[T]) -> "pd.DataFrame":
    """Dataclasses of this kind as a table; None is NaN, or an empty text."""
    import pandas as pd

    columns = columns_of(kind)
    table: dict[str, list[Any]] = {name: [] for name in columns}
    for row in rows:
        for name, pandas in columns.items():
            value = getattr(row, name)
            table[name].append(_MISSING[pandas] if value is None else value)
    return pd.DataFrame(table).astype(columns)


def _some_photo(catalogue: Catalogue) -> str:
    """The photo of the first item that has one, base64; a white one where none has."""
    rows = np.flatnonzero(catalogue.has_photo)
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 255).save(buffer, "PNG")
    photo = catalogue.photo(int(rows[0])) if len(rows) else buffer.getvalue()
    return base64.b64encode(photo).decode()


def _some_user(recommender: Recommender) -> str:
    """A shopper that the bundle knows, for the example; anybody where it knows none."""
    knowing = (recommender.users.ids, *(model.users for model in recommender.funnel.models.values()))
    return next((ids.id(1) for ids in knowing if len(ids) > 1), "somebody")
