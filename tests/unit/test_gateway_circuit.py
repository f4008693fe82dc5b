"""The circuit breaker: when it opens, whom it lets through, what closes it again."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, Gauge

from stack.gateway.circuit import CircuitBreaker
from stack.gateway.config.upstreams import Circuit
from stack.gateway.errors import (
    CallerLeft,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamUnavailable,
    UpstreamUnreachable,
)

FAILED = UpstreamFailed("engine", "broke off")
UNREACHABLE = UpstreamUnreachable("engine", "is away")
REFUSED = UpstreamRefused("engine", "too long")
BUSY = UpstreamBusy("engine", "no room")
LEFT = CallerLeft("gone")


class Engine:
    """A breaker that opens after three failures for ten seconds, under a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        clock = SimpleNamespace(time=lambda: self.now)
        monkeypatch.setattr("purgatory.domain.model.time", clock)
        monkeypatch.setattr("stack.gateway.circuit.time", clock)
        self._gauge = Gauge("x", "x", ["upstream"], registry=CollectorRegistry())
        self.breaker = CircuitBreaker("llm", "the engine", Circuit(failures=3, open_seconds=10), self._gauge)

    @property
    def state(self) -> str:
        return ["closed", "trying", "open"][int(self._gauge.labels("llm")._value.get())]

    def call(self, *errors: BaseException | None, timed_out: bool = False) -> None:
        for error in errors:
            with suppress(BaseException), self.breaker.guarding(lambda: timed_out):
                if error:
                    raise error

    def refused(self) -> UpstreamUnavailable:
        with pytest.raises(UpstreamUnavailable) as caught, self.breaker.guarding(lambda: False):
            pytest.fail("it was let through")
        return caught.value


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(monkeypatch)


def test_it_opens_after_so_many_failures_in_a_row_and_says_when_to_come_back(engine: Engine) -> None:
    engine.call(FAILED, UNREACHABLE)
    assert engine.state == "closed"
    engine.call(FAILED)
    assert engine.state == "open"
    engine.now += 3.5
    assert engine.refused().headers == {"retry-after": "7"}
    with pytest.raises(UpstreamUnavailable):
        engine.breaker.require()


def test_a_success_between_them_starts_the_count_anew(engine: Engine) -> None:
    engine.call(FAILED, FAILED, None, FAILED, FAILED)
    assert engine.state == "closed"


def test_a_refusal_is_an_answer_of_an_upstream_that_works(engine: Engine) -> None:
    engine.call(FAILED, FAILED, REFUSED, FAILED, FAILED, *[REFUSED] * 10)
    assert engine.state == "closed"


@pytest.mark.parametrize("error", [BUSY, LEFT, asyncio.CancelledError(), RuntimeError()])
def test_what_says_nothing_about_the_upstream_neither_opens_the_circuit_nor_resets_its_count(
    engine: Engine, error: BaseException
) -> None:
    """An upstream that says it is busy protects itself: to cut it off would turn some refusals into an outage."""
    engine.call(*[error] * 10)
    assert engine.state == "closed"
    engine.call(FAILED, FAILED, error, FAILED)
    assert engine.state == "open"


def test_a_call_that_was_cancelled_for_its_slowness_is_a_failure(engine: Engine) -> None:
    engine.call(*[asyncio.CancelledError()] * 3, timed_out=True)
    assert engine.state == "open"


@pytest.mark.parametrize(
    ("error", "state"), [(None, "closed"), (REFUSED, "closed"), (FAILED, "open"), (BUSY, "trying"), (LEFT, "trying")]
)
def test_after_its_time_one_request_finds_out_whether_it_closes(
    engine: Engine, error: BaseException | None, state: str
) -> None:
    engine.call(FAILED, FAILED, FAILED)
    engine.now += 10.5
    engine.breaker.require()
    engine.call(error)
    assert engine.state == state


def test_while_one_tries_the_others_wait(engine: Engine) -> None:
    engine.call(FAILED, FAILED, FAILED)
    engine.now += 10.5
    with engine.breaker.guarding(lambda: False):
        assert engine.state == "trying"
        assert engine.refused().headers == {"retry-after": "1"}
    assert engine.state == "closed"


def test_a_try_that_said_nothing_leaves_room_for_the_next(engine: Engine) -> None:
    engine.call(FAILED, FAILED, FAILED)
    engine.now += 10.5
    engine.call(LEFT, BUSY, None)
    assert engine.state == "closed"


@pytest.mark.parametrize("late", [None, FAILED])
def test_a_call_that_began_before_it_opened_decides_nothing_when_it_ends(
    engine: Engine, late: BaseException | None
) -> None:
    def end_of_an_old_call(while_: Callable[[], None]) -> None:
        with suppress(UpstreamFailed), engine.breaker.guarding(lambda: False):
            while_()
            if late:
                raise late

    def opened_and_tried() -> None:
        engine.call(FAILED, FAILED, FAILED)
        engine.now += 10.5
        engine.call(LEFT)

    end_of_an_old_call(opened_and_tried)
    assert engine.state == "trying"


def test_an_open_circuit_does_not_keep_what_it_refused(engine: Engine) -> None:
    """Bug of the obvious way: one exception object, raised again and again, collects the traceback of every request."""
    engine.call(FAILED, FAILED, FAILED)
    for _ in range(3):
        engine.refused()
    assert engine.breaker._context._state.__traceback__ is None
