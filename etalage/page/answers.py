"""How answers are written: pages from templates, the page's own files, photos. All text is gzipped."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from etalage.api import BundleFacts
from etalage.page.thumbnails import media_type
from etalage.page.views import View

HERE = Path(__file__).parent
LASTING = "public, max-age=31536000, immutable"
"""For what is another thing under another address."""
ASKED_ANEW, NOT_KEPT = "no-cache", "no-store"
WORTH_PACKING = 512
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class StaticFile:
    """One of the page's own files, and the same packed."""

    content: bytes
    packed: bytes
    kind: str


class Templates:
    """The page's templates and files, read once."""

    def __init__(self, shop: str) -> None:
        """`shop`: the shop's name."""
        self.files: dict[str, StaticFile] = {}
        addresses = {}
        for file in sorted((HERE / "static").iterdir()):
            content = file.read_bytes()
            # The name is of the content, so that a browser may keep it for good.
            name = f"{file.stem}.{hashlib.sha256(content).hexdigest()[:12]}{file.suffix}"
            self.files[name] = StaticFile(content, gzip.compress(content, 9), KINDS[file.suffix])
            addresses[file.name] = f"/static/{name}"
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,  # F38: whatever comes from the catalogue is text
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals.update(shop=shop, files=addresses)

    def page(self, request: Request, view: View, has: BundleFacts) -> Response:
        """A view as HTML; `has`: what the shop has to offer. It is asked for anew every time: stock and
        prices change."""
        template = self._environment.get_template(view.template)
        text = template.render(**{"bundle": None, "took": None, **view.facts}, title=view.title, has=has)
        return _text(request, text.encode(), "text/html", view.status, {"cache-control": ASKED_ANEW})

    def file(self, request: Request, name: str) -> Response | None:
        """One of the page's own files; None: there is no such file."""
        found = self.files.get(name)
        if found is None:
            return None
        return _text(request, found.content, found.kind, 200, {"cache-control": LASTING}, packed=found.packed)


def _text(
    request: Request,
    content: bytes,
    kind: str,
    status: int,
    headers: Mapping[str, str],
    packed: bytes | None = None,
) -> Response:
    sent: dict[str, Any] = {**headers, "vary": "accept-encoding", "content-type": f"{kind}; charset=utf-8"}
    if len(content) >= WORTH_PACKING and "gzip" in request.headers.get("accept-encoding", ""):
        content = gzip.compress(content, 5) if packed is None else packed
        sent["content-encoding"] = "gzip"
    return Response(content, status, sent)


def photo(content: bytes, lasting: bool, side: str = "public") -> Response:
    """A photo; 404 for what is no image that a browser shows (F38: an SVG may hold a script)."""
    kind = media_type(content)
    if kind is None:
        return Response("not a photo\n", 404, media_type="text/plain")
    kept = LASTING.replace("public", side) if lasting else NOT_KEPT
    return Response(content, headers={"content-type": kind, "cache-control": kept})
