"""A BehaviourSet as a folder of arrays that several processes map: none of them holds a copy.

Arrays are `.npy` files by number, vocabularies Arrow files; `behaviour.json`, written last, says what each
is.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from etalage.errors import ExportDamaged, TableDamaged
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.encoder import Encoder, Features
from etalage.features.vocabulary import Vocabulary

DESCRIPTION = "behaviour.json"
_COLUMNS = ("users", "items", "kinds", "values", "times", "labels")
_SIDES = ("item", "user")


def save(data: BehaviourSet, folder: Path) -> None:
    """Write `data` into `folder`, which is made where it is missing; an array that is a file there already is
    left as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    places: dict[str, str] = {}
    for number, (place, array) in enumerate(_arrays(data)):
        if (own := _file_of(array, folder)) is not None:
            places[place] = own
            continue
        places[place] = f"{number:04d}.npy"
        np.save(folder / places[place], np.ascontiguousarray(array), allow_pickle=False)
    data.users.save(folder / "users.arrow")
    data.items.save(folder / "items.arrow")
    encoders = {"item": data.item_encoder, "user": data.user_encoder}
    description = {
        "arrays": places,
        "kinds": data.kinds,
        "sizes": {"item": data.item_features.sizes, "user": data.user_features.sizes},
        "encoders": {side: None if one is None else one.to_json() for side, one in encoders.items()},
        "parts": list(data.parts),
        **{name: getattr(data, name) for name in ("own_split", "facts", "history", "feature_sources")},
        **{name: getattr(data, name) for name in ("targets", "weights", "off_slate", "opinions")},
    }
    (folder / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")


def open_mapped(folder: Path, acts: Literal["c", "r"] = "c") -> BehaviourSet:
    """What `save` wrote, its arrays memory-mapped; what is written to them changes no file.

    acts: "r": nothing can be written to those of acts, and they do not count as memory of this process.
    Raises TableDamaged: a file is missing, torn, or of another shape.
    """
    try:
        said: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        arrays = {
            place: np.load(folder / Path(file).name, mmap_mode=_mode(place, acts), allow_pickle=False)
            for place, file in said["arrays"].items()
        }
        features = {side: _features(arrays, side, said["sizes"][side]) for side in _SIDES}
        encoders = {
            side: None if text is None else Encoder.from_json(text, str(folder))
            for side, text in said["encoders"].items()
        }
        off_slate = said["off_slate"]
        return BehaviourSet(
            Vocabulary.open(folder / "users.arrow"),
            Vocabulary.open(folder / "items.arrow"),
            tuple(said["kinds"]),
            {part: _interactions(arrays, f"parts/{part}") for part in said["parts"]},
            features["item"],
            features["user"],
            encoders["item"],
            encoders["user"],
            negatives=_under(arrays, "negatives"),
            own_split=said["own_split"],
            facts=said["facts"],
            targets=tuple(said["targets"]),
            weights=tuple(said["weights"]),
            off_slate=None if off_slate is None else tuple(off_slate),
            opinions=tuple(said["opinions"]),
            held=_interactions(arrays, "held"),
            history=said["history"],
            feature_sources=said["feature_sources"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ExportDamaged) as error:
        raise TableDamaged(f"{folder}: not a folder of behaviour ({error!r}); make it again") from error


def _mode(place: str, acts: Literal["c", "r"]) -> Literal["c", "r"]:
    return acts if place.startswith(("parts/", "held/")) else "c"


def _file_of(array: np.ndarray, folder: Path) -> str | None:
    """The name of the file in `folder` that is this array."""
    if not isinstance(array, np.memmap) or array.filename is None:
        return None
    file = Path(array.filename)
    whole = file.parent == folder.absolute() and file.stat().st_size == array.offset + array.nbytes
    return file.name if whole else None


def _arrays(data: BehaviourSet) -> Iterator[tuple[str, np.ndarray]]:
    """Every array, and its place: `parts/train/users`, `item/dense/photo`, …"""
    for part, acts in (*((f"parts/{name}", acts) for name, acts in data.parts.items()), ("held", data.held)):
        for column in _COLUMNS:
            yield f"{part}/{column}", getattr(acts, column)
    for side, features in zip(_SIDES, (data.item_features, data.user_features), strict=True):
        for kind in ("sparse", "bags", "dense"):
            for name, array in getattr(features, kind).items():
                yield f"{side}/{kind}/{name}", array
    for part, array in data.negatives.items():
        yield f"negatives/{part}", array


def _interactions(arrays: Mapping[str, np.ndarray], place: str) -> Interactions:
    return Interactions(*(arrays[f"{place}/{column}"] for column in _COLUMNS))


def _features(arrays: Mapping[str, np.ndarray], side: str, sizes: dict[str, int]) -> Features:
    sparse, bags, dense = (_under(arrays, f"{side}/{kind}") for kind in ("sparse", "bags", "dense"))
    return Features(sparse, bags, dense, sizes)


def _under(arrays: Mapping[str, np.ndarray], place: str) -> dict[str, np.ndarray]:
    """Those whose place begins so; the rest of it is their name, which may have slashes of its own."""
    return {at.removeprefix(f"{place}/"): array for at, array in arrays.items() if at.startswith(f"{place}/")}
