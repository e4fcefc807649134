"""A process that `launch` starts: it takes its function and who it is from a file, and does its part.

python -m etalage.engine.worker FOLDER RANK
"""

import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from etalage.engine.children import leave_interrupts_to_parent
from etalage.engine.memory import limit_memory
from etalage.engine.worker_spec import WorkerSpec

FUNCTION = "function.pickle"


def main(folder: Path, rank: int) -> None:
    """The file is `launch`'s own, of a moment ago, in a folder that nobody else may enter."""
    leave_interrupts_to_parent()
    function: Callable[[WorkerSpec], object]
    function, world_size, init_method, memory = pickle.loads((folder / FUNCTION).read_bytes())  # noqa: S301
    try:
        if memory is not None:
            limit_memory(memory)
        function(WorkerSpec(rank, world_size, init_method, local_rank=rank))
    except BaseException:
        # Said before its connections close: the others are ended as soon as they do.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
