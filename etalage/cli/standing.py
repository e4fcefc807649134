"""The command that says where a shop stands."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from etalage.cli.answers import tell
from etalage.cli.app import HERE, ShopFolder, app, naming_shop, opened
from etalage.console import add_row, out, table_of

if TYPE_CHECKING:
    from etalage.shop.status_steps import ShopStatus


@app.command(epilog="etalage status --shop demo")
def status(shop: ShopFolder = HERE) -> None:
    """Show where the shop stands, and the next command.

    It lists tables, trained models with their verdicts, and the current bundle, with what changed since. It
    changes nothing.
    """
    found = opened(shop).status()
    step = replace(
        found.next, command=naming_shop(found.next.command, shop), why=naming_shop(found.next.why, shop)
    )
    found = replace(found, next=step)
    tell(found, lambda: _show(found, shop))


def _show(found: "ShopStatus", shop: Path) -> None:
    table = table_of("table", "rows", "version")
    for one in found.tables:
        add_row(table, one.name, f"{one.rows:,}", one.version)
    out.print(f"{found.name}: {shop.resolve()}")
    if found.tables:
        out.print(table)
    if found.pending_links:
        out.print(f"{found.pending_links:,} photos are links that nobody has asked for yet")
    if found.models:
        table = table_of("model", "export", "verdict", "published", "trained before the newest")
        for model in found.models:
            add_row(table, model.name, model.export, model.verdict, model.published, ", ".join(model.behind))
        out.print(table)
        for model in found.models:
            if model.verdict == "refused":
                state = "is published by force" if model.forced else "would not be published"
                out.print(f"{model.name} {state}: {naming_shop(model.reason or '', shop)}")
            if model.learned is not None:
                out.print(f"published: {model.learned}")
    if found.bundle is not None:
        behind = f"; since then {', '.join(found.bundle.behind)} changed" if found.bundle.behind else ""
        out.print(f"bundle {found.bundle.id}: {found.bundle.items:,} items, made {found.bundle.made}{behind}")
    else:
        out.print(f"no bundle: {found.problem or 'nothing was published yet'}")
    out.print(f"next: {found.next.command}  ({found.next.why})")
