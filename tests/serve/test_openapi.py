"""The OpenAPI document tells the truth: Schemathesis draws requests from it, right and wrong ones."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from etalage import api
from tests.serve.servers import ThreadServer

KEY = "schemathesis-key"


@pytest.fixture(scope="module")
def keyed(shoppers_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    """Of a copy: what is drawn is written to its online store too."""
    shop = tmp_path_factory.mktemp("keyed") / "shop"
    shutil.copytree(shoppers_shop.parent, shop)
    served_shop = shop / shoppers_shop.name
    with ThreadServer(served_shop, key=KEY) as running:
        yield running


@pytest.mark.timeout(1200)
@pytest.mark.slow
@pytest.mark.parametrize("examples", [10])
def test_schemathesis_finds_nothing_in_any_phase_with_all_its_checks(
    keyed: ThreadServer, project: Path, tmp_path: Path, examples: int
) -> None:
    """Boundary values, random right and wrong requests, chains of requests, requests without the key."""
    arguments = [
        "--checks",
        "all",
        "--max-examples",
        str(examples),
        "--seed",
        "1",
        "--workers",
        "1",
        "--no-color",
    ]
    arguments += ["-H", f"Authorization: Bearer {KEY}"]
    hooks = "tests.serve.schemathesis_hooks"
    settings = project / "tests" / "serve" / "schemathesis.toml"
    schemathesis = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings)]
    found = subprocess.run(
        [*schemathesis, "run", f"{keyed.url}/openapi.json", *arguments],
        env={**os.environ, "SCHEMATHESIS_HOOKS": hooks, "PYTHONPATH": str(project)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", found.stdout)
    cases = re.search(r"(\d+) generated", found.stdout)
    assert tested and int(tested.group(1)) == 20, found.stdout[-3000:]
    assert cases and int(cases.group(1)) > 200, found.stdout[-3000:]


def test_the_document_names_every_route_and_every_refusal(keyed: ThreadServer) -> None:
    document = httpx.get(f"{keyed.url}/openapi.json", headers={"authorization": f"Bearer {KEY}"}).json()
    similar = document["paths"]["/v1/similar"]["post"]
    assert set(similar["responses"]) == {"200", "400", "401", "403", "404", "413", "415", "421", "422", "503"}
    assert similar["security"] == [{"key": []}]
    bodies = similar["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    names = [body["$ref"].rsplit("/", 1)[1] for body in bodies]
    assert names == ["SimilarToItem", "SimilarToPhoto", "SimilarToPhotos"]
    assert set(names) <= set(document["components"]["schemas"])
    recommend = document["paths"]["/v1/recommend"]["post"]
    bodies = recommend["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    names = [body["$ref"].rsplit("/", 1)[1] for body in bodies]
    assert names == ["RecommendToUser", "RecommendByHistory"]
    assert set(document["paths"]["/v1/users"]) == {"get", "post"}
    assert set(document["paths"]["/v1/users/{user_id}/liked"]["get"]["responses"]) == {
        "200", "400", "401", "403", "404", "421", "422", "503",
    }  # fmt: skip
    classify = document["paths"]["/v1/classify"]["post"]
    assert set(classify["responses"]) == {
        "200",
        "400",
        "401",
        "403",
        "404",
        "413",
        "415",
        "421",
        "422",
        "503",
    }
    bodies = classify["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    names = [body["$ref"].rsplit("/", 1)[1] for body in bodies]
    assert names == ["ClassifyItem", "ClassifyPhoto", "ClassifyItems"]
    assert set(names) | {"ItemToClassify"} <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in str(document)
    assert "security" not in document["paths"]["/healthz"]["get"]


def test_whoever_asks_for_the_address_alone_is_told_where_to_look(keyed: ThreadServer) -> None:
    told = httpx.get(keyed.url).json()
    assert told["what"].startswith("a server of Etalage") and told["bundle"]
    right = {"authorization": f"Bearer {KEY}"}
    for name in ("openapi", "health", "ready", "metrics"):
        assert httpx.get(f"{keyed.url}{told[name]}", headers=right).is_success, name
    assert told["page"] == f"etalage page --url {keyed.url}"


def test_the_page_of_no_other_host_is_needed(keyed: ThreadServer) -> None:
    right = {"authorization": f"Bearer {KEY}"}
    for path in ("/docs", "/redoc"):
        assert httpx.get(f"{keyed.url}{path}", headers=right).status_code == 404


def test_answers_are_described_as_the_dataclasses_that_are_written(keyed: ThreadServer) -> None:
    document = httpx.get(f"{keyed.url}/openapi.json", headers={"authorization": f"Bearer {KEY}"}).json()
    schemas = document["components"]["schemas"]
    refs = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert refs == set(schemas), "every name is defined, and every definition used"
    ours = {name for name in schemas if dataclasses.is_dataclass(getattr(api, name, None))}
    assert {"Answers", "Recommended", "Categories", "History", "Refusal"} <= ours
    for name in ours:
        fields = [one.metadata.get("alias", one.name) for one in dataclasses.fields(getattr(api, name))]
        assert schemas[name]["required"] == list(schemas[name]["properties"]) == fields, name
    slot = schemas["ReasonedSlot"]["properties"]
    assert "because you bought" in slot["why"]["description"], "of its own base"
    assert slot["photo"]["description"].startswith("Where the photo is"), "of the item's"
    assert schemas["WholeItem"]["properties"]["item"] == {"$ref": "#/components/schemas/Columns"}
    assert schemas["Columns"]["additionalProperties"] is True
