"""Training a ranker on a table of dense and sparse columns that is not one of the shop's own."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etalage.errors import ConfigError
from etalage.shop.progress import meter_steps
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.features.example_stream import ExampleStream
    from etalage.features.examples import Examples
    from etalage.models.recipe import Recipe, Trained
    from etalage.training.export_source import Source

log = logging.getLogger(__name__)


def named_table(config: Any) -> str | None:
    """The table that the config names, if it does."""
    found: str | None = getattr(config, "table", None)
    return found


def require_own_data(facts: Mapping[str, Any], exported: Path) -> None:
    """Raises ConfigError: the export learned from a table that is not the shop's behaviour."""
    if (table := facts["config"].get("table")) is not None:
        raise ConfigError(
            f"{exported}: it learned from the table {table}, and not from the shop's behaviour, so no "
            "shopper's slate can judge it; its training measured it on that table's part `test` (MLflow has "
            "the figures)"
        )


def examples_of(
    workspace: Workspace, config: Any
) -> "tuple[Examples | ExampleStream, Source, dict[str, int]]":
    """The table's examples: in memory where they fit into `buffer`, else as a stream; what the export keeps
    of it; and its version. Says which in one line.

    Raises InputUnreadable, TableDamaged, ConfigError, TooLittleData.
    """
    from etalage.features.example_stream import ExampleStream
    from etalage.features.shards import Shards
    from etalage.features.table_encoder import fit_table
    from etalage.training.export_source import Source

    where = str(config.table)
    shards = Shards(where if "://" in where else str(workspace.folder / where))
    with workspace.bar("look through the table", shards.count) as meter:
        fitted = fit_table(shards, config.labels, config.sparse, config.dense, config.min_count, meter)
    stream = ExampleStream(shards, fitted, config.buffer_bytes, config.seed)
    encoder = fitted.encoder
    sizes = dict(zip(stream.sparse_names, stream.sizes, strict=True))
    source = Source(sizes=sizes, table=encoder)
    name = Path(where.rstrip("/")).name
    versions = {} if shards.version is None else {name: shards.version}
    log.warning(
        "%s: sparse %s; dense %s; %s", name, ", ".join(encoder.vocabularies) or "none",
        ", ".join(encoder.dense) or "none",
        "parts by the column `part`" if encoder.has_part else "a tenth each drawn for validation and test",
    )  # fmt: skip
    if config.streams(stream.whole_bytes):
        log.warning("%s", stream.describe())
        return stream, source, versions
    return stream.whole(), source, versions


def train(
    workspace: Workspace, recipe: "Recipe[Any]", config: Any, fresh: bool
) -> "tuple[Trained[Any], Path]":
    """Train on the table, export, and measure the part `test`: nothing else judges such a model, since the
    shop's funnel asks about none of its rows."""
    from etalage.training import tracking
    from etalage.training.run import train_behaviour

    data, source, versions = examples_of(workspace, config)
    with workspace.disk(), workspace.bar(f"train {recipe.name}", None) as meter:
        trained, exported = train_behaviour(
            recipe,
            config,
            data,
            runs=workspace.runs,
            exports=workspace.exports(recipe.name),
            source=source,
            versions=versions,
            fresh=fresh,
            progress=meter_steps(meter, f"train {recipe.name}"),
            engine=workspace.engine,
        )
    task = recipe.bind(config, data)
    if task.count("test"):
        with workspace.bar("measure the part test", None):
            found = {f"test.{name}": value for name, value in task.measure(trained.network, "test").items()}
        tracking.add(workspace.runs, trained.facts["mlflow_run"], metrics=found, files={})
        trained = replace(trained, metrics={**trained.metrics, **found})
    return trained, exported
