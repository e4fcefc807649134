"""The command line: `etalage COMMAND`."""

import io
import os
import sys

# `python -m etalage.cli` puts the current folder first on the module path: in a shop's folder, a `random.py`
# of the shop would be run (F62). It goes, before more is imported, unless Etalage itself lives there.
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # noqa: PTH120
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and os.path.realpath(sys.path[0]) != _HOME:
    del sys.path[0]

try:
    from etalage.cli import (
        classify,
        data,
        deleting,
        health,
        models,
        photos,
        serving,
        standing,
        taxonomy,
        upkeep,
        users,
        vectors,
    )
    from etalage.cli.app import app
    from etalage.engine.children import SAFE_PATH
except KeyboardInterrupt:  # while its commands are loaded nothing has begun
    sys.exit(130)

__all__ = ["app", "classify", "data", "deleting", "health", "main", "models", "photos", "serving", "standing",
           "taxonomy", "upkeep", "users", "vectors"]  # fmt: skip


def main() -> None:
    """The entry point of the command `etalage`."""
    os.environ.setdefault(SAFE_PATH, "1")  # whatever Python a library starts beneath us, too
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a title that the terminal's encoding lacks
    app()
