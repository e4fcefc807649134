"""The Streamlit script of the storefront. Started by `etalage.page.run`; speaks to the server alone.

Everything that the shopper chose stands in one Place, which is what the address bar says too: a
callback changes the place (navigation.py), the script shows it, its widgets included.
"""

import os
from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from etalage.errors import (
    BodyTooLarge,
    BundleError,
    EtalageError,
    KeyRefused,
    NotFound,
    Overloaded,
    PhotoRefused,
    ServeError,
)
from etalage.page import categories, pieces, shopper, wording
from etalage.page.navigation import (
    correct,
    entered,
    go,
    home,
    photographed,
    priced,
    read_place,
    searched,
    set_widget,
    stocked,
    upload_key,
    within,
    without_photo,
)
from etalage.page.place import Place
from etalage.page.source import ForShopper, Mistakes, Shown, Source

GRID = 30
LIKE_PHOTO = 30
LIKE_ITEM = 12
CARD_PIXELS = 480
LARGE_PIXELS = 1200
SIDE_AND_MAIN = (1, 4)
HEAD = (5, 16, 4)

ANOTHER_PHOTO = ("We could not use this photo", "Please try another one: JPEG, PNG or WebP work well.")
TROUBLES: dict[type[EtalageError], tuple[str, str]] = {
    PhotoRefused: ANOTHER_PHOTO,
    BodyTooLarge: ANOTHER_PHOTO,
    NotFound: ("This item is not here", "It may have left the shop. The others are still there."),
    KeyRefused: ("The server asks for a key", "Start the page with ETALAGE_KEY set to the server's key."),
    BundleError: ("The window is still empty", "No bundle can be shown yet: `etalage publish` makes one."),
    Overloaded: ("The shop is very busy", "Please try again in a moment."),
    ServeError: ("The shop does not answer", "Its server may be starting, or stopped."),
}
Answered = TypeVar("Answered", Shown, ForShopper, ForShopper | None, Mistakes | None)
MAY_BE = 3  # other categories that are named of a shopper's photo
OTHER_TROUBLE = ("That did not work", "The server refused the question.")


@st.cache_resource(show_spinner=False)
def source(url: str, key_name: str = "ETALAGE_KEY") -> Source:
    """One for all sessions. The key is read here, so that it is no part of a cache's name."""
    return Source(url, os.environ.get(key_name) or None)


def other_source() -> Source | None:
    """The server to compare with, if there is one. It never gets the first one's key."""
    url = os.environ.get("ETALAGE_COMPARE_URL")
    return source(url, "ETALAGE_COMPARE_KEY") if url else None


def header(place: Place) -> None:
    with st.container(key="head"):
        left, right, end = st.columns(HEAD, gap="large", vertical_alignment="center")
        with left:
            pieces.brand(os.environ.get("ETALAGE_NAME") or "Étalage", home)
        with right:
            st.text_input(
                "Search",
                key=set_widget("search", place.search),
                placeholder="Search by title, brand or category",
                icon=":material/search:",
                label_visibility="collapsed",
                max_chars=200,
                on_change=entered("search", searched),
            )
        with end:
            if place.for_shopper or place.for_categories:
                st.button("The shop", key="to-shop", icon=":material/storefront:", on_click=home)
            else:
                st.button(
                    "For a shopper",
                    key="to-shopper",
                    icon=":material/person:",
                    on_click=lambda: go(for_shopper=True, item=None, photo=False),
                )


def filters(place: Place, shop: Source, bundle: str | None) -> None:
    with st.container(key="filters"):
        pieces.heading("Find by photo")
        with st.container(key="upload"):
            pieces.note("Drop a photo of something you like, and see what is like it here.")
            st.file_uploader(
                "A photo of what you like",
                key=upload_key(),
                label_visibility="collapsed",
                on_change=photographed,
            )
        if bundle is not None:
            pieces.heading("Categories")
            pieces.tree(
                shop.tree(bundle, place.category),
                place.category,
                lambda path: go(category=path or None, item=None, page=1),
            )
            show_classified_tree(place, shop, bundle)
        pieces.heading("Price")
        low, high = st.columns(2)
        for column, name, value, word in (
            (low, "min_price", place.min_price, "from"),
            (high, "max_price", place.max_price, "to"),
        ):
            column.number_input(
                f"Price {word}",
                key=set_widget(name, value),
                min_value=0.0,
                step=None,
                format="%.15g",
                placeholder=word,
                label_visibility="collapsed",
                on_change=entered(name, priced),
            )
        st.toggle(
            "Only what is in stock",
            key=set_widget("in_stock", place.in_stock),
            on_change=entered("in_stock", stocked),
        )


def show_classified_tree(place: Place, shop: Source, bundle: str) -> None:
    """The tree of what the classifier told, where it told anything; and the way to how often it errs."""
    branches = shop.tree(bundle, place.classified, "classified")
    if not branches:
        return
    pieces.heading("As classified")
    pieces.tree(
        branches, place.classified, lambda path: go(classified=path or None, item=None, page=1), "told-tree"
    )
    st.button(
        "What is taken for what",
        key="to-categories",
        icon=":material/grid_on:",
        type="tertiary",
        on_click=lambda: go(for_categories=True, item=None, photo=False),
    )


def grid(place: Place, shop: Source) -> Shown:
    shown = shop.listing(place, GRID)
    if not shown.items and shown.total and place.page > 1:  # an address beyond the last page
        place = correct(page=-(-shown.total // GRID))
        shown = shop.listing(place, GRID)
    title = f"“{place.search}”" if place.search else "Everything"
    if labels := [path.split(wording.SEPARATOR)[-1] for path in (place.category, place.classified) if path]:
        label = ", ".join(labels)
        title = f"{title} in {label}" if place.search else label
    with st.container(key="grid-title"):
        pieces.heading(title, wording.amount(shown.total, "item", "items"))
    if not shown.items:
        empty(place)
    shelf("grid", shown, shop, columns=5, scored=False, top=f"grid {place}")
    pages = -(-shown.total // GRID)
    if pages > 1:
        with st.container(key="pages"):
            key = f"page-{place.page}"
            st.pagination(
                pages, default=place.page, key=key, on_change=lambda: go(page=st.session_state[key])
            )
    return shown


def empty(place: Place) -> None:
    if place.is_filtered:
        pieces.notice("Nothing like that here", "Try another word, or take a filter away.")
        with st.container(key="way-on", horizontal_alignment="center"):
            st.button("Show everything", key="everything", type="primary", on_click=home)
    else:
        pieces.notice("The window is empty", "No items were published yet.")


def like_photo(place: Place, shop: Source) -> Shown:
    photo: bytes = st.session_state.photo
    shown = shop.similar_to_photo(photo, LIKE_PHOTO, place)
    answer = shop.what_is(photo, MAY_BE)
    with st.container(key="own"):
        left, middle, what, right = st.columns([2, 6, 5, 4], gap="medium", vertical_alignment="center")
        with left:
            pieces.uploaded(photo)
        with middle:
            pieces.heading("Like your photo", wording.amount(len(shown.items), "item", "items"))
            if shown.reason:
                pieces.note(shown.reason)
        if answer is not None and answer.steps:
            with what:
                pieces.show_category(answer)
        right.button("Back to the shop", key="back", icon=":material/close:", on_click=without_photo)
    shelf("like-photo", shown, shop, columns=5, scored=True, top=f"photo {hash(photo)} {place}")
    return shown


def opened(place: Place, shop: Source) -> Shown:
    assert place.item is not None
    item = shop.item(place.item)
    shown = shop.similar_to_item(place.item, LIKE_ITEM)
    before = "the shopper" if place.for_shopper else "the photo's results" if place.photo else "the shop"
    st.button(
        f"Back to {before}",
        key="back",
        icon=":material/arrow_back:",
        type="tertiary",
        on_click=lambda: go(item=None),
    )
    wanted = [place.item] if item.get("photo") else []
    photo = shop.photos(shown.bundle, wanted, LARGE_PIXELS).get(place.item)
    pieces.item(
        item,
        photo,
        lambda path: within(category=path),
        lambda path: within(classified=path),
    )
    with st.container(key="similar"):
        if shown.fallback == "by_behaviour":
            pieces.heading("Wanted with it", "by what shoppers did")
        elif shown.fallback:
            pieces.heading("Popular in the shop", wording.amount(len(shown.items), "item", "items"))
            pieces.note("There is no photo of this item to compare: these are the most popular ones.")
        else:
            pieces.heading("Similar items", "by their photos")
        shelf("like-item", shown, shop, columns=6, scored=not shown.fallback, top=f"item {place.item}")
    return shown


def shelf(key: str, shown: Shown, shop: Source, *, columns: int, scored: bool, top: str) -> None:
    photos = shop.photos(shown.bundle, shown.with_photo, CARD_PIXELS)
    pieces.cards(key, shown.items, photos, columns=columns, scored=scored, top=top, pick=lambda i: go(item=i))


def trouble(error: EtalageError) -> None:
    """What went wrong, in a shopper's words, with the server's own beneath; and the way on."""
    title, text = next((told for kind, told in TROUBLES.items() if isinstance(error, kind)), OTHER_TROUBLE)
    pieces.notice(title, text, str(error).removeprefix("row 0: "))
    with st.container(key="way-on", horizontal_alignment="center"):
        if isinstance(error, PhotoRefused | BodyTooLarge):
            st.button("Back to the shop", key="leave", type="primary", on_click=without_photo)
        elif isinstance(error, NotFound):
            st.button("Back to the shop", key="leave", type="primary", on_click=lambda: go(item=None))
        else:
            st.button("Try again", key="retry", type="primary")


def body(place: Place, shop: Source) -> None:
    if place.item is not None:
        guarded(lambda: opened(place, shop))
        return
    if place.for_shopper:
        page_of_shopper(place, shop)
        return
    if place.for_categories:
        guarded(lambda: categories.shown(shop))
        return
    side, main = st.columns(SIDE_AND_MAIN, gap="large")
    with main:
        shown = guarded(lambda: like_photo(place, shop) if place.photo else grid(place, shop))
    with side:
        try:
            bundle = shown.bundle if shown else shop.client.bundle()
            filters(place, shop, bundle)
        except EtalageError:
            if shown is not None:  # else the trouble is told in the middle already
                raise


def page_of_shopper(place: Place, shop: Source) -> None:
    side, main = st.columns(SIDE_AND_MAIN, gap="large")
    with main:
        shown = guarded(lambda: shopper.shown(place, shop, other_source()))
    with side:
        try:
            shopper.chooser(place, shop)
        except EtalageError:
            if shown is not None:  # else the trouble is told in the middle already
                raise


def guarded(show: Callable[[], Answered]) -> Answered | None:
    """Show it, and who answered; in trouble say so. None after trouble."""
    try:
        shown = show()
    except EtalageError as error:
        trouble(error)
        return None
    if shown is not None:
        pieces.foot(shown.bundle, shown.seconds)
    return shown


def main() -> None:
    st.set_page_config(page_title=os.environ.get("ETALAGE_NAME") or "Étalage", layout="wide")
    pieces.style()
    place = read_place()
    header(place)
    body(place, source(os.environ.get("ETALAGE_URL", "http://127.0.0.1:8765")))


main()
