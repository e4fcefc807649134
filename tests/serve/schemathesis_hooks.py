"""Loaded by Schemathesis itself: what it cannot draw from the document alone, a real image file."""

import base64
from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.shops import drawn_photo

PHOTOS = [base64.b64encode(drawn_photo(number)).decode() for number in range(3)]
schemathesis.openapi.format("base64-photo", st.sampled_from(PHOTOS))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """A deadline of 2 ms may rightly pass in the queue; what is tested here must not depend on speed."""
    if case.meta is not None and case.meta.generation.mode.is_negative:
        return  # an edited request is taken for one that should succeed
    if "x-deadline-ms" in (case.headers or {}):
        case.headers["x-deadline-ms"] = "60000"
