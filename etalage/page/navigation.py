"""From one place to another: what the callbacks do. They run before the script, which then shows it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import streamlit as st

from etalage.page.place import Place


def read_place() -> Place:
    """The place to show: where a click led, or else what the address bar says now."""
    state, query = st.session_state, st.query_params.to_dict()
    clicked = state.pop("clicked", False)
    # A click wins: its message may still carry the address from before the last one.
    if "place" not in state or (not clicked and query != state.address):
        state.place = Place.from_query(query)
    place: Place = state.place
    if place.photo and "photo" not in state:  # an address that was kept; the photo was not
        place = state.place = replace(place, photo=False)
    state.address = place.to_query()
    if state.address != query:
        st.query_params.from_dict(state.address)
    return place


def correct(**changes: Any) -> Place:
    """Amend the place while it is shown; the address follows with the next click."""
    place: Place = replace(st.session_state.place, **changes)
    st.session_state.place = place
    return place


def go(**changes: Any) -> None:
    """Another place that differs from this one by `changes`."""
    st.session_state.place = replace(st.session_state.place, **changes)
    st.session_state.clicked = True


def within(category: str | None = None, classified: str | None = None) -> None:
    """The grid of one category: the merchant's own, or as classified."""
    grid = {
        "item": None,
        "photo": False,
        "for_shopper": False,
        "for_categories": False,
        "search": "",
        "page": 1,
    }
    go(**grid, category=category, classified=classified)


def home() -> None:
    """The whole grid, nothing filtered."""
    st.session_state.place = Place()
    st.session_state.clicked = True
    _forget_upload()


def searched() -> None:
    words = widget("search").strip()
    go(search=words, item=None, photo=False, for_shopper=False, for_categories=False, page=1)


def shopper_named() -> None:
    """An id was typed in."""
    go(shopper=widget("shopper").strip() or None)


def priced() -> None:
    go(min_price=widget("min_price"), max_price=widget("max_price"), page=1)


def stocked() -> None:
    go(in_stock=widget("in_stock"), page=1)


def upload_key() -> str:
    """The key of the uploader. A new one makes it forget its file, for which it offers no other way."""
    return f"upload-{st.session_state.get('uploads', 0)}"


def _forget_upload() -> None:
    st.session_state.uploads = st.session_state.get("uploads", 0) + 1


def photographed() -> None:
    """A photo was uploaded, or taken away again."""
    file = st.session_state[upload_key()]
    if file is None:
        go(photo=False)
    else:
        st.session_state.photo = file.getvalue()
        go(photo=True, item=None, search="", page=1)


def without_photo() -> None:
    _forget_upload()
    go(photo=False)


def set_widget(name: str, value: Any) -> str:
    """Before a widget is made: it will show what the place says. → its key.

    One whose value is set here is a new widget, of a new key: a click's message may still carry the value
    that the old one had in the browser, and that is nothing the shopper chose.
    """
    key = _key(name)
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[f"{name}-set"] = st.session_state.get(f"{name}-set", 0) + 1
        key = _key(name)
        st.session_state[key] = value
    return key


def widget(name: str) -> Any:
    """What the shopper entered."""
    return st.session_state[_key(name)]


def entered(name: str, then: Callable[[], None]) -> Callable[[], None]:
    """`then`, for the widget that set_widget named last, when it has another value than it was made with.

    A browser may still send the values of widgets that are no longer shown, with a click on something else.
    """
    key = _key(name)
    made_with = st.session_state[key]

    def hear() -> None:
        if key == _key(name) and st.session_state.get(key, made_with) != made_with:
            then()

    return hear


def _key(name: str) -> str:
    return f"{name}-{st.session_state.get(f'{name}-set', 0)}"
