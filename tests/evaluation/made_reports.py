"""The page of a made-up shop, every section on it: for tests of how it looks and what it says."""

import io
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from etalage.evaluation.comparison import ModelComparison
from etalage.evaluation.decision import (
    ALIKE,
    PRODUCT,
    SHOPPER,
    Evidence,
    SliceFound,
    decide,
    nothing,
)
from etalage.evaluation.decision import Contender as C
from etalage.evaluation.evaluation import Evaluation
from etalage.evaluation.examples import ShopperExample
from etalage.evaluation.gate import Verdict
from etalage.evaluation.photo_sections import ComparedNeighbours, Strip
from etalage.evaluation.shop_evaluation import ShopEvaluation
from etalage.evaluation.shop_report import write_shop_report
from etalage.evaluation.verdict_evidence import evidence_of
from tests.evaluation.test_decision import ALL, MEANS, figures

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


def photo(red: int = 128) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (90, 60), (red, 90, 160)).save(buffer, "PNG")
    return buffer.getvalue()


def made_evidence(means: Mapping[str, float] = MEANS) -> Evidence:
    """Of shoppers: two slices, one of which decides otherwise, and a hostile model that the gate refuses."""
    other = {**means, "popularity": 0.6}
    slices = [
        SliceFound("cold users", "fewer than 3 acts", figures(other), figures(other, "test")),
        SliceFound(f"category: {HOSTILE}", "of this category", figures(means), figures(means, "test")),
    ]
    refused = C(HOSTILE, networks=1, refused=f"it does not beat `ease` {HOSTILE}")
    return Evidence(
        SHOPPER,
        (*ALL, refused),
        "recall_at_20",
        figures(means),
        figures(means, "test", questions=480),
        "shoppers",
        floor="popularity",
        slices=slices,
        notes=("a note with `code`",),
    )


def made_shoppers() -> ModelComparison:
    """Examples alone: of one shopper with a history, and one without."""
    slates = {
        "the funnel": (("bag", 1, True), ("hat", 2, False), ("shoe", 9, True)),
        "popularity": (("hat", 1, False),),
        "ease": (),
    }
    values = {"the funnel": 1.0, "popularity": 0.0, "ease": 0.0}
    examples = (
        ShopperExample("largest gain", "…042", 7, ("shoe", HOSTILE), slates, values, ("bag", "shoe")),
        ShopperExample("shortest history", "…007", 0, (), slates, values, ("belt",)),
    )
    nobody = Verdict("popularity", "closed_form", "recall_at_20", True, [])
    verdicts = {"popularity": nobody}
    return ModelComparison(
        "recall_at_20", "test", 480, "", [], {}, {}, {}, [], verdicts, (), examples=examples
    )


def made_photos(passed: bool = True) -> Evaluation:
    """A photo embedder, with what it and raw pixels find."""
    gain = {"gain": 0.2, "gain_low": 0.1 if passed else -0.1, "gain_high": 0.3, "best": True}
    rows = [
        {"system": "image_similarity", "value": 0.6, "low": 0.5, "high": 0.7, "questions": 80},
        {"system": "raw pixels", "value": 0.4, "low": 0.3, "high": 0.5, **gain},
    ]
    verdict = Verdict("image_similarity", "embedder", "precision_at_5", passed, rows)
    strip: Strip = (
        photo(),
        "Shoes > Boots",
        [(photo(9), "Shoes > Boots", True, 0.9), (photo(3), "Bags", False, 0.5)],
    )
    found = ComparedNeighbours(
        "Chosen by a rule.", [("largest gain", {"image_similarity": strip, "raw pixels": strip})]
    )
    return Evaluation("image_similarity", "test", verdict, {}, (), (found,), verdict, 0.4, True)


def made_page(folder: Path, *, means: Mapping[str, float] = MEANS, photos: bool = True) -> Path:
    """Write the page with a decision for shoppers and photos, and none for categories."""
    known = {SHOPPER: made_evidence(means)}
    evaluations = (made_photos(),)
    known[ALIKE] = evidence_of(ALIKE, evaluations, {})
    last = nothing(PRODUCT, "no model of categories was trained", command="etalage train item_category")
    decisions = (decide(known[SHOPPER]), decide(known[ALIKE]), last)
    found = ShopEvaluation(decisions, known, made_shoppers(), evaluations)
    given = {"bag": photo(1), "hat": photo(2)} if photos else {}
    titles = {"bag": "A bag", "hat": HOSTILE}
    file = folder / "shop.html"
    return write_shop_report(file, found, name=f"Tins {HOSTILE}", photos=lambda ids: given, titles=titles)[0]
