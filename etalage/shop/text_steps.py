"""What is written about items, as embeddings by the sentence encoder that [text] names: made once for each
text, kept by its hash, read by every model as the feature source `text`."""

import hashlib
import logging
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.features.sources import TEXT, FeatureSource
from etalage.shop.kept_embeddings import keeping, kept_rows
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from etalage.bundle.manifest import Manifest
    from etalage.features.text_encoders import TextEncoder

log = logging.getLogger(__name__)


def by_item(workspace: Workspace) -> "FeatureSource | None":
    """What the encoder makes of the items of the table; None where [text] names none, or no item has a text.

    Raises ConfigError: the encoder is not there, or is none.
    """
    from etalage.features.text_encoders import TEXT_COLUMNS

    if workspace.config.text.encoder is None or not workspace.lake.table("items").exists():
        return None
    return TextReader(workspace)(workspace.lake.table("items").read(columns=["item_id", *TEXT_COLUMNS]))


class TextReader:
    """The encoder that [text] names, at work for a publish or a sync; opened when it is asked for."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @cached_property
    def encoder(self) -> "TextEncoder | None":
        """None where [text] names none. Raises ConfigError."""
        from etalage.features.text_encoders import open_encoder

        name = self._workspace.config.text.encoder
        return None if name is None else open_encoder(name, self._workspace.folder)

    def __call__(self, items: "pa.Table") -> "FeatureSource | None":
        """As `by_item`, of these items, with `item_id` and TEXT_COLUMNS; says how many have no text, and how
        many a longer one than is read."""
        from etalage.features.text_encoders import has_words, texts_of_items

        if self.encoder is None:
            return None
        texts = texts_of_items(items)
        ids = items["item_id"].combine_chunks()
        there = np.flatnonzero([has_words(text) for text in texts])
        _tell_what_is_not_read(ids, texts, there)
        if not len(there):
            return None
        found = _embedded(self._workspace, self.encoder, [texts[row] for row in there])
        return FeatureSource(ids.take(there), found, self.encoder.model_hash)

    def tell_others(self, manifest: "Manifest") -> None:
        """Say which models of a bundle learned from texts as another encoder reads them than the shop's: of
        the texts of later items they know nothing."""
        learned = {one.name: one.sources[TEXT].hash for one in manifest.models if TEXT in one.sources}
        for name, made_by in learned.items():
            ours = None if self.encoder is None else self.encoder.model_hash
            if made_by != ours:
                now = "none is set now" if ours is None else f"{ours[:8]} is set now"
                log.warning(
                    "%s learned from texts as another [text] encoder, %s, reads them, and %s: it stays with "
                    "what it learned, which knows no later items; `etalage train %s` takes the new one",
                    name, made_by[:8], now, name,
                )  # fmt: skip


def _tell_what_is_not_read(ids: "pa.Array", texts: list[str], there: np.ndarray) -> None:
    from etalage.features.text_encoders import LONGEST, TEXT_COLUMNS

    if len(there) < len(texts):
        missing = int(np.setdiff1d(np.arange(len(texts)), there)[0])
        log.warning(
            "%s of the %s items have no word in %s, such as %s: of them the feature source `text` knows "
            "nothing",
            f"{len(texts) - len(there):,}", f"{len(texts):,}", ", ".join(TEXT_COLUMNS), ids[missing],
        )  # fmt: skip
    cut = [row for row in there if len(texts[row]) > LONGEST]
    if cut:
        log.warning(
            "%s of the %s items have more than %s characters of text, such as %s: the first ones are read",
            f"{len(cut):,}", f"{len(texts):,}", f"{LONGEST:,}", ids[cut[0]],
        )  # fmt: skip


def of_no_item(workspace: Workspace) -> tuple[int, int]:
    """How many embeddings the table `embeddings` has of texts that no item has any more, and their bytes."""
    table = workspace.lake.table("embeddings")
    if not table.exists():
        return 0, 0
    count = bytes = 0
    matches = _of_no_item(workspace)
    for batch in table.batches(columns=["owner", "id", "embedding"]):
        gone = batch.filter(matches(batch))
        count += gone.num_rows
        bytes += 4 * int(pc.sum(pc.list_value_length(gone["embedding"])).as_py() or 0)
    return count, bytes


def forget_of_no_item(workspace: Workspace) -> int:
    """Delete them; how many."""
    table = workspace.lake.table("embeddings")
    return table.delete_matching(("owner", "id"), _of_no_item(workspace))


def _of_no_item(workspace: Workspace) -> "Callable[[pa.Table | pa.RecordBatch], pa.Array]":
    from etalage.features.text_encoders import TEXT_COLUMNS, texts_of_items

    items = workspace.lake.table("items")
    texts = texts_of_items(items.read(columns=list(TEXT_COLUMNS))) if items.exists() else []
    there = pa.array(sorted({_key(text) for text in texts}), pa.string())
    return lambda rows: pc.and_(
        pc.equal(rows["owner"], "text"), pc.invert(pc.is_in(rows["id"], value_set=there))
    )


def _key(text: str) -> str:
    from etalage.features.text_encoders import LONGEST

    return hashlib.sha256(text[:LONGEST].encode()).hexdigest()


def _embedded(workspace: Workspace, encoder: "TextEncoder", texts: list[str]) -> np.ndarray:
    """(M, D) float32 of M texts; those that the table `embeddings` has are not looked at again."""
    from etalage.features.text_encoders import AT_ONCE

    keys = [_key(text) for text in texts]
    known = kept_rows(workspace, "text", encoder.model_hash)
    fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    waiting = list(fresh)
    with (
        workspace.bar(f"read texts with {encoder.name}", len(waiting)) as meter,
        keeping(workspace, "text", encoder.model_hash) as keep,
    ):
        for start in range(0, len(waiting), AT_ONCE):
            some = waiting[start : start + AT_ONCE]
            made = dict(zip(some, encoder.encode([fresh[key] for key in some]), strict=True))
            known |= made
            keep(made)
            meter(len(some))
    return np.array([known[key] for key in keys], np.float32)
