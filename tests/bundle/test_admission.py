"""Which models go into a bundle: a closed-form one that loses to popularity stays out, or behind a ranker."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etalage.bundle.admission import FEWEST, FLOOR, _trouble, beside_popularity, compared, standing
from etalage.bundle.draft import DraftedModel
from etalage.bundle.manifest import Manifest, read_manifest
from etalage.errors import GateRefused
from etalage.funnel.shoppers import Shopper
from etalage.online import Act
from etalage.recommend import Recommender
from etalage.shop import Shop
from tests.behaviour_exports import item_item_export, ranker_export
from tests.shops import behaviour_shop, fill, neighbours

ITEMS = 20
IDS = [f"item-{n:05d}" for n in range(ITEMS)]
LOSES, LEVEL, BEATS = (-0.08, -0.05), (-0.02, 0.03), (0.01, 0.04)


def verdict(low: float, high: float, questions: int = 400, **more: Any) -> dict[str, Any]:
    gain = (low + high) / 2
    floor = {"system": FLOOR, "value": 0.1, "low": 0.09, "high": 0.11, "gain": gain}
    floor |= {"gain_low": low, "gain_high": high, "best": True}
    ours = {"system": "item_knn", "value": 0.1 + gain, "low": 0, "high": 1, "questions": questions}
    return {"metric": "recall_at_20", "passed": low > 0, "rows": [ours, floor], "slice": "all", **more}


def shop(
    folder: Path, told: dict[str, Any] | None, ranker: bool = False, force: bool = False, **more: Any
) -> Manifest:
    """popularity, item_knn with this verdict, perhaps a ranker that knows user-1; published."""
    knn = item_item_export(folder / "exports" / "item_knn" / "0002-told", IDS, neighbours(ITEMS))
    extra = [DraftedModel(knn, told, **more)]
    if ranker:
        table = np.tile(np.linspace(-1, 1, ITEMS + 1, dtype=np.float32), (2, 1))
        export = ranker_export(folder / "exports" / "neumf" / "0001-tiny", IDS, ["user-1"], table)
        extra.append(DraftedModel(export, {"passed": True, "metric": "ndcg_at_10"}))
    return behaviour_shop(folder, ITEMS, models=(FLOOR,), extra=extra, force=force)[2]


def opened(folder: Path, manifest: Manifest) -> Recommender:
    return Recommender.open(folder / "bundles" / manifest.id)


def names(manifest: Manifest) -> list[str]:
    return [one.name for one in manifest.models]


def test_a_model_that_loses_to_popularity_stays_out_and_the_manifest_says_by_how_much(tmp_path: Path) -> None:
    manifest = shop(tmp_path, verdict(*LOSES))
    assert names(manifest) == [FLOOR]
    (refused,) = manifest.refused
    assert refused.name == "item_knn"
    assert "loses to popularity: 0.0350 against 0.1000 at recall_at_20, a gain of -0.0650" in refused.reason
    assert "[-0.0800, -0.0500]" in refused.reason and "--force" in refused.reason
    assert read_manifest(tmp_path / "bundles" / manifest.id).refused == manifest.refused
    shopper = opened(tmp_path, manifest).recommend(history=[Act(IDS[3], "buy")], k=3)
    assert shopper.tier == "popular"


@pytest.mark.parametrize(("gain", "word"), [(LEVEL, "cannot be told apart from"), (BEATS, "beats")])
def test_a_model_that_does_not_lose_is_in_and_its_figures_are_told(
    tmp_path: Path, gain: tuple[float, float], word: str
) -> None:
    manifest = shop(tmp_path, verdict(*gain))
    assert names(manifest) == [FLOOR, "item_knn"] and not manifest.refused
    (line,) = beside_popularity(manifest.models)
    assert line.startswith(f"item_knn {word} popularity: 0.1") and f"[{gain[0]:+.4f}" in line
    assert opened(tmp_path, manifest).recommend(history=[Act(IDS[3], "buy")], k=3).tier == "collaborative"


def test_a_person_may_publish_a_loser_all_the_same(tmp_path: Path) -> None:
    manifest = shop(tmp_path, verdict(*LOSES), force=True)
    assert names(manifest) == [FLOOR, "item_knn"]
    assert next(one for one in manifest.models if one.name == "item_knn").forced
    assert manifest.forced == ("gate",)
    (line,) = beside_popularity(manifest.models)
    assert line.startswith("item_knn loses to popularity: 0.0350")
    assert opened(tmp_path, manifest).recommend(history=[Act(IDS[3], "buy")], k=3).tier == "collaborative"


def test_behind_a_ranker_it_brings_candidates_and_never_speaks_first(tmp_path: Path) -> None:
    manifest = shop(tmp_path, verdict(*LOSES), ranker=True)
    facts = {one.name: one for one in manifest.models}
    assert facts["item_knn"].behind and not facts[FLOOR].behind and not facts["neumf"].behind
    assert beside_popularity(manifest.models)[0].endswith("it only brings what the ranker orders")
    served = opened(tmp_path, manifest)
    history = [Act(IDS[n], "buy") for n in (3, 4, 9)]
    for_known = served.recommend(user_id="user-1", history=history, k=3, explain=True)
    assert set(for_known.trace["retrievers"]) == {"item_knn", FLOOR}
    for few, user in ((history[:2], "user-1"), (history, "a stranger to the ranker")):
        unranked = served.recommend(user_id=user, history=few, k=3, explain=True)
        assert unranked.tier == "popular" and set(unranked.trace["retrievers"]) == {FLOOR}
    shopper = Shopper.of(history, served.catalogue, served.funnel.rules)
    assert served.funnel.score_pairs(shopper, np.array([5, 6]))[2] == FLOOR


def test_a_model_that_beats_popularity_is_in_front_beside_the_same_ranker(tmp_path: Path) -> None:
    manifest = shop(tmp_path, verdict(*BEATS), ranker=True)
    history = [Act(IDS[n], "buy") for n in (3, 4)]
    assert opened(tmp_path, manifest).recommend(history=history, k=3).tier == "collaborative"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (None, "it was not evaluated: `etalage evaluate item_knn`"),
        (verdict(*LOSES, questions=FEWEST - 1), "19 shoppers to judge by are too few to tell, 20 are needed"),
        ({"passed": True, "metric": "recall_at_20", "rows": []}, "its verdict does not compare it"),
    ],
)
def test_what_is_not_judged_is_published_and_said(
    tmp_path: Path, told: dict[str, Any] | None, said: str
) -> None:
    manifest = shop(tmp_path, told)
    (facts,) = [one for one in manifest.models if one.name == "item_knn"]
    assert facts.unjudged is not None and said in facts.unjudged
    (line,) = beside_popularity(manifest.models)
    assert line == f"not judged: item_knn, published all the same: {facts.unjudged}"


def test_why_a_model_was_not_judged_is_what_whoever_tried_says(tmp_path: Path) -> None:
    manifest = shop(tmp_path, None, unjudged="no shopper has anything new")
    assert manifest.models[1].unjudged == "no shopper has anything new"


def test_popularity_is_the_floor_and_is_not_held_against_itself(tmp_path: Path) -> None:
    manifest = shop(tmp_path, verdict(*BEATS))
    assert manifest.models[0].name == FLOOR and manifest.models[0].unjudged is None


def test_where_the_loser_is_all_there_is_nothing_is_published(tmp_path: Path) -> None:
    knn = item_item_export(tmp_path / "told", IDS, neighbours(ITEMS))
    with pytest.raises(GateRefused, match=r"item_knn loses to popularity: .* --force"):
        behaviour_shop(tmp_path / "shop", ITEMS, models=(), extra=[DraftedModel(knn, verdict(*LOSES))])


@pytest.mark.parametrize("ranker", [True, False])
def test_a_sync_keeps_who_is_out_and_who_is_behind(tmp_path: Path, ranker: bool) -> None:
    before = shop(tmp_path, verdict(*LOSES), ranker=ranker)
    (tmp_path / "shop.toml").write_text('name = "T"', "utf-8")
    again = Shop(tmp_path)
    fill(again.lake, [77], [])
    after = again.sync().manifest
    assert after is not None and after.id != before.id
    assert after.refused == before.refused and len(after.refused) == (0 if ranker else 1)
    was, now = ({one.name: one.behind for one in m.models} for m in (before, after))
    assert now == was


def test_the_figures_of_a_slice_name_it() -> None:
    told = verdict(*LOSES, slice="cold users")
    assert standing(told) == "loses"
    assert "at recall_at_20 of cold users, a gain of" in str(compared(told))
    assert standing(None) == "unknown" and compared(None) is None


def test_a_refusal_of_few_questions_and_of_what_may_not_be_bought_again_says_so(tmp_path: Path) -> None:
    few = {
        "metric": "recall_at_20",
        "passed": False,
        "rows": [{"system": "x", "value": 0.1, "questions": 12}],
    }
    one = DraftedModel(tmp_path, few)
    assert _trouble(one, {"name": "x", "role": "embedder", "model_hash": "h"}) == (
        "x: 12 questions are too few to tell, 20 are needed"
    )
    again = {"name": "buy_again", "role": "closed_form", "model_hash": "h"}
    said = _trouble(DraftedModel(tmp_path, verdict(*LOSES)), {**again, "behaviour": {"repeat": False}})
    assert said is not None and "[behaviour] repeat = false" in said and "[models.buy_again]" not in said
    said = _trouble(DraftedModel(tmp_path, verdict(*LOSES)), {**again, "behaviour": {"repeat": True}})
    assert said is not None and "[models.buy_again]" in said
