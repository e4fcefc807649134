"""What test_context.py has torchrun start: a training by every process, whose weights go into a folder."""

import sys
from pathlib import Path

import torch

from etalage.training.context import compute_init
from etalage.training.loop import fit
from tests.contracts.shared_training import case

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    recipe, config, data = case("dlrm", epochs=1, steps_per_epoch=3)
    with compute_init(config) as context:
        task = recipe.bind(config, data)
        trained = fit(recipe, task, config, folder / "run", context=context)
        assert trained.network is not None
        torch.save(trained.network.state_dict(), folder / f"{context.rank}-of-{context.world_size}.pt")
