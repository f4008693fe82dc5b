"""When a call is repeated: after a random wait, and only while repetitions are few beside the requests."""

import random
import time
from collections import deque
from collections.abc import Callable

from stack.gateway.config.upstreams import Retries


class RetryBudget:
    """Of one upstream. Without it, every caller's repetition comes on top of the load that made the first call fail."""

    def __init__(self, config: Retries, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = config.budget_share
        self._seconds = config.budget_seconds
        self._clock = clock
        self._requests: deque[float] = deque()
        self._repetitions: deque[float] = deque()

    def request(self) -> None:
        """A request begins."""
        now = self._clock()
        self._requests.append(now)
        self._forget(self._requests, now)

    def take(self) -> bool:
        """True when one of these may be repeated now; that is counted."""
        now = self._clock()
        self._forget(self._requests, now)
        self._forget(self._repetitions, now)
        if len(self._repetitions) >= max(1, int(self._share * len(self._requests))):
            return False
        self._repetitions.append(now)
        return True

    def _forget(self, moments: deque[float], now: float) -> None:
        while moments and moments[0] <= now - self._seconds:
            moments.popleft()


def backoff(config: Retries, repetition: int) -> float:
    """Seconds to wait before a repetition, counted from 0: exponential with full jitter.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random.uniform(0.0, min(config.backoff_most_seconds, config.backoff_seconds * 2**repetition))
