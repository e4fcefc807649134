"""Politeness in seconds: spacing, back-off, and the circuit that leaves a host alone."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.config import PhotosConfig
from etalage.lake.photos.pacing import Manners, Pace, retry_after
from etalage.lake.photos.states import Ended, Outcome, State

MANNERS = Manners(per_host=2, spacing=0.5, backoff=1.0, give_up=4, patience=100)
FAILED = Outcome(State.timeout, "not in time", lasting=False)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(test: Callable[[Pace, Clock], None], manners: Manners = MANNERS, draw: float = 0.5) -> None:
    async def inside() -> None:
        clock = Clock()
        test(Pace(manners, clock, lambda: draw), clock)

    asyncio.run(inside())


def free_at(pace: Pace, clock: Clock) -> float:
    """When the next turn may be taken; takes it."""
    while not pace.take():
        clock.now = round(clock.now + 0.01, 6)
        assert clock.now < 1000
    return clock.now


def test_requests_are_spaced() -> None:
    def test(pace: Pace, clock: Clock) -> None:
        assert [free_at(pace, clock) for _ in range(3)] == [0.0, 0.5, 1.0]
        clock.now = 10.0
        assert free_at(pace, clock) == 10.0  # a pause is not saved up

    run(test)


@pytest.mark.parametrize(("draw", "pauses"), [(0.5, [1, 2, 4]), (0.0, [0.5, 1, 2]), (1.0, [1.5, 3, 6])])
def test_f47_back_off_doubles_and_is_jittered(draw: float, pauses: list[float]) -> None:
    def test(pace: Pace, clock: Clock) -> None:
        for pause in pauses:
            clock.now += 1000
            pace.failed(FAILED)
            began = clock.now
            clock.now = began + pause - 0.01
            assert not pace.take()
            clock.now = began + pause
            assert pace.take()

    run(test, draw=draw)


def test_f47_after_failures_in_a_row_the_circuit_opens() -> None:
    def test(pace: Pace, clock: Clock) -> None:
        for _ in range(3):
            pace.failed(FAILED)
        pace.worked()
        for _ in range(3):
            pace.failed(FAILED)
        assert pace.closed is None
        pace.failed(FAILED)
        assert pace.closed is not None
        assert pace.closed.outcome.state is State.host_down
        assert pace.closed.outcome.reason == "given up after 4 failures in a row, the last: not in time"
        assert not pace.take()
        with pytest.raises(Ended):
            asyncio.get_running_loop().create_task(pace.wait()).get_coro().send(None)  # type: ignore[union-attr]

    run(test)


def test_f47_retry_after_counts_instead_of_the_back_off() -> None:
    def test(pace: Pace, clock: Clock) -> None:
        pace.failed(Outcome(State.throttled, "answers 429", again_after=30))
        clock.now = 29.9
        assert not pace.take()
        clock.now = 30.0
        assert pace.take()

    run(test)


def test_f47_a_pause_beyond_patience_opens_the_circuit() -> None:
    def test(pace: Pace, clock: Clock) -> None:
        pace.failed(Outcome(State.throttled, "answers 429", again_after=101))
        assert pace.closed is not None
        assert pace.closed.outcome.state is State.throttled
        assert pace.closed.outcome.again_after == 101

    run(test)


def test_a_crawl_delay_that_is_longer_counts() -> None:
    def test(pace: Pace, clock: Clock) -> None:
        free_at(pace, clock)
        pace.slow_to(3)
        assert free_at(pace, clock) == 3.0
        pace.slow_to(1)
        assert pace.spacing == 3

    run(test)


def test_a_host_of_several_workers_has_its_crawl_delay_from_all_of_them_together() -> None:
    def test(pace: Pace, clock: Clock) -> None:
        free_at(pace, clock)
        pace.slow_to(3)
        assert free_at(pace, clock) == 12.0

    run(test, replace(MANNERS, share=4))


@pytest.mark.parametrize("lasting", [True, False])
def test_a_host_that_may_not_be_asked_is_closed_for_as_long_as_its_first_link(lasting: bool) -> None:
    def test(pace: Pace, clock: Clock) -> None:
        pace.failed(Outcome(State.refused_by_policy, "10.0.0.1 is private", lasting), for_good=True)
        assert pace.closed is not None and pace.closed.again().outcome.lasting is lasting

    run(test)


def test_a_host_of_another_worker_is_asked_at_a_part_of_its_rate() -> None:
    config = PhotosConfig(per_host=4, spacing=0.5)
    assert Manners.of(config) == Manners(4, 0.5, config.backoff, config.give_up, config.patience)
    assert (Manners.of(config, 3).per_host, Manners.of(config, 3).spacing) == (1, 1.5)


NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 01 Mar 2026 13:00:30 +0100", 30.0),
        ("99999999999999999999", 365 * 86_400.0),
        ("Wed, 01 Mar 9999 12:00:00 GMT", 365 * 86_400.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("\u0661", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_retry_after_is_a_pause_or_nothing(text: str) -> None:
    found = retry_after(text)
    assert found is None or 0 <= found <= 365 * 86_400
