"""The tenants' limits: requests a minute and a second, requests at a time, tokens a minute."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from math import ceil

from limits import RateLimitItemPerMinute, RateLimitItemPerSecond

from stack.gateway.call import Call
from stack.gateway.config.tenants import Tenant
from stack.gateway.errors import (
    FirstTokenTimeout,
    RateLimitExceeded,
    TokenLimitExceeded,
    TooManyConcurrent,
    UpstreamError,
    UpstreamUnavailable,
)
from stack.gateway.rates import Meter, Rates, Window
from stack.telemetry.metrics import GatewayMetrics

_CHARS_PER_TOKEN = 4  # of English text in the tokenisers of today's models; usage corrects it afterwards
_ANY_NUMBER = 2**31 - 1
_A_LITTLE = 0.001  # parts of a request do not count, so there is room for one when anything of the limit is left


def estimated_tokens(chars: int) -> int:
    """Tokens that a text of so many characters is taken for."""
    return ceil(chars / _CHARS_PER_TOKEN)


class Quota:
    """Of one tenant."""

    def __init__(self, tenant: Tenant, rates: Rates, metrics: GatewayMetrics) -> None:
        self._name = tenant.name
        self._limits = limits = tenant.limits
        self._rates = rates
        self._in_flight = 0
        self._shown_in_flight = metrics.tenant_in_flight.labels(tenant.name)
        self._second = self._minute = None
        if limits.burst:
            self._second = Meter.of(RateLimitItemPerSecond(limits.burst, namespace="burst"), tenant.name)
        if limits.requests_per_minute:
            minute = RateLimitItemPerMinute(limits.requests_per_minute, namespace="requests")
            self._minute = Meter.of(minute, tenant.name)
        # Only counts: whether there is room depends on what is reserved too, and what a request used must be charged.
        self._tokens = Meter.of(RateLimitItemPerMinute(_ANY_NUMBER, namespace="tokens"), tenant.name)
        self._reserved = 0
        self._shown_tokens = metrics.token_budget_used.labels(tenant.name) if limits.tokens_per_minute else None

    @contextmanager
    def place(self) -> Iterator[None]:
        """Around a request in progress. Raises TooManyConcurrent."""
        most = self._limits.concurrent
        if most is not None and self._in_flight >= most:
            raise TooManyConcurrent(f"{most} requests of {self._name} are in progress, which is its limit", 1.0)
        self._in_flight += 1
        self._shown_in_flight.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            self._shown_in_flight.set(self._in_flight)

    async def request(self, call: Call) -> None:
        """Counts a request. Raises RateLimitExceeded."""
        if self._second:
            await self._hit(self._second, "second", None)
        if self._minute:
            await self._hit(self._minute, "minute", call)

    async def _hit(self, meter: Meter, per: str, told: Call | None) -> None:
        counted = await self._rates.hit(meter)
        if counted and not told:
            return
        window = await self._rates.window(meter)
        if told:
            _tell(told, "requests", meter.limit, meter.limit - window.used, window)
        if not counted:
            wait = window.wait(window.weight - meter.limit + _A_LITTLE)
            raise RateLimitExceeded(f"{self._name} may send {meter.limit} requests a {per}; try again later", wait)

    @asynccontextmanager
    async def tokens(self, call: Call, prompt: int, answer: int) -> AsyncIterator[None]:
        """Around a request that is expected to use so many tokens, if any; what it used is charged at the end.

        Raises TokenLimitExceeded.
        """
        limit, estimate = self._limits.tokens_per_minute, prompt + answer
        if limit is None or not estimate:
            yield
            return
        window = await self._rates.window(self._tokens)
        left = limit - window.used - self._reserved - estimate
        _tell(call, "tokens", limit, left if left >= 0 else left + estimate, window)
        if left < 0:
            raise self._too_many_tokens(limit, estimate, window, -left)
        self._reserved += estimate  # in this process: another gateway sees what is charged, not what is reserved
        served = True
        try:
            yield
        except (UpstreamError, UpstreamUnavailable, FirstTokenTimeout):
            served = False  # nobody pays for our own faults
            raise
        finally:
            if served and (used := _used(call, prompt)):
                await self._rates.hit(self._tokens, used)
            self._reserved -= estimate

    def _too_many_tokens(self, limit: int, estimate: int, window: Window, excess: int) -> TokenLimitExceeded:
        if estimate > limit:
            return TokenLimitExceeded(
                f"this request may use {estimate} tokens, more than the {limit} that {self._name} has a minute; "
                "shorten it, or ask for fewer max_tokens",
                None,
            )
        wait = window.wait(min(excess, window.used))
        return TokenLimitExceeded(
            f"{self._name} may use {limit} tokens in a minute, and this request may need {estimate}; try again later",
            wait,
        )

    async def show(self) -> None:
        """Bring the gauge of the token budget up to date: what is used leaves the window without a request."""
        if self._shown_tokens is not None:
            window = await self._rates.window(self._tokens)
            self._shown_tokens.set((window.used + self._reserved) / self._limits.tokens_per_minute)


def _used(call: Call, prompt: int) -> int:
    """Tokens to charge: the engine's counts, or where the answer ended before they came, the estimate and events."""
    if call.usage:
        return call.usage.get("prompt_tokens", 0) + call.usage.get("completion_tokens", 0)
    return prompt + call.events if call.passed_on is not None else 0


def _tell(call: Call, what: str, limit: int, remaining: int, window: Window) -> None:
    """The headers that OpenAI's clients read."""
    call.headers[f"x-ratelimit-limit-{what}"] = str(limit)
    call.headers[f"x-ratelimit-remaining-{what}"] = str(max(0, remaining))
    call.headers[f"x-ratelimit-reset-{what}"] = f"{ceil(window.wait(window.used))}s"
