"""An exported classifier, opened without torch."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from etalage.errors import ExportDamaged, PhotoRefused
from etalage.features.category_set import CategorySet
from etalage.models import recipe as recipes
from etalage.runtime.classifier import CLASSIFIER_FILES, ItemClassifier
from etalage.runtime.export_files import hash_export
from etalage.runtime.leaf_decision import LeafDecision
from etalage.training.category_export import export_classifier
from etalage.training.loop import fit
from tests.category_exports import SIDE, classifier_export, coloured
from tests.category_sets import category_set, quick
from tests.stripes import png


@pytest.fixture(scope="module")
def items() -> CategorySet:
    return category_set()


@pytest.fixture(scope="module")
def export(items: CategorySet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = recipes.find("item_category")
    config = recipe.config(**quick(text="late"))
    trained = fit(recipe, recipe.bind(config, items), config, tmp_path_factory.mktemp("run"))
    return export_classifier(trained, items, tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def classifier(export: Path) -> ItemClassifier:
    return ItemClassifier.open(export)


def photo(items: CategorySet, row: int) -> bytes:
    assert items.pixels_PHWC is not None
    return png(items.pixels_PHWC[row])


def test_most_of_what_it_did_not_learn_from_is_told_right(
    classifier: ItemClassifier, items: CategorySet
) -> None:
    rows = items.rows("validation", leaf=True)
    answers = classifier.classify([[photo(items, row)] for row in rows], [items.titles[row] for row in rows])
    truth = [items.taxonomy.ids[items.labels_N[row]] for row in rows]
    right = np.mean([one.category_id == id for one, id in zip(answers, truth, strict=True)])
    assert right > 0.7


def test_a_path_is_told_from_the_top_and_its_confidence_never_rises(
    classifier: ItemClassifier, items: CategorySet
) -> None:
    for one in classifier.classify([[photo(items, row)] for row in range(12)], [None] * 12):
        row = classifier.taxonomy.row(str(one.category_id))
        assert [step.id for step in one.steps] == [
            classifier.taxonomy.ids[step] for step in classifier.taxonomy.steps(row)
        ]
        sure = [step.confidence for step in one.steps]
        assert sure == sorted(sure, reverse=True) and sure[-1] == pytest.approx(one.confidence, abs=1e-6)
        assert one.path == " > ".join(step.name for step in one.steps)


def test_the_confidence_of_a_step_is_the_sum_of_the_leaves_beneath(
    classifier: ItemClassifier, items: CategorySet
) -> None:
    (one,) = classifier.classify([[photo(items, 0)]], [None], top=10)
    leaves = {str(one.category_id): one.confidence, **{leaf.id: leaf.confidence for leaf in one.others}}
    assert len(leaves) == 4 and sum(float(sure or 0) for sure in leaves.values()) == pytest.approx(
        1, abs=1e-5
    )
    tree = classifier.taxonomy
    for step in one.steps:
        beneath = [id for id in leaves if tree.row(step.id) in tree.steps(tree.row(id))]
        assert step.confidence == pytest.approx(sum(float(leaves[id] or 0) for id in beneath), abs=1e-5)


def test_below_the_threshold_an_item_stays_unclassified_but_its_confidence_is_told(
    classifier: ItemClassifier, items: CategorySet
) -> None:
    (sure,) = classifier.classify([[photo(items, 0)]], [None])
    assert sure.confidence is not None
    (one,) = classifier.classify([[photo(items, 0)]], [None], threshold=sure.confidence + 1e-4)
    assert one.category_id is None and one.path is None
    assert one.confidence == sure.confidence and one.steps == sure.steps
    (just,) = classifier.classify([[photo(items, 0)]], [None], threshold=sure.confidence)
    assert just.category_id == sure.category_id


def test_photo_alone_title_alone_both_and_nothing(classifier: ItemClassifier, items: CategorySet) -> None:
    one = photo(items, 1)
    answers = classifier.classify(
        [[one], [], [one], [], []], [None, items.titles[1], items.titles[1], None, "…"]
    )
    assert [answer.confidence is None for answer in answers] == [False, False, False, True, True]
    assert answers[3].steps == () and answers[3].category_id is None
    assert answers[2].others != answers[0].others and answers[2].others != answers[1].others


def test_several_photos_are_the_mean_of_what_is_seen_in_each(
    classifier: ItemClassifier, items: CategorySet
) -> None:
    assert items.pixels_PHWC is not None
    features = classifier.features(items.pixels_PHWC[:3])
    (one,) = classifier.classify([[photo(items, n) for n in range(3)]], [None])
    (mean,) = classifier.answers(features.mean(axis=0, keepdims=True), np.array([True]), [None])
    assert one.category_id == mean.category_id and one.confidence == pytest.approx(mean.confidence, abs=1e-4)


def test_an_answer_does_not_depend_on_who_else_asks(classifier: ItemClassifier, items: CategorySet) -> None:
    photos, titles = [[photo(items, n)] for n in range(9)], [items.titles[n] for n in range(9)]
    together = classifier.classify(photos, titles)
    for n in (0, 4, 8):
        (alone,) = classifier.classify([photos[n]], [titles[n]])
        assert alone.category_id == together[n].category_id
        assert alone.confidence == pytest.approx(together[n].confidence, abs=1e-5)


def test_photos_that_are_none_are_refused_by_the_row_of_their_item(
    classifier: ItemClassifier, items: CategorySet
) -> None:
    with pytest.raises(PhotoRefused, match=r"row 1: .*row 2: "):
        classifier.classify([[photo(items, 0)], [b"no photo"], [photo(items, 1), b"GIF89a"]], [None] * 3)


@pytest.mark.parametrize("name", [*CLASSIFIER_FILES, "export.json"])
def test_f13_a_file_that_is_missing_is_named(export: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(export, tmp_path / "copy"))
    (copy / name).unlink()
    with pytest.raises(ExportDamaged, match=name):
        ItemClassifier.open(copy)


@pytest.mark.parametrize("name", CLASSIFIER_FILES)
def test_f13_a_file_with_one_byte_changed_is_refused(export: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(export, tmp_path / "copy"))
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    assert hash_export(copy, CLASSIFIER_FILES) != hash_export(export, CLASSIFIER_FILES)
    with pytest.raises(ExportDamaged, match="hash"):
        ItemClassifier.open(copy)


def test_f58_a_newer_format_asks_for_a_newer_etalage(export: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(export, tmp_path / "copy"))
    facts = json.loads((copy / "export.json").read_text())
    (copy / "export.json").write_text(json.dumps(facts | {"format": 99}))
    with pytest.raises(ExportDamaged, match="format 99"):
        ItemClassifier.open(copy)


# -- by hand: an export whose answers can be worked out -------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trunk.onnx", b"no network"),
        ("heads.onnx", b""),
        ("encoder.json", b'{"size": 0, "channels": 3}'),
        ("words.json", b'{"buckets": 8}'),
        ("taxonomy.json", b'{"ids": ["a", "a"], "names": ["A", "A"], "parents": [-1, -1]}'),
        ("deciding.json", b'{"weights": {"photo": [null]}, "decision": "probable"}'),
        ("export.json", b'{"name": "item_category"}'),
    ],
)
def test_a_file_that_cannot_be_what_it_should_be_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    """Written with a hash that fits, so that each reader is the last one to say no."""
    folder = classifier_export(tmp_path / "made")
    (folder / name).write_bytes(content)
    if name != "export.json":
        facts = json.loads((folder / "export.json").read_text())
        facts["model_hash"] = hash_export(folder, CLASSIFIER_FILES)
        (folder / "export.json").write_text(json.dumps(facts))
    with pytest.raises(ExportDamaged, match=name.replace(".", r"\.")):
        ItemClassifier.open(folder)


def test_f54_a_trunk_of_another_width_is_refused_before_its_features_are_used(tmp_path: Path) -> None:
    folder = classifier_export(tmp_path / "made")
    facts = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps(facts | {"dimension": 4}))
    with pytest.raises(ExportDamaged, match="expected 4 wide"):
        ItemClassifier.open(folder).classify([[coloured("21")]], [None])


def test_the_least_risk_may_be_another_leaf_than_the_most_probable(tmp_path: Path) -> None:
    """A colour that is a dress's by 39%, juice's by 27, milk's by 18, an apple's by 16: food, at any rate."""
    folder = classifier_export(tmp_path / "made", text=False, sharpness=3.0)
    photo = png(np.full((SIDE, SIDE, 3), (100, 160, 110), np.uint8))
    found = {}
    for decision in ("probable", "risk"):
        deciding = LeafDecision({"photo": [1.0]}, decision)  # type: ignore[arg-type]
        (folder / "deciding.json").write_text(deciding.to_json())
        facts = json.loads((folder / "export.json").read_text())
        facts["model_hash"] = hash_export(folder, CLASSIFIER_FILES)
        (folder / "export.json").write_text(json.dumps(facts))
        (found[decision],) = ItemClassifier.open(folder).classify([[photo]], [None], top=2)
    probable, risk = found["probable"], found["risk"]
    assert probable.category_id == "50" and risk.category_id == "300"
    first = risk.others[0]
    assert (first.id, first.confidence) == (probable.category_id, pytest.approx(probable.confidence))
    assert [step.name for step in risk.steps][:2] == ["Food", "Drinks"]
    assert risk.confidence < probable.confidence and risk.steps[0].confidence > probable.confidence
    assert len(risk.others) == len(probable.others) == 2
    assert risk.category_id not in [leaf.id for leaf in risk.others]


def test_of_a_model_without_text_a_title_is_nothing_to_look_at(tmp_path: Path) -> None:
    blind = ItemClassifier.open(classifier_export(tmp_path / "blind", text=False))
    (title, both) = blind.classify([[], [coloured("21")]], ["juice", "juice"], top=0)
    assert (title.confidence, title.category_id, title.steps) == (None, None, ())
    assert both.path == "Food > Apples" and both.others == ()
    reading = ItemClassifier.open(classifier_export(tmp_path / "reading"))
    assert reading.classify([[]], ["juice"])[0].path == "Food > Drinks > Juice"
    assert reading.model_hash != blind.model_hash


def test_no_item_has_no_answer(tmp_path: Path) -> None:
    assert ItemClassifier.open(classifier_export(tmp_path / "made")).classify([], []) == []
