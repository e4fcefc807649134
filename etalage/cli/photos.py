"""`etalage photos`: downloads photos from links."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from etalage.cli.answers import tell
from etalage.cli.app import HERE, ShopFolder, group, opened
from etalage.console import add_row, out, table_of

if TYPE_CHECKING:
    from etalage.lake.photos.fetch import Fetched
    from etalage.lake.photos.probe import Probe

photos = group("photos", "Download photos from the links in the feeds.")
NO_LINKS = "no link is without its photo: to add links, map a column to photo_url and ingest again"


@photos.command(epilog="etalage photos probe --links 200")
def probe(
    shop: ShopFolder = HERE,
    links: Annotated[int, typer.Option(min=1, help="How many links to try.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed takes another sample.")] = 0,
) -> None:
    """Try a sample of the links.

    It shows what fails, for which merchant, and what downloading all links would cost. It writes nothing.
    """
    done = opened(shop).probe_photos(links, seed)
    tell(done, lambda: _show_probe(done))


def _show_probe(done: "Probe") -> None:
    out.print(f"{done.asked:,} of {done.links:,} links, seed {done.seed}")
    if not done.asked:
        out.print(NO_LINKS)
        return
    table = table_of("merchant", "links", "asked", "failed", "reasons")
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


@photos.command(
    epilog="""
    etalage photos fetch
    etalage photos fetch --again
    """
)
def fetch(
    shop: ShopFolder = HERE,
    refresh: Annotated[
        float | None, typer.Option(min=0, help="Also ask again for photos that are this many days old.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Also ask for failed links that are not due yet.")] = False,
) -> None:
    """Download the photo of every link that is due.

    If a run was killed, the next one continues with what is missing.
    """
    done = opened(shop).fetch_photos(refresh, again)
    tell(done, lambda: _show_fetched(done))


def _show_fetched(done: "Fetched") -> None:
    if done.taken_up:
        out.print(f"stored {done.taken_up:,} links of a run that did not finish")
    states = ", ".join(f"{count:,} {state}" for state, count in done.states.items())
    out.print(f"{done.links:,} links{': ' if states else ''}{states}")
    if not done.links and not done.waiting:
        out.print(NO_LINKS)
    out.print(
        f"photos new or changed {done.photos:,}, unchanged {done.unchanged:,}, shared {done.shared:,}; "
        f"downloaded {done.downloaded / 1e6:,.1f} MB, stored {done.stored / 1e6:,.1f} MB"
    )
    if done.waiting:
        out.print(f"{done.waiting:,} links failed and are not due yet; --again asks for them now")


def _share(share: Any) -> str:
    if not share.of:
        return "–"
    return f"{share.count} ({share.share:.1%}; {share.low:.1%} – {share.high:.1%})"


def _figure(figure: Any, unit: str, digits: int, scale: float = 1.0) -> str:
    value, low, high = (f"{x / scale:,.{digits}f}" for x in (figure.value, figure.low, figure.high))
    return f"{value} {unit} ({low} – {high})"
