"""Behaviour whose acts lie in files, for the tests of what streams it."""

from pathlib import Path

from etalage.features import behaviour_files
from etalage.features.behaviour import BehaviourSet
from etalage.features.behaviour_stream import BehaviourStream
from etalage.features.growing_array import GrowingArray, mapped
from etalage.features.behaviour_on_disk import COLUMNS
from etalage.features.behaviour import Interactions


def stored(data: BehaviourSet, folder: Path, buffer: int = 40_000, seed: int = 0) -> BehaviourStream:
    """The same set as a stream."""
    folder.mkdir(parents=True)
    found = {}
    for name, acts in data.parts.items():
        for column, kind in COLUMNS.items():
            with GrowingArray(folder / f"{name}-{column}.npy", kind) as file:
                file.append(getattr(acts, column))
        found[name] = Interactions(*(mapped(folder / f"{name}-{column}.npy") for column in COLUMNS))
    behaviour_files.save(data.with_parts(**found), folder)
    return BehaviourStream.open(folder, buffer, seed)
