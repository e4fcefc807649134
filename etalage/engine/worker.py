"""A process that `launch` starts: it takes its function and its place from a file, and does its part.

python -m etalage.engine.worker FOLDER NUMBER
"""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

from etalage.engine.places import Place

FUNCTION = "function.pickle"


def main(folder: Path, number: int) -> None:
    """The file is `launch`'s own, of a moment ago, in a folder that nobody else may enter."""
    function: Callable[[Place], object]
    function, workers, meeting = pickle.loads((folder / FUNCTION).read_bytes())  # noqa: S301
    function(Place(number, workers, meeting))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
