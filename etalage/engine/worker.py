"""A process that `launch` starts: it takes its function and its place from a file, and does its part.

python -m etalage.engine.worker FOLDER NUMBER
"""

import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from etalage.engine.places import Place

FUNCTION = "function.pickle"


def main(folder: Path, number: int) -> None:
    """The file is `launch`'s own, of a moment ago, in a folder that nobody else may enter."""
    function: Callable[[Place], object]
    function, workers, meeting = pickle.loads((folder / FUNCTION).read_bytes())  # noqa: S301
    try:
        function(Place(number, workers, meeting))
    except BaseException:
        # Said before its connections close: the others are ended as soon as they do.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
