"""What each tenant used within the last minute or second: in this process, or in a Redis that gateways share."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import floor
from typing import TypeVar

from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.errors import StorageError
from prometheus_client import Counter

log = logging.getLogger(__name__)

T = TypeVar("T")
Storage = MemoryStorage | RedisStorage

_SHARED_SECONDS = 0.25  # a storage that takes longer costs every caller more than its counting is worth
_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Window:
    """A sliding window of `seconds`, as two fixed ones: `before` leaves it evenly within `before_left` seconds, then
    `now` begins to, which is after `now_left` seconds.

    https://limits.readthedocs.io/en/stable/strategies.html#sliding-window-counter
    """

    seconds: int
    before: int
    before_left: float
    now: int
    now_left: float

    @property
    def weight(self) -> float:
        """What counts at this moment."""
        return self.before * self.before_left / self.seconds + self.now

    @property
    def used(self) -> int:
        """The same in whole requests or tokens, as limits are held against it."""
        return floor(self.weight)

    def wait(self, excess: float) -> float:
        """Seconds until so much of what counts now has left the window, if nothing comes in."""
        leaving = self.weight - self.now
        if excess <= 0:
            return 0.0
        if excess <= leaving:
            return excess * self.seconds / self.before
        if not self.now:
            return self.before_left
        return self.now_left + min(excess - leaving, self.now) * self.seconds / self.now


@dataclass(frozen=True)
class Meter:
    """What one tenant uses of one limit."""

    key: str
    limit: int
    seconds: int

    @classmethod
    def of(cls, item: RateLimitItem, tenant: str) -> "Meter":
        """The meter of a limit as the library describes it."""
        return cls(item.key_for(tenant), item.amount, item.get_expiry())


class Rates:
    """Counts by tenant. While the shared storage does not answer, this process counts for itself."""

    def __init__(self, shared_url: str | None, degraded: Counter) -> None:
        self._own = MemoryStorage()
        self._shared: RedisStorage | None = None
        if shared_url:
            self._shared = RedisStorage(f"async+{shared_url}", wrap_exceptions=True, implementation="redispy")
        self._degraded = degraded
        self._not_before = 0.0

    async def hit(self, meter: Meter, cost: int = 1) -> bool:
        """Count `cost`, unless it goes over the limit; True when it was counted."""
        return await self._on(
            lambda storage: storage.acquire_sliding_window_entry(meter.key, meter.limit, meter.seconds, cost)
        )

    async def window(self, meter: Meter) -> Window:
        """What was counted."""
        key, seconds = meter.key, meter.seconds
        before, before_left, now, ttl = await self._on(lambda storage: storage.get_sliding_window(key, seconds))
        # A count lives for two windows: one in which it is the present one, one in which it is that before.
        return Window(seconds, before, before_left, now, max(0.0, ttl - seconds))

    async def _on(self, use: Callable[[Storage], Awaitable[T]]) -> T:
        if self._shared is not None:
            if time.monotonic() >= self._not_before:
                try:
                    async with asyncio.timeout(_SHARED_SECONDS):
                        return await use(self._shared)
                except (StorageError, OSError) as error:  # TimeoutError is an OSError
                    self._not_before = time.monotonic() + _RETRY_SECONDS
                    log.error("the storage of limits does not answer", extra={"error": type(error).__name__})
            self._degraded.inc()
        return await use(self._own)
