"""The report: one file that needs nothing else, whole with much, little and hostile content."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from etalage.evaluation.gate import Verdict, judge
from etalage.evaluation.photo_sections import EmbeddingMap, Neighbours, Strip, VotedConfusion
from etalage.evaluation.photos import photo_metrics
from etalage.evaluation.protocols import Scores, confusion, evaluate_embeddings, evaluate_photos
from etalage.evaluation.report import write_report
from etalage.evaluation.sections import Metrics

RNG = np.random.default_rng(0)
NAMES = np.array(["Clothing > Coat", "Clothing > Dress", "Shoes > Boot"])
CODES = RNG.integers(0, 3, 300)
GOOD = (np.eye(3)[CODES] + 0.35 * RNG.normal(size=(300, 3))).astype(np.float32)
NOISE = RNG.normal(size=(300, 4)).astype(np.float32)
OWN, LABELS = NAMES[CODES[:60]], NAMES[CODES[60:]]


@pytest.fixture(scope="module")
def scores() -> dict[str, Scores]:
    systems = {"cnn": (GOOD[:60], GOOD[60:]), "raw pixels": (NOISE[:60], NOISE[60:])}
    return evaluate_photos(systems, OWN, LABELS, (1, 5), 100)


def photo(mode: str = "RGB", size: tuple[int, int] = (300, 200), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 128).save(buffer, kind)
    return buffer.getvalue()


class Page(HTMLParser):
    """The page's tags with their attributes, and its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def images(self) -> list[Image.Image]:
        sources = [attributes["src"] for tag, attributes in self.tags if tag == "img"]
        return [Image.open(io.BytesIO(base64.b64decode((s or "").partition("base64,")[2]))) for s in sources]


def whole(
    tmp_path: Path,
    scores: dict[str, Scores],
    *,
    title: str = "cnn 0001",
    facts: dict[str, str] | None = None,
    strips: list[Strip] | None = None,
    matrix: tuple[np.ndarray, list[str]] | None = None,
    embeddings: tuple[np.ndarray, np.ndarray] | None = None,
) -> Page:
    ours = next(iter(scores.values())).per_query["precision_at_5"]
    verdict = judge("cnn", "embedder", "precision_at_5", ours, {"raw pixels": ours * 0.5})
    neighbour = (photo("L", (28, 28)), "Clothing > Coat", False, 0.5)
    sections = [
        metrics(scores, verdict),
        Neighbours([(photo(), "Shoes > Boot", [neighbour])] if strips is None else strips),
        VotedConfusion(*(matrix or confusion(next(iter(scores.values())), OWN, LABELS, 5))),
        EmbeddingMap(*(embeddings or (GOOD, NAMES[CODES]))),
    ]
    file = tmp_path / "new" / "report.html"
    files = write_report(file, title, sections, facts=facts or {"Seed": "17"}, verdict=verdict)
    assert files[0] == file and all(one.is_file() for one in files)
    return Page(file)


def metrics(scores: dict[str, Scores], verdict: Verdict | None = None) -> Metrics:
    intervals = {name: one.intervals for name, one in scores.items()}
    queries = len(next(iter(scores.values())).neighbours) if scores else 0
    return photo_metrics(intervals, verdict.metric if verdict else None, queries)


def test_the_report_shows_every_figure_beside_the_simple_system(tmp_path: Path, scores) -> None:
    page = whole(tmp_path, scores)
    for name, interval in scores["cnn"].intervals.items():
        assert name.replace("_at_", " @ ").replace("knn_", "kNN ").replace("_", " ") in page.text
        digits = 3 if max(one.intervals[name].value for one in scores.values()) >= 0.05 else 5
        for value in interval:
            assert f"{value:.{digits}f}" in page.text, name
    assert f"{scores['raw pixels'].intervals['mrr'].value:.3f}" in page.text
    assert "Seed" in page.text and "17" in page.text and "60 queries" in page.text
    assert "cnn beats the best simple system, raw pixels" in page.text
    assert page.tags.count(("td", {"class": "best"})) >= len(scores["cnn"].intervals)
    assert page.tags.count(("tr", {"class": "judged"})) == 1


def test_the_report_needs_no_other_file_and_all_its_images_open(tmp_path: Path, scores) -> None:
    page = whole(tmp_path, scores)
    attributes = [pair for _, every in page.tags for pair in every.items()]
    links = [value or "" for name, value in attributes if name in ("src", "href")]
    assert len(links) == 5 and all(link.startswith("data:image/") for link in links)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    images = page.images()
    for image in images:
        image.load()
    bars, query, neighbour, matrix, embedding_map = (image.size for image in images)
    assert min(bars[0], matrix[0], embedding_map[0]) > 500
    assert query == (128, 85) and neighbour == (28, 28)


def test_the_plots_show_the_data(tmp_path: Path, scores) -> None:
    """Other figures, other drawings; the same figures, the same drawings."""
    matrix, names = confusion(scores["cnn"], OWN, LABELS, 5)
    first, second = whole(tmp_path, scores), whole(tmp_path, scores)
    third = whole(tmp_path, scores, matrix=(matrix[:, ::-1], names), embeddings=(NOISE, NAMES[CODES]))
    sources = [[a["src"] for t, a in page.tags if t == "img"] for page in (first, second, third)]
    assert sources[0] == sources[1]
    assert [a == b for a, b in zip(sources[0], sources[2], strict=True)] == [True, True, True, False, False]


def test_f38_script_in_any_text_stays_text(tmp_path: Path, scores) -> None:
    bad = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    page = whole(
        tmp_path,
        {"cnn": scores["cnn"], bad: scores["raw pixels"]},
        title=bad,
        facts={bad: bad},
        strips=[(photo(), bad, [(photo(), bad, True, 0.1)])],
    )
    assert "script" not in {tag for tag, _ in page.tags}
    assert all((a["src"] or "").startswith("data:") for tag, a in page.tags if tag == "img")
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count(bad) == 7  # title twice, fact twice, system, query, neighbour


def test_names_that_matplotlib_would_interpret_are_shown_as_they_are(tmp_path: Path, scores) -> None:
    odd = ["$\\frac{", "_hidden", "%s {x} \\alpha $5–$7"]
    embeddings = (GOOD, np.array(odd)[CODES])
    page = whole(tmp_path, {odd[0]: scores["cnn"]}, matrix=(np.eye(3), odd), embeddings=embeddings)
    assert len(page.images()) == 5


def test_photos_of_every_kind_are_shown_or_said_to_be_missing(tmp_path: Path, scores) -> None:
    kinds = [photo("CMYK", kind="JPEG"), photo("L", (1, 900))]
    kinds += [photo(mode) for mode in ("P", "I;16", "RGBA", "1")]
    broken = [b"", b"no image", photo()[:60]]
    answers = [(data, "Coat", True, 0.0) for data in kinds + broken]
    page = whole(tmp_path, scores, strips=[(broken[0], "Coat", answers)])
    assert page.text.count("no photo") == 4
    assert len(page.images()) == 3 + len(kinds)


def test_f45_a_photo_of_65000_pixels_a_side_is_not_decoded(tmp_path: Path, scores) -> None:
    huge = bytearray(photo("L", (10, 10)))
    huge[16:24] = (65_000).to_bytes(4, "big") * 2  # the PNG header's width and height
    import zlib

    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    assert "no photo" in whole(tmp_path, scores, strips=[(bytes(huge), "Coat", [])]).text


def test_a_report_of_almost_nothing_is_a_page_too(tmp_path: Path) -> None:
    one = evaluate_embeddings(GOOD[:1], OWN[:1], GOOD[60:61], LABELS[:1], (1,), 100)
    page = Page(write_report(tmp_path / "a.html", "Small", [metrics({"cnn": one})])[0])
    assert "Small" in page.text and "precision @ 1" in page.text
    two = GOOD[:2], OWN[:2]
    page = Page(write_report(tmp_path / "b.html", "Empty", [metrics({}), EmbeddingMap(*two)])[0])
    assert "Empty" in page.text and not page.images()


def test_fifty_categories_and_a_large_map_stay_one_readable_page(tmp_path: Path, scores) -> None:
    names = [f"Home > Room {i % 6} > Leaf {i}" for i in range(50)]
    many = RNG.normal(size=(9_000, 6)).astype(np.float32)
    labels = np.array(names)[RNG.integers(0, 50, 9_000)]
    page = whole(tmp_path, scores, matrix=(np.eye(50), names), embeddings=(many, labels))
    *_, matrix, _ = page.images()
    assert matrix.width > 1200
    assert "4000 embeddings" in page.text and "smaller categories in grey" in page.text
    assert re.search(r"hold [3-4]\d% of the variance", page.text)


def test_eight_systems_stand_side_by_side_each_in_its_own_colour(tmp_path: Path, scores) -> None:
    from etalage.evaluation.drawing import draw_bars
    from etalage.evaluation.palette import palette
    from etalage.evaluation.sections import metrics_at

    every = {f"system {n}": one.intervals for n, one in enumerate([*scores.values()] * 4)}
    assert len({colour for colour, _ in palette(every).values()}) == len(every) == 8
    names = list(every["system 0"])
    wide = draw_bars(every, metrics_at(names, None, recall=True))
    image = Image.open(io.BytesIO(base64.b64decode(wide.partition("base64,")[2])))
    assert image.width < 1.3 * whole(tmp_path, scores).images()[0].width
    assert wide != draw_bars(every, metrics_at(names, None)), "with recall it is another drawing"
