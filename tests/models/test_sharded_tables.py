"""Tables in shards, as far as one process can tell; several are in tests/training/test_shards.py."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from etalage.errors import ConfigError
from etalage.models import sharded_tables
from etalage.models.embedding_tables import RowwiseTables
from etalage.models.ranks import ALONE
from etalage.models.sharded_tables import Piece, ShardedTables, Sharding, _drawn, _overlay, tables_of
from etalage.training.loop import fit
from tests.contracts.shared_training import case

TWO: Any = SimpleNamespace(rank=0, world_size=2, device=torch.device("cpu"))


def test_one_worker_has_nothing_to_divide(tmp_path: Path) -> None:
    recipe, config, data = case("dlrm", embeddings="torchrec")
    with pytest.raises(ConfigError, match="divides tables among several workers, and there is one"):
        fit(recipe, recipe.bind(config, data), config, tmp_path)
    assert isinstance(tables_of(config, ALONE, [3, 4], 4), RowwiseTables)


def test_without_torchrec_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ModuleNotFoundError("No module named 'torchrec'")

    monkeypatch.setattr(sharded_tables, "_Modules", missing)
    with pytest.raises(ConfigError) as refused:
        ShardedTables([3], 4, sharding=Sharding("table_wise", True, 0.1), ranks=TWO)
    assert "No module named 'torchrec'" in str(refused.value)
    assert "python -m pip install --no-deps torchrec==" in str(refused.value)


def test_row_wise_is_refused_on_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded_tables, "_Modules", SimpleNamespace)
    with pytest.raises(ConfigError, match="TorchRec has no row-wise kernel for processors"):
        ShardedTables([3], 4, sharding=Sharding("row_wise", True, 0.1), ranks=TWO)


@pytest.mark.parametrize("chunk", [4, 12, 1 << 22])
def test_shards_start_from_the_numbers_that_whole_tables_start_from(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are drawn at once, and whatever of them a shard holds."""
    monkeypatch.setattr(sharded_tables, "CHUNK", chunk)
    torch.manual_seed(7)
    whole = RowwiseTables([9, 5], 6).weight.detach()
    torch.manual_seed(7)
    for first, count in ((0, 9), (9, 5)):
        pieces = [
            Piece(0, 0, count, 0, 4, 0, torch.ones(count, 4)),
            Piece(0, 2, count - 2, 4, 4, 0, torch.ones(count - 2, 4)),  # two of its columns are padding
        ]
        for start, rows in _drawn(count, 6):
            for piece in pieces:
                _overlay(piece, start, rows)
        assert pieces[0].weight is not None and pieces[1].weight is not None
        assert torch.equal(pieces[0].weight, whole[first : first + count, :4])
        assert torch.equal(pieces[1].weight[:, :2], whole[first + 2 : first + count, 4:])
        assert not pieces[1].weight[:, 2:].any()
