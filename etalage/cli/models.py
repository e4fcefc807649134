"""Commands about models and bundles: list, trust, train, evaluate, compare, publish, sync, roll back."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from etalage.cli.app import HERE, Force, ShopFolder, app, opened
from etalage.config import parse_pairs
from etalage.console import add_row, out, table_of
from etalage.models.own import Models
from etalage.shop import MODEL


class NamesModels(TyperCommand):
    """Lists the models beneath its help; also those of the shop in ETALAGE_SHOP, or in the current folder."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        there, _ = Models(Path(os.environ.get("ETALAGE_SHOP", "."))).readable()
        own = [name for name, one in there.items() if one.own]
        with formatter.section("Models"):
            formatter.write_text(", ".join(name for name in there if name not in own))
            if own:
                formatter.write_text(f"The shop's own: {', '.join(own)}")


COSTS = ("minutes", "ms_1", "ms_64", "megabytes")
Model = Annotated[str, typer.Argument(help="A model's name; the shop's own models too.")]


@app.command(cls=NamesModels)
def train(
    model: Model = MODEL,
    shop: ShopFolder = HERE,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="Set KEY=VALUE of the model's config; repeat for more.")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Start over instead of resuming.")] = False,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Start from the weights of another shop, or of an export's folder."),
    ] = None,
) -> None:
    """Train a model on the tables, and export it.

    MLflow tracks the run. A run that was killed continues from its last checkpoint.
    """
    trained, exported = opened(shop).train(model, parse_pairs("--set", set), fresh, start)
    figures = ", ".join(f"{name} {value:.4f}" for name, value in trained.metrics.items())
    figures = figures or f"fitted in closed form; `etalage evaluate {model}` judges it"
    out.print(f"{model} {exported.name}: {figures}; {_took(trained.seconds)}")


def _took(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


@app.command(cls=NamesModels)
def tune(
    model: Annotated[str, typer.Argument(help="A model, by its name; the shop's own too.")],
    shop: ShopFolder = HERE,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all; a study that has some goes on.")] = 32,
    parallel: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 1,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="key=value that no trial changes (again for more).")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Of a closed-form model, such as ndcg_at_10; default: what it is judged by."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is tried.")] = 0,
    fresh: Annotated[bool, typer.Option(help="Begin a new study instead of going on.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Write the best settings into shop.toml.")] = False,
) -> None:
    """Try settings of a model on validation, and train the best ones.

    The search space stands in the model's own file. Every trial is an MLflow run; a killed study goes on.
    """
    here = opened(shop)
    done = here.tune(
        model,
        trials,
        parallel,
        parse_pairs("--set", set),
        metric=metric,
        seed=seed,
        fresh=fresh,
        write=write,
    )
    failed = [one for one in done.trials if one.state == "failed"]
    table = table_of("trial", done.metric, "settings", "")
    best = sorted(done.trials, key=lambda one: -(one.value or 0))[:5]
    for one in [*best, *([done.current] if done.current and done.current not in best else [])]:
        words = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in one.settings.items()
        )
        note = "the settings as they stand" if one == done.current else ""
        add_row(table, one.number, "" if one.value is None else f"{one.value:.4f}", words, note)
    out.print(table)
    if failed:
        why = (failed[0].error or "").strip().splitlines()[-1]
        out.print(f"{len(failed)} of {len(done.trials)} trials failed; trial {failed[0].number}: {why}")
    out.print(f"the best, on validation; `etalage evaluate {model}` tells what it is worth on test:")
    out.print(done.toml)
    if done.trained is not None:
        out.print(f"trained with them: {done.trained[1].name}")
    if write:
        out.print(f"written into {here.folder / 'shop.toml'}")
    else:
        out.print("shop.toml stays as it is: `--write` writes them there, and the next training takes them")
    out.print(f"report: {done.report}")


@app.command(cls=NamesModels)
def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(help="A model's name. Default: everything that was trained."),
    ] = None,
    shop: ShopFolder = HERE,
) -> None:
    """Compare a model with the simple ones, or all together.

    With a name, it evaluates the model's newest export, and writes a report and the verdict that publish
    requires.

    Without a name, it decides what to publish: it evaluates everything that was trained, each model beside
    the others and the funnel as a whole, and writes one page, reports/shop.html. It trains nothing for this.
    """
    here = opened(shop)
    if model is not None:
        _tell_evaluated(here.evaluate(model))
        return
    if not here.trained_models():
        for orphan in here.orphan_exports():
            out.print(orphan.sentence)
        if here.lake.table("interactions").exists() and not here.lake.table("photos").exists():
            here.evaluate_all()  # which says what to train first
        here.evaluate(MODEL)
    done = here.evaluate_shop()
    for line in done.lines():
        out.print(line)
    if done.behaviour is not None:
        _tell_compared(done.behaviour)
    for one in done.evaluations:
        out.print(one.summary())
    out.print(f"report: {done.report}")
    for error in done.failed.values():
        raise error


def _tell_evaluated(done: Any) -> None:
    out.print(done.decision)
    out.print(done.summary())
    out.print(f"report: {done.report}")


def _interval(one: Any, sign: str = "") -> str:
    return f"{one.value:{sign}.4f} [{one.low:{sign}.4f}, {one.high:{sign}.4f}]"


def _tell_compared(done: Any) -> None:
    table = table_of("system", "role", "metric", "value", "gain", "over", "verdict on validation")
    for row in done.rows:
        gain = "" if row.gain is None else _interval(row.gain, "+")
        add_row(table, row.system, row.role, row.metric, _interval(row.value), gain, row.over, row.verdict)
    out.print(table)
    out.print(f"figures of {done.part} ({done.queries:,} shoppers); {done.answer}")
    for system, protocol in done.published.items():
        out.print(f"{system}, {protocol.sentence()}")
    if done.members:
        out.print(f"`etalage publish` would build the funnel from {', '.join(done.members)}")
    for reason in done.left_out:
        out.print(f"left out: {reason}")
    for note in done.notes:
        out.print(note)


@app.command()
def compare(
    model: Annotated[str | None, typer.Argument(help="A classifier, by its name; none: all of them.")] = None,
    shop: ShopFolder = HERE,
) -> None:
    """Compare all exported classifiers on the golden set.

    One table shows how good, how fast and how large they are.
    """
    done = opened(shop).compare(model)
    shown = ("accuracy", "macro_f1", "value_true", "severity", "calibration_error")
    table = table_of("model", *shown, "minutes", "ms a photo, 1", "ms a photo, 64", "MB")
    for one in done.grid.to_json():
        name = f"{one['model']} (randomly initialised: timed, not ranked)" if one["random"] else one["model"]
        figures = ["" if one.get(metric) is None else f"{one[metric]['value']:.4f}" for metric in shown]
        costs = ["" if one.get(c) is None else f"{one[c]['value']:.2f}" for c in COSTS]
        add_row(table, name, *figures, *costs)
    out.print(table)
    out.print(f"figures of {done.part}; the whole grid: {done.picture}, {done.table}")


@app.command()
def publish(
    shop: ShopFolder = HERE,
    force: Force = False,
) -> None:
    """Embed, index, check and publish a bundle.

    Running servers switch to the new bundle by themselves.
    """
    _tell(opened(shop).publish(force=force))


@app.command()
def sync(shop: ShopFolder = HERE, force: Force = False) -> None:
    """Publish a bundle with what changed since the current one.

    It embeds only new and changed photos.
    """
    done = opened(shop).sync(force)
    out.print(
        f"{done.reason}: embedded {done.embedded}, carried over {done.carried}, "
        f"changed {done.upserted}, removed {done.deleted}"
    )
    if done.whole:
        out.print(f"read the whole tables: {done.whole}")
    if done.manifest is not None:
        _tell(done.manifest)


@app.command()
def bundles(shop: ShopFolder = HERE) -> None:
    """List the bundles on disk; an arrow marks the current one."""
    table = table_of("", "bundle", "items", "indexed", "made", "models", "forced")
    there = list(opened(shop).bundles.survey())
    if not there:
        out.print("nothing was published yet: `etalage publish` makes the first bundle")
        return
    for one in there:
        mark = "→" if one.current else ""
        if one.manifest is None:
            add_row(table, mark, one.id, "", "", "", f"damaged: {one.damage}", "")
            continue
        made, forced = one.manifest.created_at, ", ".join(one.manifest.forced)
        indexed = {model.index.indexed for model in one.manifest.photo_models if model.index} or {0}
        counts = (f"{one.manifest.items:,}", f"{max(indexed):,}")
        models = ", ".join(f"{model.name} {model.hash[:8]}" for model in one.manifest.models)
        add_row(table, mark, one.id, *counts, made, models, forced)
    out.print(table)


@app.command()
def rollback(
    bundle: Annotated[
        str | None, typer.Argument(help="A bundle's id. Default: the one that was current before.")
    ] = None,
    shop: ShopFolder = HERE,
) -> None:
    """Make another bundle the current one."""
    out.print(f"current: {opened(shop).rollback(bundle).id}")


@app.command()
def register(
    shop: ShopFolder = HERE,
    name: Annotated[str, typer.Option(help="The model's name in the registry.")] = "etalage",
    task: Annotated[
        str | None,
        typer.Option(help="similar, recommend, rank or classify. Default: what the bundle is for."),
    ] = None,
) -> None:
    """Register the current bundle as a model in MLflow."""
    out.print(opened(shop).register(name, task))


def _tell(manifest: Any) -> None:
    from etalage.bundle.admission import beside_popularity

    out.print(f"published {manifest.id}: {manifest.items:,} items")
    for one in manifest.photo_models:
        index = f"{one.index.indexed:,} items in the {one.index.kind} index"
        out.print(f"the photo embedder: {one.name} {one.hash[:8]}, {index}")
    if manifest.funnel:
        names = ", ".join(f"{one.name} ({one.role})" for one in manifest.funnel)
        out.print(f"the funnel: {names}; {manifest.users:,} shoppers known")
    for line in beside_popularity(manifest.funnel):
        out.print(line)
    for model in manifest.models:
        for name, source in model.sources.items():
            if source.unknown:
                out.print(
                    f"{model.name}: {name} knows nothing about {source.unknown:,} of {manifest.items:,} items"
                )
    for one in manifest.models:
        if one.index is not None:
            _tell_recall(one.name, one.index.recall)
    for one in manifest.classifiers:
        out.print(f"the classifier: {one.name} {one.hash[:8]}, {one.classifier.leaves:,} categories")
    if (said := manifest.classified) is not None:
        out.print(
            f"classified: {said.items:,} of {manifest.items:,} items{f'; {said.note}' if said.note else ''}"
        )
    for one in manifest.refused:
        out.print(f"left out: {one.reason}")
    if manifest.forced:
        out.print(f"forced past: {', '.join(manifest.forced)}")


def _tell_recall(name: str, measured: Any) -> None:
    found = ", ".join(f"{'all' if r.share is None else f'{r.share:.0%}'} {r.recall:.3f}" for r in measured)
    if found:
        out.print(f"{name}: recall@{measured[0].k} against exact, by share allowed: {found}")


@app.command()
def models(shop: ShopFolder = HERE) -> None:
    """List the models that you can train, the shop's own among them."""
    here = opened(shop)
    states = {one.file.stem: one for one in here.own_files()}
    table = table_of("model", "role", "learns from", "file")
    for name, one in here.models.listed().items():
        mine = states.get(name)
        where = "Etalage" if mine is None else f"{mine.file} ({mine.state})"
        add_row(table, name, one.role, one.data, where)
    out.print(table)
    for orphan in here.orphan_exports():
        out.print(orphan.sentence)


@app.command()
def trust(
    shop: ShopFolder = HERE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    forget: Annotated[bool, typer.Option(help="Withdraw the trust in all files of the folder.")] = False,
) -> None:
    """Allow Etalage to run the files in the shop's models/ folder.

    They run with all your rights whenever you train one of these models or publish a closed-form one; never
    while serving. Etalage asks again about a file that is new or has changed.
    """
    here = opened(shop)
    if forget:
        here.trust([])
        out.print(f"{here.models.folder}: none of its files is trusted any longer")
        return
    files = here.own_files()
    if not files:
        out.print(f"{here.models.folder}: holds no models, so there is nothing to trust")
        return
    table = table_of("file", "role", "SHA-256", "")
    for one in files:
        add_row(table, str(one.file), one.role, one.sha256, one.state)
    out.print(table)
    if all(one.state == "trusted" for one in files):
        out.print("all files are trusted already")
        return
    if not yes and not typer.confirm("Allow Etalage to run these files, with all your rights?"):
        out.print("nothing changed")
        raise typer.Exit(1)
    out.print(f"trusted; recorded in {here.trust(files)}")
