"""The manifest of a bundle: what it holds, from which versions, and the hash of every file.

`manifest.json` is written last; a folder without it is no bundle. The bundle's id carries the
first 8 hex digits of the SHA-256 of the manifest's content (all keys but `id`, canonical JSON), so
that an edited manifest no longer fits its own id.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from etalage.api import BundleModel
from etalage.bundle.formats import as_today
from etalage.config import ClassifyConfig, Settings
from etalage.errors import BundleDamaged, BundleError
from etalage.lake.durable_files import hash_file
from etalage.runtime.export_files import ModelKind

FORMAT = 4
"""1: one model of photos. 2: models of behaviour and a funnel too, photos optional. 3: a classifier, and what
it says of each item. 4: every model, of whatever kind, is an entry of `models`. All are read."""
MANIFEST = "manifest.json"
_ID = re.compile(r"b([0-9]{6,12})-[0-9a-f]{8}")


class FileFacts(Settings):
    """SHA-256 (hex) and length in bytes of one file of the bundle."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class RecallFacts(Settings):
    """Recall@k of the index against the exact one, with a `share` of rows allowed (None: all): drawn ones, or
    those of a `filter`, in words."""

    share: float | None
    k: int
    recall: float
    queries: int
    filter: str | None = None


class IndexFacts(Settings):
    """The index of a model's item embeddings, in the folder `dir`. `per_category`: how many items of each
    category are in it (None: all that the model can say something of); `indexed`: how many in all."""

    kind: str
    dir: str
    indexed: int
    first_row: Literal[0, 1] = 1
    """Of the bundle's items, as the index counts them: 0 in formats 1 to 3."""
    per_category: int | None = None
    recall: tuple[RecallFacts, ...] = ()


class SourceFacts(Settings):
    """A feature source of a model: `hash` is that of the export that made it, `unknown` counts the bundle's
    items that it knows nothing of."""

    hash: str
    unknown: int = 0


class TextFacts(Settings):
    """What a sentence encoder made of the items' texts: `hash` is the encoder's, `dimension` that of its
    embeddings, which are in the file `embeddings`."""

    hash: str
    dimension: int
    embeddings: str
    index: IndexFacts


class ClassifierFacts(Settings):
    """What a classifier is asked about. `taxonomy` is the version of the taxonomy that it classifies into,
    `leaves` how many leaves that has; `text`: it reads titles, `photos`: it looks at photos."""

    taxonomy: str
    leaves: int
    text: bool
    photos: bool = True
    settings: ClassifyConfig
    """How it is asked, where a request does not say."""


class RefitFacts(Settings):
    """How a model was fitted again on everything. `at`: when, in UTC; `judged`: the hash of the export that
    the verdict is about, by whose settings it learned; `interactions`: how many acts it learned from;
    `epochs`: of a network that is trained by steps."""

    at: str
    judged: str
    interactions: int
    epochs: int | None = None


class ModelEntry(Settings):
    """One model of the bundle, in the folder `dir`. `hash` is that of its export, `aligned` that of what lies
    here, in the order of the bundle's items; the same where a model does not speak of items of its own."""

    name: str
    kind: ModelKind
    """How it is opened."""
    role: str
    hash: str
    aligned: str
    dir: str
    dimension: int | None = None
    """Of its embeddings, where it makes some."""
    verdict: dict[str, Any] | None = None
    forced: bool = False
    """A person published it although its verdict did not pass."""
    slice: str | None = None
    """What part of the shoppers or items it was judged to be better for; None: all."""
    embeddings: str | None = None
    """The file of what a photo embedder made of the bundle's items."""
    index: IndexFacts | None = None
    classifier: ClassifierFacts | None = None
    fitted_on: str | None = None
    """`everything`: fitted again on all acts when it was published; None: what it was judged with."""
    refit: RefitFacts | None = None
    """Of what was fitted again: when, and of which export the verdict is."""
    as_judged: str | None = None
    """Why this model of behaviour was not fitted again; None: it was, or the bundle does not say."""
    behind: bool = False
    """It loses to popularity: it brings candidates to the ranker, and speaks nowhere else."""
    unjudged: str | None = None
    """Why nobody knows whether this closed-form model is better than popularity; None: its verdict says."""
    sources: dict[str, SourceFacts] = Field(default_factory=dict)
    """What it takes of other models' embeddings of the items, by name."""

    @property
    def learned(self) -> BundleModel:
        """From what it learned, as it is told over the wire."""
        again = self.refit
        judged, at = (self.hash, None) if again is None else (again.judged, again.at)
        return BundleModel(self.name, self.role, self.hash, judged, at, self.as_judged)


class ClassifiedFacts(Settings):
    """Which models classified how many of the bundle's items; `note`: where that is not the bundle's own."""

    items: int
    by: dict[str, int]
    note: str | None = None


class RefusedFacts(Settings):
    """A model that was not published, and why."""

    name: str
    hash: str
    reason: str
    kind: str | None = None
    """None: an older bundle did not say."""


class MomentFacts(Settings):
    """What the version of a table can be known again by: its number alone is given again where a table is
    made anew, or put back from a copy (lake/ledger.py)."""

    table_id: str
    version: int
    commit: str | None


class Manifest(Settings):
    """What `manifest.json` says. `tables` are Delta versions; `items` counts the payload's rows; `forced`
    names the refusals that a person overrode; `models` stand in the order of the funnel, what looks at photos
    and what classifies behind them."""

    format: int
    id: str
    sequence: int = Field(ge=1)
    created_at: str
    tables: dict[str, int]
    moments: dict[str, MomentFacts] = Field(default_factory=dict)
    """Of `tables`; none in older bundles."""
    models: tuple[ModelEntry, ...] = ()
    texts: TextFacts | None = None
    """Of items' texts; None: the shop names no encoder, or no item has a text."""
    classified: ClassifiedFacts | None = None
    refused: tuple[RefusedFacts, ...] = ()
    users: int = 0
    """Shoppers whose embeddings are in the bundle."""
    items: int = Field(ge=0)
    currency: str | None = None
    """Of items that name none, as the shop said when it published; None: not known."""
    forced: tuple[str, ...] = ()
    previous: str | None = None
    synced_from: str | None = None
    files: dict[str, FileFacts]

    def __repr__(self) -> str:
        names = ", ".join(one.name for one in self.models)
        return f"<bundle {self.id}: {self.items:,} items; {names or 'no model'}>"

    __str__ = __repr__

    def of_kind(self, *kinds: ModelKind) -> tuple[ModelEntry, ...]:
        """The models of these kinds."""
        return tuple(one for one in self.models if one.kind in kinds)

    @property
    def funnel(self) -> tuple[ModelEntry, ...]:
        """The models of behaviour, in the order of the funnel."""
        return self.of_kind("prior", "item_item", "embeddings", "pairs")

    @property
    def photo_models(self) -> tuple[ModelEntry, ...]:
        """The photo embedders."""
        return self.of_kind("photos")

    @property
    def classifiers(self) -> tuple[ModelEntry, ...]:
        """What says of an item what it is."""
        return self.of_kind("classifier")


def is_bundle_id(text: str) -> bool:
    """True for `b000012-89abcdef` and nothing else: an id is never a path."""
    return _ID.fullmatch(text) is not None


def sequence_of(bundle: str) -> int:
    """The number in a bundle's id; ids grow with it, whatever the clock says."""
    found = _ID.fullmatch(bundle)
    if found is None:
        raise ValueError(f"{bundle!r} is not a bundle id")
    return int(found.group(1))


def identify(content: dict[str, Any]) -> str:
    """The id that belongs to a manifest's content (`id` itself is left out of the hash)."""
    body = {key: value for key, value in content.items() if key != "id"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"b{body['sequence']:06d}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def to_bytes(manifest: Manifest) -> bytes:
    """The bytes of manifest.json."""
    return (json.dumps(manifest.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


def seal(content: dict[str, Any]) -> Manifest:
    """A Manifest from its content, with the id computed from it."""
    draft = Manifest.model_validate({**content, "id": ""})
    dumped = draft.model_dump(mode="json")
    return draft.model_copy(update={"id": identify(dumped)})


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json`: format, fields, and that the id fits content and folder.

    Raises BundleDamaged (missing, not JSON, changed) or BundleError (a newer format).
    """
    file = folder / MANIFEST
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise BundleDamaged(f"{file} is missing: {_remedy()}") from error
    except OSError as error:
        raise BundleDamaged(f"{file} cannot be read: {error}; {_remedy()}") from error
    return manifest_of(content, folder.name, str(file))


def manifest_of(content: bytes, bundle: str, file: str) -> Manifest:
    """The manifest of the bundle with the id `bundle`, from what its `file` holds. Raises as
    `read_manifest`."""
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleDamaged(f"{file} cannot be read: {error}; {_remedy()}") from error
    number = raw.get("format") if isinstance(raw, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise BundleError(
            f"{file}: format {number}; this Etalage reads formats up to {FORMAT}: upgrade Etalage, "
            "or go back to an older bundle (`etalage bundles`, `etalage rollback ID`)"
        )
    try:
        manifest = Manifest.model_validate(as_today(raw))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleDamaged(f"{file}: {where}: {first['msg']}; {_remedy()}") from error
    if identify(raw) != manifest.id or bundle != manifest.id:
        raise BundleDamaged(f"{file} was changed: it does not fit the id {bundle}; {_remedy()}")
    return manifest


def verify(folder: Path) -> Manifest:
    """Hash every file of the bundle and compare with the manifest; nothing is opened otherwise.

    Raises BundleDamaged with the file's name: missing, changed, or not listed in the manifest (a
    planted file, a link).
    """
    manifest = read_manifest(folder)
    found = _files(folder)
    for name in manifest.files:
        if name not in found:
            raise BundleDamaged(f"{folder / name} is missing: {_remedy()}")
    for name in sorted(found):
        if name == MANIFEST:
            continue
        facts = manifest.files.get(name)
        if facts is None:
            raise BundleDamaged(f"{folder / name} is not listed in the manifest: {_remedy()}")
        try:
            written = hash_file(folder / name)
        except OSError as error:
            raise BundleDamaged(f"{folder / name} cannot be read: {error}; {_remedy()}") from error
        if written != (facts.sha256, facts.bytes):
            raise BundleDamaged(f"{folder / name} was changed (SHA-256 differs): {_remedy()}")
    return manifest


def _files(folder: Path) -> set[str]:
    """All entries beneath `folder` that are not real folders, as relative POSIX paths."""
    found: set[str] = set()
    for name, folders, files in os.walk(folder, followlinks=False):
        parent = Path(name)
        links = [one for one in folders if (parent / one).is_symlink()]
        found.update((parent / one).relative_to(folder).as_posix() for one in [*files, *links])
    return found


def _remedy() -> str:
    return "publish again, or `etalage rollback ID` to a whole bundle (`etalage bundles` lists them)"
