"""The command line: `etalage COMMAND`."""

import io
import sys

from etalage.cli import classify, data, models, photos, serving, taxonomy
from etalage.cli.app import app
from etalage.console import err
from etalage.errors import EtalageError

__all__ = ["app", "classify", "data", "main", "models", "photos", "serving", "taxonomy"]


def main() -> None:
    """The entry point of the command `etalage`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a title that the terminal's encoding lacks
    try:
        app()
    except EtalageError as error:
        err.print(f"{type(error).__name__}: {error}")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "etalage").startswith("etalage"):
            raise
        extra = "photos" if error.name in ("aiohttp", "protego", "yarl") else "train"
        sys.exit(f"{error.name} is not installed: pip install 'etalage[{extra}]'")
