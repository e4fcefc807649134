"""What travels between processes: pickled, together with the modules that no other process could import.

A shop's own models are such modules: they are on no module path, and their loader makes them from the bytes
that were trusted (models/own.py). Any loader with a method `restore()` is sent along in the same way.
"""

import io
import pickle
import sys
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from etalage.errors import EngineError


@dataclass(frozen=True)
class Parcel:
    """One thing as bytes. `loaders`: what has to be restored before it can be unpacked."""

    content: bytes
    loaders: tuple[Any, ...] = ()

    def unpack(self) -> Any:
        """The thing. Only what a process of ours has packed is ever unpacked."""
        for loader in self.loaders:
            loader.restore()
        return pickle.loads(self.content)  # noqa: S301


def pack(thing: object, pickler: type[pickle.Pickler] = pickle.Pickler) -> Parcel:
    """Raises EngineError: it cannot be sent to another process."""
    sink = io.BytesIO()
    packing = _noting(pickler)(sink, pickle.HIGHEST_PROTOCOL)
    try:
        packing.dump(thing)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise EngineError(
            f"{thing!r} cannot be sent from one process to another: {error}; plain data can, functions of "
            "importable modules, and partials of them"
        ) from error
    return Parcel(sink.getvalue(), tuple(packing.loaders.values()))


def _noting(pickler: type[pickle.Pickler]) -> Any:
    """A `pickler` that notes the loaders of the modules whose classes and functions it names."""

    class Noting(pickler):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.loaders: dict[str, Any] = {}

        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, (type, FunctionType)):
                module = sys.modules.get(thing.__module__ or "")
                loader = getattr(getattr(module, "__spec__", None), "loader", None)
                if hasattr(loader, "restore"):
                    self.loaders[thing.__module__] = loader
            override = getattr(super(), "reducer_override", None)
            return NotImplemented if override is None else override(thing)

    return Noting
