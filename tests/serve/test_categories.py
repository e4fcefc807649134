"""`POST /v1/classify` and what else is served of categories, over real HTTP."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etalage.shop import Shop
from tests.category_exports import CLASSIFIER, MATRIX, classified_shop, coloured
from tests.serve.servers import Clock, ThreadServer, until
from tests.shops import drawn_photo

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = classified_shop(tmp_path_factory.mktemp("shop"))
    shop.classify()
    shop.publish()
    return shop


@pytest.fixture(scope="module")
def running(whole: Shop) -> Iterator[ThreadServer]:
    with ThreadServer(whole.bundles.folder, max_body_bytes=100_000) as server:
        yield server


@pytest.fixture(scope="module")
def http(running: ThreadServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=120) as client:
        yield client


def b64(photo: bytes) -> str:
    return base64.b64encode(photo).decode()


def ask(http: httpx.Client, **body: Any) -> httpx.Response:
    return http.post("/v1/classify", json=body)


def answers(http: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    response = ask(http, **body)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["answers"]
    return found


def refused(http: httpx.Client, status: int, **body: Any) -> str:
    response = ask(http, **body)
    assert response.status_code == status, response.text
    return str(response.json()["error"]["message"])


def test_several_items_are_all_answered_in_their_order(http: httpx.Client, whole: Shop) -> None:
    items = [
        {"photos": [b64(coloured("21"))]},
        {"title": "Oat milk 1 l"},
        {"photos": [b64(coloured("50", 1)), b64(coloured("50", 2))], "title": "A dress"},
        {},
        {"photos": [], "title": None},
    ]
    response = ask(http, items=items)
    manifest = whole.bundles.list()[-1]
    assert response.json()["bundle"] == manifest.id == response.headers["x-etalage-bundle"]
    assert response.json()["model"] == manifest.classifiers[0].hash
    found = response.json()["answers"]
    assert [one["row"] for one in found] == [0, 1, 2, 3, 4]
    assert [one["path"] for one in found] == [
        "Food > Apples", "Food > Drinks > Milk", "Clothing > Dresses", None, None,
    ]  # fmt: skip
    first = found[0]
    assert set(first) == {
        "row", "category_id", "path", "confidence", "reason", "steps", "others", "stored",
    }  # fmt: skip
    assert first["category_id"] == "21" and first["reason"] is None and first["stored"] is None
    assert [(step["id"], step["name"]) for step in first["steps"]] == [("1", "Food"), ("21", "Apples")]
    assert first["steps"][0]["confidence"] >= first["steps"][1]["confidence"] == first["confidence"]
    assert len(first["others"]) == 3 and set(first["others"][0]) == {"id", "path", "confidence"}
    assert found[3]["confidence"] is None and "nothing to look at" in found[3]["reason"]


def test_one_photo_is_asked_about_by_itself_with_its_title(http: httpx.Client) -> None:
    (alone,) = answers(http, photo=b64(coloured("300")))
    (titled,) = answers(http, photo=b64(coloured("300")), title="apple", top=1)
    assert alone["path"] == "Food > Drinks > Juice" and alone["confidence"] > titled["confidence"]
    assert len(titled["others"]) == 1


def test_the_threshold_of_a_request_counts(http: httpx.Client) -> None:
    both = [b64(coloured("301")), b64(coloured("300", 99))]
    (sure,) = answers(http, items=[{"photos": both}], threshold=0.3)
    (unsure,) = answers(http, items=[{"photos": both}], threshold=0.95)
    assert sure["path"] == "Food > Drinks > Juice"
    assert (unsure["category_id"], unsure["path"]) == (None, None)
    assert unsure["confidence"] == sure["confidence"] and "below 0.95" in unsure["reason"]
    assert unsure["steps"] == sure["steps"], "the best guess is still told"


def test_an_item_of_the_catalogue_is_answered_beside_what_is_stored(http: httpx.Client) -> None:
    (one,) = answers(http, item_id="item-00005")
    assert one["path"] == "Food > Drinks > Milk"
    assert one["stored"] == {
        "category_id": "300",
        "path": "Food > Drinks > Juice",
        "confidence": pytest.approx(0.603, abs=0.01),
        "own": "Ours > Shelf 2",
    }
    assert "no such item" in refused(http, 404, item_id="item-55555")


def test_f39_a_bad_row_is_refused_with_its_number_and_its_photo(http: httpx.Client) -> None:
    good, text = b64(coloured("21")), b64(b"no image")
    rows = [{"photos": [good]}, {"photos": [good, "*not base64*"]}, {"photos": ["abc"]}]
    said = refused(http, 400, items=rows)
    assert said.startswith("row 1, photo 1: not base64") and "; row 2: not base64" in said
    assert refused(http, 400, items=[{"photos": [good]}, {"photos": [good, text]}]).startswith(
        "row 1: not an image"
    )
    said = refused(http, 400, items=[{"photos": [text]}, {"photos": [good]}, {"photos": [text]}])
    assert said.startswith("row 0: not an image") and "row 2: not an image" in said
    assert refused(http, 400, photo=text).startswith("row 0: not an image")
    assert refused(http, 400, photo="?").startswith("row 0: not base64")


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({}, 422, "exactly one of item_id, photo, items"),
        ({"photo": "AAAA", "item_id": "x"}, 422, "exactly one of"),
        ({"items": []}, 422, "items"),
        ({"items": [{"photos": ["AAAA"] * 11}]}, 422, "items.0.photos"),
        ({"items": [{"title": "x" * 1001}]}, 422, "items.0.title"),
        ({"items": [{"title": 7}]}, 422, "items.0.title"),
        ({"items": [{"photo": "AAAA"}]}, 422, "items.0.photo"),
        ({"items": "all"}, 422, "items"),
        ({"items": [{"title": "x"}], "threshold": 1.5}, 422, "threshold"),
        ({"items": [{"title": "x"}], "threshold": "high"}, 422, "threshold"),
        ({"items": [{"title": "x"}], "top": -1}, 422, "top"),
        ({"items": [{"title": "x"}], "top": 101}, 422, "top"),
        ({"items": [{"title": "x"}], "k": 3}, 422, "k"),
        ({"item_id": ""}, 400, "item_id"),
        ({"item_id": "a\0b"}, 400, "NUL"),
        ({"item_id": "item-00001", "title": "x"}, 422, "title"),
    ],
)
def test_f29_what_makes_no_sense_is_refused_by_its_field(
    http: httpx.Client, body: dict[str, Any], status: int, says: str
) -> None:
    assert says in refused(http, status, **body)


def test_f28_strict_json_holds_here_too(http: httpx.Client) -> None:
    for text, says in (
        ('{"items": [{"title": "x"}], "threshold": NaN}', "threshold"),
        ('{"items": [{"title": "x"}], "items": []}', "items"),
        ('{"items": [{"title": "\\ud800"}]}', "title"),
        ("[1]", "object"),
    ):
        response = http.post("/v1/classify", content=text, headers={"content-type": "application/json"})
        assert response.status_code in (400, 422) and says in response.json()["error"]["message"], text


@QUICK
@given(st.text(max_size=60), st.integers(0, 3))
def test_any_title_is_answered(http: httpx.Client, title: str, leaf: int) -> None:
    photos = [b64(coloured(list(("300", "301", "21", "50"))[leaf]))]
    response = ask(http, items=[{"title": title}, {"title": title, "photos": photos}])
    assert response.status_code == 200, response.text
    for one in response.json()["answers"]:
        assert one["confidence"] is None or 0 <= one["confidence"] <= 1.000001


def test_f27_a_body_over_the_cap_is_413(http: httpx.Client) -> None:
    assert ask(http, photo="A" * 100_000).status_code == 413


def test_photos_with_too_many_pixels_together_are_refused(http: httpx.Client) -> None:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("1", (6000, 6000)).save(buffer, "PNG")
    photo = b64(buffer.getvalue())
    assert ask(http, photo=photo).status_code == 200
    assert "pixels together" in refused(http, 400, items=[{"photos": [photo, photo]}, {"photos": [photo]}])


def test_f33_a_question_whose_deadline_passed_is_not_begun(
    running: ThreadServer, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, clock = running.app.state.scorer, Clock(running, monkeypatch)

    def hold() -> None:
        until(lambda: scorer.waiting > 0)
        clock.forward()  # from now on it is too late for the one that waits

    held = running.within(lambda: scorer.do(hold))
    late = http.post("/v1/classify", json={"item_id": "item-00001"}, headers={"x-deadline-ms": "50"})
    assert late.status_code == 503 and "was not begun" in late.json()["error"]["message"]
    held.result(timeout=120)


def test_the_confusion_matrix_is_served_the_most_valuable_first(http: httpx.Client) -> None:
    found = http.get("/v1/confusion").json()
    assert found["bundle"] == http.get("/readyz").json()["bundle"]
    assert {name: found[name] for name in MATRIX} == MATRIX


def test_both_trees_are_served(http: httpx.Client) -> None:
    own = http.get("/v1/categories").json()["categories"]
    assert own == http.get("/v1/categories", params={"of": "merchants"}).json()["categories"]
    told = http.get("/v1/categories", params={"of": "classified"}).json()["categories"]
    assert own[0] == {"path": "Ours", "count": 22}
    assert [one["path"] for one in told] == [
        "Clothing", "Clothing > Dresses", "Food", "Food > Apples", "Food > Drinks", "Food > Drinks > Juice",
        "Food > Drinks > Milk",
    ]  # fmt: skip
    assert http.get("/v1/categories", params={"of": "nobody"}).status_code == 422


def test_an_item_shows_what_it_was_classified_as_beside_its_own(http: httpx.Client) -> None:
    item = http.get("/v1/items/item-00002").json()["item"]
    assert item["category_id"] == "Ours > Shelf 2"
    assert (item["classified_id"], item["classified_path"]) == ("21", "Food > Apples")
    assert item["classified_confidence"] > 0.9
    assert http.get("/v1/items/item-00006").json()["item"]["classified_path"] is None


def test_slates_and_pages_are_filtered_by_the_classified_category(http: httpx.Client) -> None:
    page = http.get("/v1/items", params={"classified": "Food > Apples"}).json()
    assert {int(item["item_id"][-5:]) for item in page["items"]} == {2, 10, 14, 22}
    sure = http.get("/v1/items", params={"min_confidence": 0.9}).json()
    assert sure["total"] == 19
    filters = {"classified": "Clothing", "min_confidence": 0.5}
    body = {"item_id": "item-00002", "k": 3, "filters": filters}
    slate = http.post("/v1/similar", json=body).json()["answers"][0]["slate"]
    assert len(slate) == 3 and all(int(slot["item_id"][-5:]) % 4 == 3 for slot in slate)
    none = http.post("/v1/similar", json={"item_id": "item-00002", "filters": {"classified": "Toys"}}).json()
    assert none["answers"][0]["slate"] == [] and "classified 'Toys' leaves 0" in none["answers"][0]["reason"]
    recommended = http.post(
        "/v1/recommend", json={"history": [], "filters": {"classified": "Clothing"}}
    ).json()
    assert {int(slot["item_id"][-5:]) % 4 for slot in recommended["slate"]} == {3}
    for wrong in ({"min_confidence": 2}, {"min_confidence": "much"}, {"classified": 7}):
        assert http.post("/v1/similar", json={"item_id": "item-00002", "filters": wrong}).status_code == 422


def test_a_bundle_without_a_classifier_says_so(served_shop: Path) -> None:
    with ThreadServer(served_shop) as server, httpx.Client(base_url=server.url) as http:
        said = refused(http, 422, photo=b64(drawn_photo(1)))
        assert said.startswith("this bundle has no classifier") and CLASSIFIER in said
        assert "no classifier" in refused(http, 422, item_id="item-00001")
        assert http.get("/v1/confusion").status_code == 404
        assert http.get("/v1/categories", params={"of": "classified"}).json()["categories"] == []


@pytest.mark.parametrize(
    ("route", "named"), [("/v1/similar", "image_similarity"), ("/v1/classify", CLASSIFIER)]
)
def test_a_model_is_named_by_the_request_and_one_that_is_not_there_is_404(
    http: httpx.Client, route: str, named: str
) -> None:
    asked = {"item_id": "item-00002"}
    plain = http.post(route, json=asked)
    assert plain.status_code == 200, plain.text
    assert http.post(route, json={**asked, "model": named}).json() == plain.json()
    other = http.post(route, json={**asked, "model": "two_tower"})
    assert other.status_code == 404 and f"there are: {named}" in other.json()["error"]["message"]


def test_the_confusion_of_a_named_classifier(http: httpx.Client) -> None:
    assert http.get("/v1/confusion", params={"model": CLASSIFIER}).status_code == 200
    assert http.get("/v1/confusion", params={"model": "other"}).status_code == 404
