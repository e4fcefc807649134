"""The reasons not to publish a draft, beside the models' verdicts."""

from etalage.bundle.draft import Draft
from etalage.bundle.manifest import Manifest
from etalage.bundle.photo_entries import photo_rows
from etalage.config import PublishConfig
from etalage.errors import CatalogueShrank


def require_whole(draft: Draft, before: Manifest | None, config: PublishConfig, force: bool) -> list[str]:
    """The refusals that were overridden. Raises CatalogueShrank."""
    trouble = _shrink_trouble(draft, before, config.max_shrink)
    if trouble and not force:
        raise CatalogueShrank(f"{trouble}; if that is meant, publish with --force")
    return ["shrink"] if trouble else []


def _shrink_trouble(draft: Draft, before: Manifest | None, max_shrink: float) -> str | None:
    if before is None:
        return None
    now = {"items": draft.items.num_rows, "items with a photo": len(photo_rows(draft.items))}
    was = {"items": before.items}
    whole = [one.index for one in before.photo_models if one.index and one.index.per_category is None]
    if whole:  # else the manifest does not say how many have a photo
        was["items with a photo"] = whole[0].indexed
    for what, count in was.items():
        lost = count - now[what]
        if lost > 0 and lost >= max_shrink * count:
            return (
                f"the catalogue has {now[what]} {what}; bundle {before.id} has {count}: {lost / count:.0%} "
                f"are gone, {max_shrink:.0%} is refused (max_shrink)"
            )
    return None
