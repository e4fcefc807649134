"""`etalage photos`: links become photos."""

from typing import Annotated, Any

import typer

from etalage.cli.app import HERE, ShopFolder, app, opened
from etalage.console import add_row, out, table_of

photos = typer.Typer(help="Photos from the links of the feeds.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(photos, name="photos")
NO_LINKS = "no link waits for its photo: a column that is mapped to photo_url brings some, at the next ingest"


@photos.command()
def probe(
    shop: ShopFolder = HERE,
    links: Annotated[int, typer.Option(min=1, help="How many links to ask for.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another sample.")] = 0,
) -> None:
    """Ask for a sample of the links first.

    It says what fails, of which merchant, and what all would cost. Nothing is written.
    """
    done = opened(shop).probe_photos(links, seed)
    out.print(f"{done.asked:,} of {done.links:,} links, seed {done.seed}")
    if not done.asked:
        out.print(NO_LINKS)
        return
    table = table_of("merchant", "links", "asked", "failed", "of which")
    for one in (done.whole, *(done.merchants if len(done.merchants) > 1 else ())):
        kinds = ", ".join(f"{state} {_share(share)}" for state, share in one.states.items() if state != "ok")
        add_row(table, one.name, f"{one.links:,}", f"{one.asked:,}", _share(one.failed), kinds)
    out.print(table)
    for state, reasons in done.reasons.items():
        for reason, count in reasons.items():
            out.print(f"  {count} × {state}: {reason}")
    cost = done.cost
    out.print(f"all of them: {_figure(cost.hours, 'hours', 2)}, due to {cost.bottleneck}")
    sizes = (_figure(size, "MB", 1, 1e6) for size in (cost.downloaded, cost.stored))
    out.print("  downloaded {}, stored {}".format(*sizes))
    for host, hours in cost.longest:
        out.print(f"  {host} takes {hours:.2f} hours")


@photos.command()
def fetch(
    shop: ShopFolder = HERE,
    refresh: Annotated[
        float | None, typer.Option(min=0, help="Ask again, too, for photos that are so many days old.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Links that failed too, before their time has come.")] = False,
) -> None:
    """Get the photo of every link that is due.

    What a killed run has stored is not asked for again.
    """
    done = opened(shop).fetch_photos(refresh, again)
    if done.taken_up:
        out.print(f"{done.taken_up:,} links of a run that did not end were taken up")
    states = ", ".join(f"{count:,} {state}" for state, count in done.states.items())
    out.print(f"{done.links:,} links{': ' if states else ''}{states}")
    if not done.links and not done.waiting:
        out.print(NO_LINKS)
    out.print(
        f"photos new or changed {done.photos:,}, unchanged {done.unchanged:,}, shared {done.shared:,}; "
        f"downloaded {done.downloaded / 1e6:,.1f} MB, stored {done.stored / 1e6:,.1f} MB"
    )
    if done.waiting:
        out.print(f"{done.waiting:,} links failed and are not due yet; `--again` asks for them now")


def _share(share: Any) -> str:
    if not share.of:
        return "–"
    return f"{share.count} ({share.share:.1%}; {share.low:.1%} – {share.high:.1%})"


def _figure(figure: Any, unit: str, digits: int, scale: float = 1.0) -> str:
    value, low, high = (f"{x / scale:,.{digits}f}" for x in (figure.value, figure.low, figure.high))
    return f"{value} {unit} ({low} – {high})"
