"""Training and judging the models of behaviour: retrievers, and the ranker of what they retrieve."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from etalage.errors import TableMissing
from etalage.shop import photo_steps
from etalage.shop.progress import told

if TYPE_CHECKING:
    from pathlib import Path

    from etalage.features.behaviour import BehaviourSet
    from etalage.models.recipe import Recipe, Trained
    from etalage.shop.shop import Shop

TABLES = ("items", "users", "interactions")


def behaviour(shop: "Shop") -> "tuple[BehaviourSet, dict[str, int]]":
    """The shop's behaviour as arrays, split as [behaviour] says, and the tables' versions.

    Items have the embeddings of their photos as a feature, where a model of photos was trained.
    Raises TableMissing, TooLittleData.
    """
    from etalage.features.behaviour_set import behaviour_set

    at = {name: v for name, v in shop.lake.versions().items() if name in TABLES}
    if "interactions" not in at:
        raise TableMissing("there are no interactions: `etalage ingest FILE interactions` first")
    dense = photo_steps.by_item(shop)

    def table(name: str) -> pa.Table | None:
        return shop.lake.table(name).read(at[name]) if name in at else None

    with shop.bar("read what users did", None):
        return behaviour_set(
            table("interactions"), table("items"), table("users"), shop.config.behaviour, item_dense=dense
        ), at


def train(shop: "Shop", recipe: "Recipe[Any]", config: Any, fresh: bool) -> "tuple[Trained[Any], Path]":
    from etalage.training.run import train_behaviour

    data, versions = behaviour(shop)
    with shop.disk(), shop.bar(f"train {recipe.name}", None) as meter:
        return train_behaviour(
            recipe,
            config,
            data,
            runs=shop.runs,
            exports=shop.exports(recipe.name),
            versions=versions,
            fresh=fresh,
            progress=told(meter, f"train {recipe.name}"),
        )
