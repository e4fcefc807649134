"""Closed-form models: counted or solved, and exported. Nothing here needs torch, which takes longer to load
than most of them take to count."""

import time
from pathlib import Path
from typing import Any

from etalage.features.array_blocks import ArrayLoop
from etalage.models.recipe import C, ClosedForm, Recipe, Trained, count
from etalage.runtime.export_files import save_array
from etalage.runtime.opening import open_scorer
from etalage.training.export_draft import ExportDraft
from etalage.training.export_source import Source, write_ids


def solve(
    recipe: Recipe[C], task: ClosedForm, config: C, run: Path, blocks: ArrayLoop | None = None
) -> Trained[C]:
    """Count it, or solve its equations. blocks: where one that can be split is counted; None: in this
    process. Raises what the task raises."""
    started = time.perf_counter(), time.process_time()
    counted = count(task, blocks or ArrayLoop())
    seconds, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    return Trained(recipe.name, config, None, {}, [], seconds, cpu, run, counted=counted)


def export_closed_form(recipe: Recipe[Any], trained: Trained[Any], data: Source, folder: Path) -> Path:
    """Write the next `folder/NNNN-hash8`; the newest one, if it is this very model."""
    assert trained.counted is not None
    with ExportDraft(trained, folder, recipe.role, trained.counted.scoring) as draft:
        for name, array in trained.counted.arrays.items():
            save_array(draft.path / f"{name}.npy", array)
        write_ids(draft.path, data)
        draft.tell(feature_sources={}, settings=trained.counted.settings, kinds=list(data.kinds))
        open_scorer(draft.path)
        return draft.named()
