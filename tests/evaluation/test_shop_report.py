"""The page of a whole shop: what it says, that every word is explained, and that everybody can read it."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etalage import metrics
from etalage.evaluation.categories import measure_categories
from etalage.evaluation.category_answers import Answers
from etalage.evaluation.decision import ALIKE, decide
from etalage.evaluation.examples import GAIN, LOSS, NEW, TYPICAL, choose, shortened, told_apart
from etalage.evaluation.glossary import METRICS, SLICES, define, undefined
from etalage.evaluation.names import CATEGORY, OF_LABELS, OF_RANKS, WITHOUT_K, slice_names
from etalage.evaluation.palette import COLOURS, FIXED, palette
from etalage.evaluation.protocols import evaluate_embeddings, evaluate_photos
from etalage.evaluation.verdict_evidence import evidence_of
from tests.chromium import launched
from tests.evaluation.made_reports import HOSTILE, made_page, made_photos
from tests.evaluation.test_category_report import SYSTEMS, TREE, TRUTH, VALUES
from tests.evaluation.test_category_report import written as classifier
from tests.evaluation.test_report import GOOD, LABELS, NOISE, OWN, Page
from tests.evaluation.test_report import whole as embedder

# -- what every word means ---------------------------------------------------------------------


def test_every_metric_and_slice_that_can_occur_has_an_entry_in_the_glossary() -> None:
    ranks = metrics.at_ranks(np.array([1, 3]), np.array([0, 1, 2]), (1, 20), np.array([9, 9]))
    labels = evaluate_embeddings(np.eye(2), ["a", "b"], np.eye(2), ["a", "b"], (1, 5), 10).intervals
    leaves = len(TREE.leaves_L)
    truth = np.arange(leaves)
    answers = {"a": Answers(np.eye(leaves, dtype=np.float32))}
    sorts = measure_categories(truth, answers, TREE, np.ones(leaves), ks=(1, 3), bootstrap=10)
    given = [f"{name}_at_7" for name in (*OF_RANKS, *OF_LABELS)]
    of_pairs = ("auroc_of_all", "log_loss", "calibration_error", "coverage_at_10", "novelty_at_10")
    names = [*ranks, *labels, *sorts.scores["a"].intervals, *given, *WITHOUT_K, *of_pairs]
    assert undefined(names) == [] and len(set(names)) > 30
    every = {
        name for role in ("ranker", "embedder") for again in (0, 1) for name in slice_names(role, bool(again))
    }
    assert undefined([*every, f"{CATEGORY}Shoes"]) == []
    assert undefined(["recal_at_5", "cold shoppers"]) == ["recal_at_5", "cold shoppers"]


def test_an_entry_of_the_glossary_is_a_sentence_and_says_where_less_is_better() -> None:
    for words in (*METRICS.values(), *SLICES.values()):
        assert (words.endswith(".") and words[0].isupper()) or words[0].isdigit()
    for name in ("severity", "log_loss", "calibration_error", "risk_area"):
        assert "ess is better" in str(define(name))


# -- colours -----------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """WCAG's relative luminance of #rrggbb."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_each_colour_can_be_read_as_text_and_no_two_systems_look_alike() -> None:
    for colour in (*COLOURS, *(one for one, _ in FIXED.values())):
        assert 1.05 / (luminance(colour) + 0.05) >= 4.5, colour
    names = [f"m{number}" for number in range(8)]
    found = palette(["chance", *names, "m0", "popularity"])
    assert len(set(found.values())) == len(found) == 10
    assert found["m0"] == palette(["m0"])["m0"], "where chance stands changes nobody's colour"


# -- examples ----------------------------------------------------------------------------------


def test_examples_are_the_largest_gain_two_typical_ones_the_largest_loss_and_the_newest_shopper() -> None:
    gain = np.array([0.0, 0.5, -0.2, 0.1, 0.12, 0.0, 0.0])
    acts = np.array([5, 5, 5, 5, 5, 1, 5])
    usable = gain != 0  # of the others neither found anything
    assert choose(gain, usable, acts) == [(GAIN, 1), (TYPICAL, 3), (TYPICAL, 4), (LOSS, 2), (NEW, 5)]


def test_where_nobody_gains_or_loses_only_typical_ones_are_shown() -> None:
    assert choose(np.zeros(3)) == [(TYPICAL, 0), (TYPICAL, 1)]
    assert choose(np.zeros(1), np.zeros(1, bool), np.ones(1)) == [(TYPICAL, 0)]


@pytest.mark.parametrize(
    ("user", "told"), [("u000123", "…123"), ("ann@example.com", "a…@…"), ("u7", "…7"), ("x", "…"), ("", "…")]
)
def test_an_id_is_shortened_so_that_it_names_nobody(user: str, told: str) -> None:
    assert shortened(user) == told


def test_shoppers_whose_shortened_ids_look_equal_are_numbered() -> None:
    users = ["u1000123", "u2000123", "u7", "u1000123", ""]
    assert told_apart(users) == ["…0123 (1)", "…0123 (2)", "…7", "…0123 (1)", "an unknown shopper"]


def test_items_without_a_title_say_so_beside_their_ids(tmp_path: Path) -> None:
    text = re.sub(r"\s+", " ", Page(made_page(tmp_path)).text)
    assert "shoe without title" in text and "A bag without title" not in text
    assert "None of these items has a title" not in text


# -- what the page says ------------------------------------------------------------------------


def test_the_page_begins_with_what_to_publish_and_shows_figures_costs_slices_and_commands(
    tmp_path: Path,
) -> None:
    page = Page(made_page(tmp_path))
    text = re.sub(r"\s+", " ", page.text)
    assert "Publish the funnel two_tower, ease" in text and "Publish image_similarity" in text
    assert "Publish nothing No model of categories was trained." in text
    assert "etalage train item_category" in text and "602.1" not in text and "10 minutes of training" in text
    assert "0.3000 [0.2800, 0.3200] for 480 shoppers of" in text
    assert "Otherwise for cold users (fewer than 3 acts) popularity is better" in text
    assert (
        "1 kept out by the gate, 1 note" in text and "the simpler two_tower instead would lose 0.0400" in text
    )
    assert text.index("Publish the funnel") < text.index("The systems that the decision is between")


def test_the_page_needs_no_other_file_and_holds_no_script(tmp_path: Path) -> None:
    file = made_page(tmp_path)
    page = Page(file)
    sources = [value or "" for _, every in page.tags for name, value in every.items() if name == "src"]
    assert sources and all(source.startswith("data:image/") for source in sources)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert HOSTILE in page.text and "alert(1)</script><img" not in file.read_text("utf-8")
    assert file.stat().st_size < 150_000


def test_older_pages_are_linked(tmp_path: Path) -> None:
    (tmp_path / "dlrm-0001.html").write_text("old", "utf-8")
    links = [one.get("href") for tag, one in Page(made_page(tmp_path)).tags if tag == "a"]
    assert "dlrm-0001.html" in links and "shop.html" not in links


def test_a_photo_model_that_the_gate_refuses_is_not_published_and_says_why() -> None:
    one = decide(evidence_of(ALIKE, [made_photos(passed=False)], {}))
    assert one.publish is None
    ((name, why),) = one.refused
    assert name == "image_similarity" and "not shown to beat raw pixels: 0.6000 against 0.4000" in why


# -- that everybody can read it, in a real browser -----------------------------------------------


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A tab with the page, 390 pixels wide."""
    file = made_page(tmp_path_factory.mktemp("page"))
    with launched() as browser:
        tab = browser.new_page(viewport={"width": 390, "height": 900})
        tab.goto(file.as_uri())
        yield tab


@pytest.fixture(scope="module")
def others(opened: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The page of a photo embedder, and that of a classifier."""
    folder = tmp_path_factory.mktemp("others")
    systems = {"cnn": (GOOD[:60], GOOD[60:]), "raw pixels": (NOISE[:60], NOISE[60:])}
    embedder(folder / "photos", evaluate_photos(systems, OWN, LABELS, (1, 5), 10))
    measured = measure_categories(TRUTH, SYSTEMS, TREE, VALUES, bootstrap=10)
    classifier(folder / "categories", measured, history=[{"leaf_accuracy": 0.5}, {"leaf_accuracy": 0.75}])
    return sorted(folder.rglob("*.html"))


CONTRAST = """() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), poor = [];
  let seen = 0;
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim()) continue;
    seen += 1;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([ratio.toFixed(2), e.tagName, walker.currentNode.data.trim().slice(0, 40)]);
  }
  return [seen, poor];
}"""


def test_every_text_stands_out_from_what_is_behind_it(opened: Any) -> None:
    seen, poor = opened.evaluate(CONTRAST)
    assert seen > 200 and poor == []


def test_every_chart_and_table_has_the_systems_in_one_order_and_each_in_one_colour(opened: Any) -> None:
    chart, table, heads, lanes = opened.evaluate(
        """() => { const named = (e) => [(e.parentElement.querySelector('button') ?? e.nextSibling)
          .textContent.trim(), getComputedStyle(e).color];
        const at = (title, what) => [...[...document.querySelectorAll('section')]
          .find((s) => s.querySelector('h2').textContent.startsWith(title))
          .querySelectorAll(what)].map(named);
        return [at('What to', '.wide + nav + .card .mark'), at('What would', 'h2 ~ .wide tbody .mark'),
          at('Slices', 'h2 ~ .wide thead .mark'), at('Shoppers', '.example:first-of-type .mark')]; }"""
    )
    assert [name for name, _ in chart] == ["the funnel", "two_tower", "popularity"]
    assert table == chart and heads == chart
    assert [name for name, _ in lanes] == ["the funnel", "ease", "popularity"]
    assert dict(lanes)["the funnel"] == dict(chart)["the funnel"] != dict(chart)["popularity"]


def test_headings_go_down_by_one_and_there_is_one_of_the_first_level(opened: Any) -> None:
    levels = opened.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5')].map((h) => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_tables_have_captions_and_scopes_and_no_empty_head(opened: Any) -> None:
    found = opened.evaluate(
        """[...document.querySelectorAll('table')].map((t) => [t.caption?.textContent.trim() ?? '',
        [...t.querySelectorAll('th')].filter((h) => !h.scope || !h.textContent.trim()).length,
        t.parentElement.tabIndex, t.parentElement.getAttribute('role')])"""
    )
    assert len(found) >= 5
    for caption, faults, reachable, role in found:
        assert caption and faults == 0 and reachable == 0 and role == "region"


def test_charts_say_what_they_show_and_photos_that_their_captions_name_are_not_read_twice(
    opened: Any,
) -> None:
    charts = opened.evaluate("[...document.querySelectorAll('[role=img]')].map((c) => c.ariaLabel)")
    assert len(charts) == 2
    assert (
        "Publish the funnel. recall @ 20 on test, the best first: the funnel 0.300, from 0.280 to 0.320"
        in charts[0]
    )
    assert charts[0].endswith("the funnel is better than popularity there.")
    assert opened.evaluate("[...document.images].every((i) => i.hasAttribute('alt'))")
    assert opened.evaluate(
        "[...document.querySelectorAll('svg')].every((s) => s.closest('[aria-hidden]') || s.ariaHidden)"
    )


def test_the_page_does_not_scroll_sideways_on_a_phone_not_even_with_an_explanation_open(opened: Any) -> None:
    width = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
    assert opened.evaluate(width) == 390
    shown = opened.evaluate(
        """() => [...document.querySelectorAll('.term button')].map((b) => {
        b.focus(); const tip = document.getElementById(b.getAttribute('aria-describedby'));
        const box = tip.getBoundingClientRect();
        return [box.width > 0 && box.left >= 0 && box.right <= 390,
          Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)]; })"""
    )
    assert len(shown) > 10
    assert all(visible and wide == 390 for visible, wide in shown[:10])


def test_a_word_is_explained_on_hover_on_focus_and_not_before(opened: Any) -> None:
    word = opened.locator(".term", has_text="recall @ 20").first
    tip = word.locator("[role=tooltip]")
    opened.evaluate("document.activeElement.blur()")
    opened.mouse.move(0, 0)
    assert not tip.is_visible()
    word.locator("button").focus()
    assert tip.is_visible() and "among the first k places" in tip.inner_text()
    opened.evaluate("document.activeElement.blur()")
    word.hover()
    assert tip.is_visible()
    assert word.locator("button").get_attribute("aria-describedby") == tip.get_attribute("id")


def test_in_print_what_is_folded_is_open_and_no_table_is_cut(opened: Any) -> None:
    inside = """[...document.querySelectorAll('details > :not(summary)')]
        .map((e) => e.checkVisibility({contentVisibilityAuto: true}))"""
    folded = opened.evaluate(inside)
    assert len(folded) >= 4 and not any(folded)
    opened.set_viewport_size({"width": 720, "height": 1000})  # A4 within its margins
    opened.emulate_media(media="print")
    opened.wait_for_function(f"{inside}.every(Boolean)", timeout=240_000)
    cut = "[...document.querySelectorAll('.wide')].filter((w) => w.scrollWidth > w.clientWidth + 1).length"
    assert opened.evaluate(cut) == 0
    opened.emulate_media(media="screen")
    opened.set_viewport_size({"width": 390, "height": 900})


def test_the_longer_pages_can_be_read_by_everybody_too(opened: Any, others: list[Path]) -> None:
    assert len(others) == 2
    tab = opened.context.browser.new_page(viewport={"width": 390, "height": 900})
    for file in others:
        tab.goto(file.as_uri())
        seen, poor = tab.evaluate(CONTRAST)
        assert seen > 60 and poor == [], file
        levels = tab.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5')].map((h) => +h.tagName[1])")
        assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        assert tab.evaluate("[...document.querySelectorAll('table')].every((t) => t.caption)")
        drawn = tab.evaluate("[...document.querySelectorAll('img.drawing')].map((i) => i.alt)")
        assert len(drawn) >= 3 and all(re.search(r": .*\d", words) for words in drawn), drawn
    tab.close()
