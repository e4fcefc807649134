"""The storefront as an application: what is asked at which address, and who answers it.

The server is asked in threads: one that is slow holds up who waits for it, and nobody else.
"""

import hashlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from etalage.errors import EtalageError, NotFound, PhotoRefused
from etalage.page import answers, categories, forms, parts, shopper, views
from etalage.page.answers import Templates
from etalage.page.guard import Guard
from etalage.page.kept import KeptPhotos
from etalage.page.place import Place
from etalage.page.source import Source
from etalage.page.thumbnails import media_type, refuse_vast, thumbnail
from etalage.page.views import View

log = logging.getLogger("etalage.page")
UPLOADS_BYTES = 128 * 2**20
"""How much of the shoppers' own photos is kept, so that a reload and the back button find them."""
SMALL_BYTES = 16 * 2**20
"""How much of what is shown of them is kept, so that each is made smaller once."""
PAGES_AT_ONCE, PHOTOS_AT_ONCE = 32, 16


@dataclass(frozen=True)
class PageSettings:
    """What a page is made of."""

    url: str = field(repr=False)
    """The address of the server."""
    key: str | None = field(default=None, repr=False)
    name: str = "Étalage"
    """The shop's."""
    compare_url: str | None = field(default=None, repr=False)
    """A second server, whose slates are shown beside the first one's. It never gets the first one's key."""
    compare_key: str | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()
    """Names of the page beside those of loopback."""


def create_app(settings: PageSettings) -> ASGIApp:
    """The storefront of a server. Raises ConfigError, ServeError: `hosts`."""
    page = Storefront(settings)
    routes = [
        Route("/", page.view),
        Route("/photo", page.upload, methods=["POST"]),
        Route("/act", page.act, methods=["POST"]),
        Route("/photos/mine/{token}", page.own_photo),
        Route("/photos/{of}/{bundle}/{side:int}/{item_id:path}", page.photo),
        Route("/static/{name}", page.static),
        Route("/healthz", alive),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: page.unrouted, ClientDisconnect: gone, Exception: page.broken},
    )
    return Guard(app, settings.hosts)


async def alive(_: Request) -> Response:
    """The page answers, whatever its server does."""
    return PlainTextResponse("alive\n")


async def gone(_: Request, error: Exception) -> Response:
    """Whoever sent a form went away before all of it was there."""
    return Response(status_code=400)


class Storefront:
    """The page of one shop."""

    def __init__(self, settings: PageSettings) -> None:
        self._templates = Templates(settings.name)
        self._shop = Source(settings.url, settings.key)
        compare = settings.compare_url
        self._other = Source(compare, settings.compare_key) if compare else None
        self._uploads = KeptPhotos(UPLOADS_BYTES)
        self._small = KeptPhotos(SMALL_BYTES)
        self._pages = anyio.CapacityLimiter(PAGES_AT_ONCE)
        self._photos = anyio.CapacityLimiter(PHOTOS_AT_ONCE)

    # -- pages -----------------------------------------------------------------------------------

    async def view(self, request: Request) -> Response:
        """Whatever the address says."""
        place = Place.from_query(request.query_params)
        return await self._written(request, place, lambda: self._view_of(place))

    def _view_of(self, place: Place) -> View:
        if place.item is not None:
            return views.item(place, self._shop)
        if place.for_shopper:
            return shopper.view(place, self._shop, self._other)
        if place.for_categories:
            return categories.view(place, self._shop)
        if place.photo is None:
            return views.grid(place, self._shop)
        if not self._shop.finds_by_photo():
            return views.no_search_by_photo(place)
        photo = self._uploads.get(place.photo)
        return views.photo_is_gone(place) if photo is None else views.like_photo(place, self._shop, photo)

    async def _written(self, request: Request, place: Place, see: Callable[[], View]) -> Response:
        """The view that `see` makes in a thread; in trouble, what is said then."""
        found = await self._asked(request, place, see)
        assert found is not None
        return found

    async def _asked(self, request: Request, place: Place, see: Callable[[], View | None]) -> Response | None:
        """The same where `see` may have nothing to show."""

        def write() -> Response | None:
            try:
                view = see()
            except EtalageError as error:
                view = views.trouble(error, place)
            return None if view is None else self._sent(request, view)

        return await anyio.to_thread.run_sync(write, limiter=self._pages)

    def _sent(self, request: Request, view: View) -> Response:
        """A view as HTML, which offers what the shop has."""
        return self._templates.page(request, view, self._shop.facts(view.facts.get("bundle")))

    # -- what shoppers send ----------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        """A photo: kept under a name that nobody guesses, and the way to what is like it."""
        place = Place()
        try:
            form = await forms.read_form(request, forms.UPLOAD_BYTES + forms.FORM_BYTES)
            place = _place_of(forms.text_of(form, "place"))
            photo = await forms.file_of(form, "photo")
            if not photo:
                return redirect(place.address())
            if media_type(photo) is None:
                raise PhotoRefused("this file is not an image")
            refuse_vast(photo)
        except EtalageError as error:
            return await self._written(request, place, _raising(error))
        token = secrets.token_urlsafe(16)
        self._uploads.keep(token, photo)
        return redirect(place.narrowed(photo=token, search="", for_shopper=False, for_categories=False))

    async def act(self, request: Request) -> Response:
        """What a shopper does on their page. The form's `once` is the event's id: sent twice, it counts
        once."""
        try:
            form = await forms.read_form(request, forms.FORM_BYTES)
        except EtalageError as error:
            return await self._written(request, Place(for_shopper=True), _raising(error))
        once, user, item, kind = (forms.text_of(form, name) for name in ("once", "shopper", "item", "kind"))
        event = hashlib.sha256("\0".join((once, item, kind)).encode("utf-8", "replace")).hexdigest()
        place = Place(for_shopper=True, shopper=user or None)

        def see() -> View | None:
            try:
                self._shop.act(event, user, item, kind)
            except EtalageError as error:
                return shopper.view(place, self._shop, self._other, failed=str(error))
            return None

        failed = await self._asked(request, place, see)
        return failed or redirect(place.address())

    # -- photos and files ------------------------------------------------------------------------

    async def photo(self, request: Request) -> Response:
        """An item's photo in one of the page's sizes."""
        at = request.path_params
        source = {parts.SHOP: self._shop, parts.OTHER: self._other}.get(at["of"])
        if source is None or at["side"] not in parts.SIDES:
            raise HTTPException(404)

        def get() -> Response:
            try:
                found = source.photo(at["bundle"], at["item_id"], at["side"])
            except NotFound as error:
                return PlainTextResponse(f"{error}\n", 404)
            except EtalageError as error:
                return PlainTextResponse(f"{error}\n", 503)
            return answers.photo(found.content, found.lasting)

        return await anyio.to_thread.run_sync(get, limiter=self._photos)

    async def own_photo(self, request: Request) -> Response:
        """A shopper's own photo, small."""
        token = request.path_params["token"]
        found, small = self._uploads.get(token), self._small.get(token)
        if found is None:
            raise HTTPException(404)
        if small is None:
            small = await anyio.to_thread.run_sync(
                lambda: thumbnail(found, parts.CARD_PIXELS), limiter=self._photos
            )
            self._small.keep(token, small)
        return answers.photo(small, lasting=True, side="private")

    async def static(self, request: Request) -> Response:
        """One of the page's own files."""
        found = self._templates.file(request, request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return found

    # -- what goes wrong -------------------------------------------------------------------------

    async def unrouted(self, request: Request, error: Any) -> Response:
        """There is nothing at this address, or it is not asked so."""
        title, text = "There is nothing here", "The address may have a slip in it."
        if error.status_code != 404:
            title, text = "That did not work", "The page could not read what was sent."
        facts = {"place": Place(), "heading": title, "text": text, "detail": str(error.detail)}
        view = View("trouble.html.j2", title, {**facts, "way": ("To the shop", "/")}, error.status_code)
        return self._sent(request, view)

    async def broken(self, request: Request, error: Exception) -> Response:
        """A mistake of ours: the log says which, the shopper that it was not theirs."""
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        title, text = "That was our mistake", "It is written down. Please try something else meanwhile."
        facts = {"place": Place(), "heading": title, "text": text, "detail": "", "way": ("To the shop", "/")}
        return self._sent(request, View("trouble.html.j2", title, facts, 500))


def _place_of(address: str) -> Place:
    """The place of an address as a form carries it along."""
    return Place.from_query(dict(parse_qsl(address.removeprefix("/?"))))


def redirect(address: str) -> Response:
    """To look there: a reload then sends nothing again."""
    return RedirectResponse(address, 303)


def _raising(error: EtalageError) -> Callable[[], View]:
    def see() -> View:
        raise error

    return see
