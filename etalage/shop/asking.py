"""Questions of the command line: a name that nobody knows fails there, with the one that was meant.

A server answers the same questions with what is popular (F31): a page must never be empty. Who types a
command wants to know of the typing error.
"""

import shlex
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from etalage import sentences
from etalage.errors import NotFound, Unprocessable
from etalage.nearest import nearest
from etalage.shop import live_steps
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.api import Answer, NearUser, Recommended
    from etalage.features.history import BehaviourRule
    from etalage.online import Act
    from etalage.recommend import Filters, Recommender

EXAMPLES = 3


def open_recommender(workspace: Workspace) -> "Recommender":
    """The current bundle, opened; as a server does, it knows what the online store holds."""
    from etalage.recommend import Recommender

    folder = workspace.bundles.path(workspace.bundles.current_id())
    return Recommender.open(folder, live=lambda: live_steps.found(workspace))


def kept_recommender(workspace: Workspace) -> "Recommender":
    """The current bundle, opened once for all questions of this process, until another one is current."""
    current = workspace.bundles.current_id()
    kept = workspace.kept_recommender
    if kept is None or kept.bundle != current:
        kept = workspace.kept_recommender = open_recommender(workspace)
    return kept


def similar(
    workspace: Workspace,
    item_id: str | None,
    photos: Sequence[bytes] | None,
    k: int,
    threshold: float | None,
) -> "Answer":
    """What is like one item, or one photo. Raises NotFound, PhotoRefused, Unprocessable, BundleError."""
    if (item_id is None) == (photos is None):
        raise Unprocessable("give an item_id or --photo FILE, one of them")
    recommender = kept_recommender(workspace)
    if item_id is not None:
        require_items(workspace, recommender, [item_id], "item")
    (answer,) = recommender.similar(item_id=item_id, photos=photos, k=k, threshold=threshold)
    return answer


def recommend(
    workspace: Workspace, user_id: str | None, had: Sequence[str] | None, k: int, explain: bool
) -> "tuple[Recommended, str | None]":
    """What a shopper would want, by what they did until now; or one who had these items; and, of one that
    nobody knows, who may have been meant: a newcomer is answered as on the page.

    Raises NotFound: an item of `had` is in no bundle; Unprocessable: a user and `had`; BundleError.
    """
    if user_id is not None and had:
        raise Unprocessable(f"give a user or --had, not both: {user_id!r} has a history of their own")
    recommender = kept_recommender(workspace)
    require_items(workspace, recommender, had or (), "--had")
    history, filters = _owner_of(had, recommender.funnel.rules) if had else (None, None)
    answer = recommender.recommend(user_id=user_id, history=history, k=k, filters=filters, explain=explain)
    return answer, None if answer.known else _stranger(recommender, user_id)


def in_words(workspace: Workspace, item_id: str | None, answer: "Answer") -> str | None:
    """What stands in a slate of no similar photos; None: it is of similar photos."""
    if answer.fallback is None:
        return None
    if answer.fallback == "by_text":
        return "no photo of it to compare: items with a similar text"
    if answer.fallback == "by_behaviour":
        return "no photo of it: what the same shoppers want"
    recommender = kept_recommender(workspace)
    catalogue = recommender.catalogue
    row = 0 if item_id is None else catalogue.row(item_id)
    of = sentences.whose(catalogue.category(row) if row else None, [one.category_id for one in answer.slate])
    compared = "no photo of it" if row and not catalogue.has_photo[row] else "no model compares its photo"
    return f"{compared}: {sentences.in_place_of_similar(of, recommender.facts.acted_on > 0)}"


def tier_in_words(workspace: Workspace, answer: "Recommended") -> str:
    """Which models made a slate."""
    return sentences.tier(answer.tier, kept_recommender(workspace).facts.acted_on > 0)


def users_for(workspace: Workspace, item_id: str, k: int) -> "list[NearUser]":
    """The shoppers to tell about an item. Raises NotFound, Unprocessable, BundleError."""
    recommender = kept_recommender(workspace)
    require_items(workspace, recommender, [item_id], "item")
    return recommender.users_for_item(item_id, k)


def users_like(workspace: Workspace, user_id: str, k: int) -> "list[NearUser]":
    """The shoppers most similar to one. Raises NotFound, Unprocessable, BundleError."""
    recommender = kept_recommender(workspace)
    if not recommender.users.ids.row(user_id):
        raise NotFound(f"{_stranger(recommender, user_id)} (bundle {recommender.bundle})")
    return recommender.users_like(user_id, k)


def _owner_of(had: Sequence[str], rule: "BehaviourRule") -> "tuple[list[Act], Filters]":
    """The history of one who has these items, and what keeps them off the slate.

    Their kind is one that the shop counts and after which one has an item, such as `buy`; where there is
    none, one that it counts. Where the shop shows again what somebody has, so does this.
    """
    from etalage.online import Act
    from etalage.recommend import Filters

    given = (*rule.behaviour.has, *rule.behaviour.targets, *rule.behaviour.weights)
    counted = [kind for kind in (*given, "buy", "view") if rule.positive(kind, None)]
    kind = next((kind for kind in counted if rule.has(kind)), next(iter(counted), "buy"))
    keep = rule.seen == "keep" or rule.drops(kind)
    return [Act(item_id, kind) for item_id in had], Filters(exclude=() if keep else tuple(had))


def somebody(workspace: Workspace) -> str | None:
    """A shopper to ask for: the one who acted last, as the online store knows; None: it knows nobody."""
    store = live_steps.found(workspace)
    if store is None:
        return None
    with closing(store):
        return next(iter(store.users(1)), None)


def require_items(
    workspace: Workspace, recommender: "Recommender", item_ids: Sequence[str], named: str
) -> None:
    """Raises NotFound that names the first of `item_ids` that the bundle does not hold, and what to do."""
    catalogue = recommender.catalogue
    for item_id in item_ids:
        if catalogue.row(item_id):
            continue
        said = f"{named} {item_id[:60]!r}: no such item in bundle {recommender.bundle}"
        if _in_tables(workspace, item_id):
            raise NotFound(f"{said}; the table items has it: `etalage sync --shop {_typed(workspace)}`")
        if _is_file(item_id):
            raise NotFound(
                f"{said}, but a file: `etalage similar --photo {shlex.quote(item_id)}` asks by a photo"
            )
        near = nearest(item_id, catalogue.ids[1:])
        examples = ", ".join(repr(one) for one in catalogue.ids[1 : EXAMPLES + 1])
        raise NotFound(
            f"{said}; " + (f"did you mean {near!r}?" if near else f"its ids are such as {examples}")
        )


def _is_file(item_id: str) -> bool:
    try:
        return Path(item_id).is_file()
    except (OSError, ValueError):  # too long for a path, or a NUL in it
        return False


def _stranger(recommender: "Recommender", user_id: str | None) -> str:
    if user_id is None:
        return "nothing is known of this shopper"
    near = nearest(user_id, recommender.users.ids.ids.to_pylist())
    said = f"nothing is known of shopper {user_id[:60]!r}"
    return said if near is None else f"{said}; did you mean {near!r}?"


def _in_tables(workspace: Workspace, item_id: str) -> bool:
    table = workspace.lake.table("items")
    if not table.exists():
        return False
    return bool(pc.any(pc.equal(table.read(columns=["item_id"])["item_id"], item_id)).as_py())


def _typed(workspace: Workspace) -> str:
    return shlex.quote(str(workspace.folder))
