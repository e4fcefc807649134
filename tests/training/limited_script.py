"""What test_shards.py starts: a training of a table that is larger than what any of three workers may hold.

    limited_script.py FOLDER EMBEDDINGS LIMIT ROWS

Prints, of rank 0, the loss of the epoch and how many rows of the table it has in the end.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

from etalage.engine import local
from etalage.engine.memory import limit_memory
from etalage.engine.worker_spec import WorkerSpec
from etalage.features.examples import Examples
from etalage.models.dlrm import RECIPE, DlrmConfig
from etalage.models.recipe import Trained
from etalage.training.context import compute_init
from etalage.training.loop import fit

WIDTH = 64


def examples(rows: int) -> Examples:
    """600 clicks on values of a vocabulary of `rows`; the last ones are for validation."""
    rng = np.random.default_rng(0)
    sparse = np.stack([rng.integers(1, rows, 600), rng.integers(1, 9, 600)], axis=1)
    labels = (sparse[:, 1] > 4).astype(np.float32)[:, None]
    parts = np.where(np.arange(600) < 500, 0, 1).astype(np.uint8)
    dense = np.zeros((600, 0), np.float32)
    return Examples(sparse, ("value", "few"), (rows, 9), dense, (), labels, ("click",), parts)


def train(folder: Path, embeddings: str, limit: int, rows: int, spec: WorkerSpec) -> Trained[DlrmConfig]:
    """One rank, which may hold `limit` bytes from now on."""
    torch.set_num_threads(1)
    limit_memory(limit)
    sharding = {"table_sharding": "column_wise"} if embeddings == "torchrec" else {}
    config = DlrmConfig.model_validate(
        {
            "embeddings": embeddings, **sharding, "dimension": WIDTH, "linear": False, "top": (8,),
            "epochs": 1, "batch_size": 100, "precision": "float32", "device": "cpu",
        }
    )  # fmt: skip
    data = examples(rows)
    with compute_init(config, spec) as context:
        return fit(RECIPE, RECIPE.bind(config, data), config, folder / "run", context=context)


if __name__ == "__main__":
    given = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    from tests.training import limited_script  # what the other worker is sent is of a module, not of a script

    with local.launch(partial(limited_script.train, *given), 3) as mine:
        trained = limited_script.train(*given, mine)
    print(trained.history[-1]["loss"], len(trained.network.tables.weight))  # type: ignore[union-attr]
