"""One HTML file that shows how good a model is: self-contained, readable without a network.

The frame is report.html.j2; what stands in it are sections (sections.py), each by a macro of its own.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from etalage.errors import PhotoRefused
from etalage.evaluation.glossary import define
from etalage.features.photo import open_photo

if TYPE_CHECKING:
    from etalage.evaluation.gate import Verdict
    from etalage.evaluation.sections import Section

PHOTO_SIDE = 128
"""Photos are shrunk to this many pixels a side: a report of 100 photos stays below a few MB."""


def write_report(
    path: Path,
    title: str,
    sections: "Sequence[Section]",
    *,
    facts: Mapping[str, str] | None = None,
    verdict: "Verdict | None" = None,
) -> list[Path]:
    """Write the page to `path`, every text escaped; the plots as PNG files and the sections' own files into
    the folder of the same name. Returns them all, the page first.

    facts: what was measured and how, for the head of the page.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    shown: list[dict[str, Any]] = []
    kept: dict[str, bytes] = {}
    for section in sections:
        if section.page is None:
            continue
        plots = {name: plot for name, plot in section.plots().items() if plot is not None}
        template, macro = section.page
        content = {**section.content(), "plots": plots, "alts": section.alts()}
        shown.append({"template": f"{template}.html.j2", "macro": macro, "content": content})
        kept |= {f"{name}.png": base64.b64decode(plot.partition(",")[2]) for name, plot in plots.items()}
        kept |= {name: text.encode() for name, text in section.files().items()}
    folder = path.with_suffix("")
    if kept:
        folder.mkdir(exist_ok=True)
    for name, data in kept.items():
        (folder / name).write_bytes(data)
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.globals |= {"term": Terms(), "coded": coded, "style": _inlined("report.css")}
    page = pages.get_template("report.html.j2").render(
        title=title,
        facts=dict(facts or {}),
        verdict=verdict,
        sections=shown,
    )
    path.write_text(page, encoding="utf-8")
    return [path, *(folder / name for name in sorted(kept))]


def _inlined(name: str) -> Markup:
    """A file beside this one, to stand in the page as it is."""
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8"))


def coded(text: str) -> Markup:
    """With what stands between `backticks` as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 and number < len(parts) - 1 else escape(part)
        for number, part in enumerate(parts)
    )


class Terms:
    """Marks up words that the glossary explains. The explanation shows on hover, on focus, and where one
    taps; a reader of screens reads it after the word."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, name: str, words: str | None = None) -> Markup:
        """`words` (else `name`), with what `name` means where the glossary has it."""
        meaning = define(name)
        if meaning is None:
            return escape(words or name)
        self._count += 1
        return Markup(
            '<span class="term"><button type="button" aria-describedby="term-{n}">{words}</button>'
            '<span role="tooltip" id="term-{n}">{meaning}</span></span>'
        ).format(n=self._count, words=words or name, meaning=meaning)


def photo_uri(data: bytes, side: int = PHOTO_SIDE) -> str | None:
    """A data URI of the photo, shrunk to `side` pixels; None where it cannot be shown."""
    try:
        image = open_photo(data)
    except PhotoRefused:
        return None
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    # PNG keeps a small photo sharp; a larger one is smaller as JPEG.
    kind = "PNG" if max(image.size) <= 48 else "JPEG"
    image.save(buffer, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
