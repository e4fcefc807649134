"""Commands about models and bundles: list, trust, train, evaluate, compare, publish, sync, roll back."""

import os
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etalage.cli.answers import tell
from etalage.cli.app import HERE, Command, Force, ShopFolder, app, opened, print_next
from etalage.console import add_row, duration, err, manner, out, since_start, table_of
from etalage.errors import ConfigError
from etalage.models import MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from etalage.bundle.manifest import Manifest
    from etalage.bundle.pointer import Survey
    from etalage.bundle.sync import Synced
    from etalage.models.recipe import Listed
    from etalage.shop import Shop
    from etalage.shop.grid_steps import Compared
    from etalage.shop.trained_model import TrainedModel
    from etalage.shop.trust_steps import OrphanExport, OwnFile
    from etalage.shop.tuning_steps import Tuned


class NamesModels(Command):
    """Lists the models beneath its help; also those of the shop in ETALAGE_SHOP, or in the current folder."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        from etalage.models.own import Models

        super().format_epilog(ctx, formatter)
        there, _ = Models(Path(os.environ.get("ETALAGE_SHOP", "."))).readable()
        own = [name for name, one in there.items() if one.own]
        with formatter.section("Models"):
            formatter.write_dl([(name, one.about) for name, one in there.items() if not one.own])
            if own:
                formatter.write_text(f"The shop's own: {', '.join(own)}")


COSTS = ("minutes", "ms_1", "ms_64", "megabytes")
Model = Annotated[str, typer.Argument(help="A model's name; the shop's own models too.")]


@app.command(
    cls=NamesModels,
    epilog="""
    etalage train popularity
    etalage train two_tower --set epochs=5 --set width=64
    etalage train dssm --from ../other-shop
    """,
)
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
    from etalage.config import parse_pairs
    from etalage.shop.trained_model import TrainedModel

    done = TrainedModel.of(*opened(shop).train(model, parse_pairs("--set", set), fresh, start))
    tell(done, lambda: _show_trained(done, shop))


def _show_trained(done: "TrainedModel", shop: Path) -> None:
    from etalage.shop.workspace import of_shop

    figures = "".join(f"; {name} {value:.4f}" for name, value in done.metrics.items())
    took = duration(since_start())
    out.print(f"{done.model} {done.export.name}: learned from {done.learned}{figures}; {took} in all")
    for line in done.told:
        out.print(line)
    out.print(f"next: `etalage evaluate {done.model}{of_shop(shop)}`")


@app.command(
    cls=NamesModels,
    epilog="""
    etalage tune item_knn --trials 64 --write
    etalage tune dssm --parallel 2 --set epochs=3
    """,
)
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
    from etalage.config import parse_pairs
    from etalage.shop.trained_model import TrainedModel

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
    last = None if done.trained is None else TrainedModel.of(*done.trained)
    answer = {**vars(replace(done, trained=None)), "trained": last}
    tell(answer, lambda: _show_tuned(done, here.folder / "shop.toml" if write else None))


def _show_tuned(done: "Tuned", written: Path | None) -> None:
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
    out.print(f"the best, on validation; `etalage evaluate {done.model}` tells what it is worth on test:")
    out.print(done.toml)
    if done.trained is not None:
        out.print(f"trained with them: {done.trained[1].name}")
    if written is not None:
        out.print(f"written into {written}")
    else:
        out.print("shop.toml stays as it is: `--write` writes them there, and the next training takes them")
    out.print(f"report: {done.report}")


@app.command(
    cls=NamesModels,
    epilog="""
    etalage evaluate item_knn
    etalage evaluate
    """,
)
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
        one = here.evaluate(model)
        tell(replace(one, sections=()), lambda: _tell_evaluated(one, shop))
        return
    if not here.trained_models():
        for orphan in here.orphan_exports():
            err.print(orphan.sentence)
    done = here.evaluate()
    tell(done, lambda: _tell_decided(done))
    for error in done.failed.values():
        raise error


def _tell_decided(done: Any) -> None:
    for line in done.lines():
        out.print(line)
    if done.behaviour is not None:
        _tell_compared(done.behaviour)
    for one in done.evaluations:
        out.print(one.summary())
    out.print(f"report: {done.report}")


def _tell_evaluated(done: Any, shop: Path) -> None:
    out.print(done.decision)
    out.print(done.summary())
    out.print(f"report: {done.report}")
    print_next(shop)


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


@app.command(epilog="etalage compare")
def compare(
    model: Annotated[str | None, typer.Argument(help="A classifier, by its name; none: all of them.")] = None,
    shop: ShopFolder = HERE,
) -> None:
    """Compare all exported classifiers on the golden set.

    One table shows how good, how fast and how large they are.
    """
    done = opened(shop).compare(model)
    answer = {**vars(done), "grid": done.grid.to_json()}
    tell(answer, lambda: _show_grid(done))


def _show_grid(done: "Compared") -> None:
    shown = ("accuracy", "macro_f1", "value_true", "severity", "calibration_error")
    table = table_of("model", *shown, "minutes", "ms a photo, 1", "ms a photo, 64", "MB")
    for one in done.grid.to_json():
        name = f"{one['model']} (randomly initialised: timed, not ranked)" if one["random"] else one["model"]
        figures = ["" if one.get(metric) is None else f"{one[metric]['value']:.4f}" for metric in shown]
        costs = ["" if one.get(c) is None else f"{one[c]['value']:.2f}" for c in COSTS]
        add_row(table, name, *figures, *costs)
    out.print(table)
    out.print(f"figures of {done.part}; the whole grid: {done.picture}, {done.table}")


@app.command(epilog="etalage publish --shop demo")
def publish(
    shop: ShopFolder = HERE,
    force: Force = False,
    as_judged: Annotated[
        bool,
        typer.Option(
            "--as-judged",
            help="Publish each model as it was judged; else it learns once more, from everything.",
        ),
    ] = False,
) -> None:
    """Embed, index, check and publish a bundle.

    Models of behaviour learn once more from all that shoppers did, by the settings that were judged.
    Running servers switch to the new bundle by themselves.
    """
    here = opened(shop)
    done = here.publish(force=force, as_judged=as_judged)
    tell(done, lambda: _show_published(done, here, shop))


def _show_published(done: "Manifest", here: "Shop", shop: Path) -> None:
    from etalage.shop import asking
    from etalage.shop.workspace import of_shop

    _show_manifest(done)
    whom = asking.somebody(here) if done.funnel else None
    serve = "etalage serve" + of_shop(shop)
    if whom is not None:
        slate = f"etalage recommend {shlex.quote(whom)}{of_shop(shop)}"
        out.print(f"next: `{slate}` shows a slate; `{serve}` serves the bundle")
    else:
        out.print(f"next: `{serve}`")


@app.command(epilog="etalage sync --shop demo")
def sync(shop: ShopFolder = HERE, force: Force = False) -> None:
    """Publish a bundle with what changed since the current one.

    It embeds only new and changed photos.
    """
    done = opened(shop).sync(force)
    tell(done, lambda: _show_synced(done, shop))


def _show_synced(done: "Synced", shop: Path) -> None:
    out.print(
        f"{done.reason}: embedded {done.embedded}, carried over {done.carried}, "
        f"changed {done.upserted}, removed {done.deleted}"
    )
    if done.whole:
        out.print(f"read the whole tables: {done.whole}")
    if done.manifest is not None:
        _show_manifest(done.manifest)
    print_next(shop)


@app.command(epilog="etalage bundles --shop demo")
def bundles(shop: ShopFolder = HERE) -> None:
    """List the bundles on disk; an arrow marks the current one."""
    there = list(opened(shop).bundles.survey())
    tell(there, lambda: _show_bundles(there))


def _show_bundles(there: "Survey") -> None:
    table = table_of("", "bundle", "items", "indexed", "made", "models", "forced")
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


@app.command(
    epilog="""
    etalage rollback
    etalage rollback b000003-1a2b3c4d
    """
)
def rollback(
    bundle: Annotated[
        str | None, typer.Argument(help="A bundle's id. Default: the one that was current before.")
    ] = None,
    shop: ShopFolder = HERE,
) -> None:
    """Make another bundle the current one."""
    now = opened(shop).rollback(bundle)
    tell(now, lambda: out.print(f"current: {now.id}"))


@app.command(epilog="etalage register --name my-shop")
def register(
    shop: ShopFolder = HERE,
    name: Annotated[str, typer.Option(help="The model's name in the registry.")] = "etalage",
    task: Annotated[
        str | None,
        typer.Option(help="similar, recommend, rank or classify. Default: what the bundle is for."),
    ] = None,
) -> None:
    """Register the current bundle as a model in MLflow."""
    uri = opened(shop).register(name, task)
    tell({"uri": uri}, lambda: out.print(uri))


def _show_manifest(manifest: Any) -> None:
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
    for line in filter(None, (one.learned.told for one in manifest.models)):
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
    shares = [r for r in measured if r.filter is None]
    found = ", ".join(f"{'all' if r.share is None else f'{r.share:.0%}'} {r.recall:.3f}" for r in shares)
    if found:
        out.print(f"{name}: recall@{measured[0].k} against exact, by share allowed: {found}")
    if worst := min((r for r in measured if r.filter is not None), key=lambda r: r.recall, default=None):
        count = sum(r.filter is not None for r in measured)
        out.print(
            f"{name}: the same with {count} usual filters: {worst.recall:.3f} at least ({worst.filter})"
        )


@app.command(epilog="etalage models --shop demo")
def models(shop: ShopFolder = HERE) -> None:
    """List the models that you can train, the shop's own among them."""
    here = opened(shop)
    states = {one.file.stem: one for one in here.own_files()}
    listed, orphans = here.models.listed(), here.orphan_exports()
    answer = [{**asdict(one), "file": states.get(name)} for name, one in listed.items()]
    tell({"models": answer, "orphans": orphans}, lambda: _show_models(listed, states, orphans))


def _show_models(
    listed: "Mapping[str, Listed]", states: "Mapping[str, OwnFile]", orphans: "Sequence[OrphanExport]"
) -> None:
    table = table_of("model", "role", "learns from", "file")
    for name, one in listed.items():
        mine = states.get(name)
        where = "Etalage" if mine is None else f"{mine.file} ({mine.state})"
        add_row(table, name, one.role, one.data, where)
    out.print(table)
    for orphan in orphans:
        out.print(orphan.sentence)


@app.command(
    epilog="""
    etalage trust --shop demo
    etalage trust --forget
    """
)
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
        said = f"{here.models.folder}: none of its files is trusted any longer"
        tell({"trusted": [], "recorded": None}, lambda: out.print(said))
        return
    files = here.own_files()
    asked = [one for one in files if one.state != "trusted"]
    if manner().json and asked and not yes:
        raise ConfigError("--json asks no question: look at the files, and add --yes")
    if not manner().json:
        _show_files(here.models.folder, files)
    if asked and not yes and not typer.confirm("Allow Etalage to run these files, with all your rights?"):
        out.print("nothing changed")
        raise typer.Exit(1)
    note = here.trust(files) if asked else None
    tell(
        {"trusted": files, "recorded": note},
        lambda: out.print(f"trusted; recorded in {note}") if asked else None,
    )


def _show_files(folder: Path, files: "Sequence[OwnFile]") -> None:
    if not files:
        out.print(f"{folder}: holds no models, so there is nothing to trust")
        return
    table = table_of("file", "role", "SHA-256", "")
    for one in files:
        add_row(table, str(one.file), one.role, one.sha256, one.state)
    out.print(table)
    if all(one.state == "trusted" for one in files):
        out.print("all files are trusted already")
