"""The OpenAPI document tells the truth: Schemathesis draws requests from it, right and wrong ones."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.serve.servers import ThreadServer
from tests.shops import drawn_photo

KEY = "schemathesis-key"
PHOTOS = [base64.b64encode(drawn_photo(n, size=9)).decode() for n in range(3)]


@pytest.fixture(scope="module")
def keyed(served_shop: Path) -> Iterator[ThreadServer]:
    with ThreadServer(served_shop, key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def api(keyed: ThreadServer) -> Any:
    schemathesis.openapi.format("base64-photo", st.sampled_from(PHOTOS))
    headers = {"authorization": f"Bearer {KEY}"}
    loaded = schemathesis.openapi.from_url(f"{keyed.url}/openapi.json", headers=headers)
    return loaded


lazy = schemathesis.pytest.from_fixture("api")


@lazy.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_operation_keeps_to_its_description(case: Any) -> None:
    case.call_and_validate(headers={"authorization": f"Bearer {KEY}"})
