"""The limits of a tenant."""

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.gateway.call import Call
from stack.gateway.config.tenants import Tenant, TenantLimits
from stack.gateway.errors import (
    CallerLeft,
    FirstTokenTimeout,
    GatewayError,
    RateLimitExceeded,
    TokenLimitExceeded,
    TooManyConcurrent,
    TotalTimeout,
    UpstreamFailed,
    UpstreamUnavailable,
)
from stack.gateway.quotas import Quota, estimated_tokens
from stack.gateway.rates import Rates, Window
from stack.telemetry.ids import ids_from_headers
from stack.telemetry.metrics import GatewayMetrics


class Desk:
    """Tenants with limits, under a clock that the test turns. It starts at the beginning of a minute."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 60.0 * 1000
        monkeypatch.setattr("limits.aio.storage.memory.time", SimpleNamespace(time=lambda: self.now))
        self.metrics = GatewayMetrics([1])
        self._rates = Rates(None, self.metrics.limits_degraded)

    def quota(self, name: str = "demo", **limits: int) -> Quota:
        tenant = Tenant(name=name, assistants=(), limits=TenantLimits(**limits))
        return Quota(tenant, self._rates, self.metrics)

    def gauge(self, metric: Any, tenant: str = "demo") -> float:
        return metric.labels(tenant)._value.get()


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


def call(**fields: Any) -> Call:
    made = Call(ids_from_headers(None, None), "/v1/chat/completions")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


async def requests(quota: Quota, number: int) -> int:
    """How many of so many requests are let in."""
    let_in = 0
    for _ in range(number):
        try:
            await quota.request(call())
            let_in += 1
        except RateLimitExceeded:
            pass
    return let_in


async def use(quota: Quota, prompt: int, answer: int, **ended: Any) -> Call:
    """A request with these estimates that ends as `ended` says."""
    error = ended.pop("error", None)
    made = call(passed_on=1.0, **ended)
    async with quota.tokens(made, prompt, answer):
        if error:
            raise error
    return made


# ---- requests


async def test_a_tenant_without_limits_is_counted_nowhere(desk: Desk) -> None:
    quota = desk.quota()
    assert await requests(quota, 50) == 50
    made = await use(quota, 10**9, 10**9)
    assert made.headers == {}


async def test_requests_of_a_minute_are_limited_and_the_caller_is_told_when_to_come_back(desk: Desk) -> None:
    quota = desk.quota(requests_per_minute=3)
    assert await requests(quota, 3) == 3
    desk.now += 20
    with pytest.raises(RateLimitExceeded) as refused:
        await quota.request(call())
    # They leave the window from the end of their minute on.
    assert refused.value.headers == {"retry-after": "41"}
    desk.now += 39
    assert await requests(quota, 1) == 0
    desk.now += 2
    assert await requests(quota, 2) == 1


async def test_headers_tell_the_limit_what_is_left_and_when_all_is_back(desk: Desk) -> None:
    quota = desk.quota(requests_per_minute=5)
    await quota.request(call())
    made = call()
    await quota.request(made)
    assert made.headers == {
        "x-ratelimit-limit-requests": "5",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "120s",
    }


async def test_a_refused_request_is_told_the_same_and_uses_nothing_up(desk: Desk) -> None:
    quota = desk.quota(requests_per_minute=2)
    assert await requests(quota, 20) == 2
    made = call()
    with pytest.raises(RateLimitExceeded):
        await quota.request(made)
    assert made.headers["x-ratelimit-remaining-requests"] == "0"
    desk.now += 60 + 30.5
    assert await requests(quota, 20) == 2


async def test_a_burst_is_limited_within_its_second_only(desk: Desk) -> None:
    quota = desk.quota(burst=2, requests_per_minute=100)
    assert await requests(quota, 5) == 2
    desk.now += 2
    assert await requests(quota, 5) == 2


async def test_tenants_do_not_share_their_limits(desk: Desk) -> None:
    first, second = desk.quota("first", requests_per_minute=1), desk.quota("second", requests_per_minute=1)
    assert [await requests(first, 5), await requests(second, 5)] == [1, 1]


# ---- at a time


def test_requests_at_a_time_are_limited_and_a_place_is_free_again_however_a_request_ends(desk: Desk) -> None:
    quota = desk.quota(concurrent=2)
    with quota.place():
        with suppress(CallerLeft), quota.place():
            assert desk.gauge(desk.metrics.tenant_in_flight) == 2
            with pytest.raises(TooManyConcurrent) as refused, quota.place():
                pytest.fail("a third was let in")
            assert refused.value.headers == {"retry-after": "1"}
            raise CallerLeft("gone")
        with quota.place():
            pass
    assert desk.gauge(desk.metrics.tenant_in_flight) == 0


# ---- tokens


async def test_what_the_engine_counted_is_charged_not_what_was_reserved(desk: Desk) -> None:
    quota = desk.quota(tokens_per_minute=100)
    made = await use(quota, 40, 40, usage={"prompt_tokens": 10, "completion_tokens": 5})
    assert made.headers["x-ratelimit-remaining-tokens"] == "20"
    assert (await use(quota, 40, 40, usage={"prompt_tokens": 1})).headers["x-ratelimit-remaining-tokens"] == "5"


async def test_more_than_was_reserved_is_charged_in_full_even_over_the_limit(desk: Desk) -> None:
    quota = desk.quota(tokens_per_minute=100)
    await use(quota, 10, 10, usage={"prompt_tokens": 90, "completion_tokens": 90})
    with pytest.raises(TokenLimitExceeded):
        await use(quota, 1, 1)
    await quota.show()
    assert desk.gauge(desk.metrics.token_budget_used) == 1.8


async def test_what_is_reserved_by_requests_in_progress_is_not_given_away_twice(desk: Desk) -> None:
    quota = desk.quota(tokens_per_minute=100)
    async with quota.tokens(call(), 30, 30):
        await quota.show()
        assert desk.gauge(desk.metrics.token_budget_used) == 0.6
        with pytest.raises(TokenLimitExceeded):
            await use(quota, 30, 20)
        await use(quota, 20, 20, usage={"prompt_tokens": 1})
    await use(quota, 50, 49)


async def test_a_request_that_can_never_fit_is_told_so_and_not_to_come_back(desk: Desk) -> None:
    quota = desk.quota(tokens_per_minute=100)
    with pytest.raises(TokenLimitExceeded, match="may use 120 tokens, more than the 100") as refused:
        await use(quota, 60, 60)
    assert refused.value.headers == {}


async def test_a_refused_request_is_told_when_enough_will_have_left_the_minute(desk: Desk) -> None:
    quota = desk.quota(tokens_per_minute=100)
    await use(quota, 1, 1, usage={"prompt_tokens": 100})
    desk.now += 15
    with pytest.raises(TokenLimitExceeded) as refused:
        await use(quota, 25, 25)
    # The hundred leave evenly within the minute after theirs, half of them in its first half.
    assert refused.value.headers == {"retry-after": str(45 + 30)}
    desk.now += 74
    with pytest.raises(TokenLimitExceeded):
        await use(quota, 25, 25)
    desk.now += 2
    await use(quota, 25, 25)


@pytest.mark.parametrize(
    ("ended", "charged"),
    [
        ({"error": UpstreamFailed("engine", "died"), "events": 7}, 0),
        ({"error": UpstreamUnavailable("failed several times", 3)}, 0),
        ({"error": FirstTokenTimeout("no text")}, 0),
        ({"error": TotalTimeout("too long"), "events": 7}, 17),
        ({"error": CallerLeft("gone"), "events": 7}, 17),
        ({"error": CallerLeft("gone")}, 10),
        ({"error": CallerLeft("gone"), "passed_on": None}, 0),
        ({"events": 7}, 17),
    ],
)
async def test_without_the_engines_counts_the_prompt_is_charged_by_its_estimate_and_a_token_an_event(
    desk: Desk, ended: dict[str, Any], charged: int
) -> None:
    quota = desk.quota(tokens_per_minute=100)
    made = call(**{"passed_on": 1.0} | {name: value for name, value in ended.items() if name != "error"})
    with suppress(GatewayError):
        async with quota.tokens(made, 10, 20):
            if error := ended.get("error"):
                raise error
    await quota.show()
    assert desk.gauge(desk.metrics.token_budget_used) == charged / 100


async def test_who_has_no_tokens_left_may_still_do_what_uses_none(desk: Desk) -> None:
    quota = desk.quota(tokens_per_minute=100)
    await use(quota, 1, 1, usage={"prompt_tokens": 300})
    assert "x-ratelimit-remaining-tokens" not in (await use(quota, 0, 0)).headers
    with pytest.raises(TokenLimitExceeded):
        await use(quota, 1, 0)


async def test_the_gauge_of_the_token_budget_falls_without_requests(desk: Desk) -> None:
    quota = desk.quota(tokens_per_minute=100)
    await use(quota, 1, 1, usage={"prompt_tokens": 80})
    desk.now += 90
    await quota.show()
    assert desk.gauge(desk.metrics.token_budget_used) == 0.4


def test_four_characters_are_a_token() -> None:
    assert [estimated_tokens(chars) for chars in (0, 1, 4, 5)] == [0, 1, 1, 2]


# ---- the window


@given(st.integers(0, 1000), st.floats(0, 60), st.integers(0, 1000), st.floats(0, 60), st.floats(0, 1))
def test_after_the_wait_so_much_has_left_the_window_and_not_a_second_before(
    before: int, before_left: float, now: int, now_left: float, share: float
) -> None:
    window = Window(60, before, before_left, now, now_left)

    def counted(after: float) -> float:
        old = before * max(0.0, before_left - after) / 60
        # The present window becomes the one before when it ends, and leaves within the next minute.
        new = now if after <= now_left else now * max(0.0, 60 - (after - now_left)) / 60
        return old + new

    excess = share * counted(0)
    wait = window.wait(excess)
    if before_left <= now_left:  # as it always is: the two windows end together
        assert counted(0) - counted(wait + 1e-6) >= excess - 1e-3
        assert wait < 1 or counted(0) - counted(wait - 1) <= excess + 1e-3


def test_an_empty_window_has_nothing_to_wait_for() -> None:
    assert Window(60, 0, 0.0, 0, 0.0).wait(0) == 0
    assert Window(60, 0, 0.0, 0, 0.0).used == 0
