"""Loaded by Schemathesis itself: what it cannot draw from the document alone, a real image file."""

import base64
from typing import Any

import schemathesis
from hypothesis import strategies as st

from etalage.serve.moments import FARTHEST
from tests.shops import drawn_photo

PHOTOS = [base64.b64encode(drawn_photo(number)).decode() for number in range(3)]
schemathesis.openapi.format("base64-photo", st.sampled_from(PHOTOS))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """A deadline of 2 ms may rightly pass in the queue; what is tested here must not depend on speed."""
    if case.meta is not None and case.meta.generation.mode.is_negative:
        return  # an edited request is taken for one that should succeed
    # No document can say what time it is now, and a history of the future is refused.
    acts = case.body.get("history") if isinstance(case.body, dict) else None
    for act in acts if isinstance(acts, list) else ():
        if isinstance(act, dict) and act.get("time") is not None:
            act["time"] = 1_700_000_000
    # Nor which numbers are the nanoseconds of a time that an event can have.
    events = case.body.get("events") if isinstance(case.body, dict) else None
    for event in events if isinstance(events, list) else ():
        time = event.get("time") if isinstance(event, dict) else None
        if isinstance(time, int | float) and abs(time) > FARTHEST:
            event["time"] = 1_700_000_000
    if "x-deadline-ms" in (case.headers or {}):
        case.headers["x-deadline-ms"] = "60000"
