"""The JSON of every route is what whoever reads it was given before, byte for byte; a float may differ in its
last digits from machine to machine."""

import json

import pytest

from tests.serve import recorded
from tests.serve.recorded import NUMBER, QUESTIONS, RECORDED


def floats(text: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(text)]


def test_every_answer_is_the_recorded_one() -> None:
    before, now = json.loads(RECORDED.read_text(encoding="utf-8")), recorded.answers()
    assert len(before) == len(now) == len(QUESTIONS)
    for old, new in zip(before, now, strict=True):
        assert (new["asked"], new["status"]) == (old["asked"], old["status"]), new
        assert NUMBER.sub("0.0", new["body"]) == NUMBER.sub("0.0", old["body"]), new["asked"]
        assert floats(new["body"]) == pytest.approx(floats(old["body"]), rel=1e-4, abs=1e-6), new["asked"]
