"""What a training lacks, said before anything that is slow to load is loaded for it: a model of that name, a
setting of that name, a table, a package."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from etalage.errors import ConfigError, TableMissing
from etalage.models import recipe as recipes
from etalage.models.recipe import Listed
from etalage.models.setting_names import setting_names
from etalage.shop.transfer_steps import require_transfers
from etalage.shop.workspace import Workspace

OWN_DATA = ("table", "rows")
"""Settings that name what a model learns from, instead of the shop's behaviour."""


def require_model(workspace: Workspace, model: str) -> Listed:
    """What the model's file says of it. Raises ConfigError: there is none of this name."""
    ours = recipes.listed()
    if model in ours:
        return ours[model]
    workspace.models.known(model, where=str(workspace.models.folder))
    return workspace.models.listed()[model]


def require_for_training(
    workspace: Workspace, model: str, settings: Mapping[str, str], start: str | Path | None = None
) -> None:
    """Raises ConfigError: no such model, or setting of it, or it cannot `start` from another training;
    TableMissing, TooLittleData: nothing to learn by; ModuleNotFoundError: torch is not installed, and the
    model needs it."""
    listed = require_model(workspace, model)
    if start is not None:
        require_transfers(workspace, listed, start)
    if not listed.own:
        names = setting_names(model)
        wrong = [trouble for key in settings if (trouble := names.trouble(key.partition(".")[0]))]
        if wrong:
            raise ConfigError("\n".join(f"[models.{model}]: {trouble}" for trouble in wrong))
    if listed.role != "closed_form" and find_spec("torch") is None:
        raise ModuleNotFoundError("torch is not installed", name="torch")
    _require_data(workspace, listed, {**workspace.config.models.get(model, {}), **settings})


def _require_data(workspace: Workspace, listed: Listed, settings: Mapping[str, object]) -> None:
    if listed.data == "photos":
        from etalage.shop.photo_steps import require_photos

        require_photos(workspace)
    elif listed.data == "categories":
        if not workspace.lake.table("items").exists():
            raise TableMissing("there are no items: `etalage ingest FILE items` first")
    elif settings.keys().isdisjoint(OWN_DATA) and not workspace.lake.table("interactions").exists():
        raise TableMissing("there are no interactions: `etalage ingest FILE interactions` first")
