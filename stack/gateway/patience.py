"""How long a request is worth its work: until the caller leaves, or one of two time limits passes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from stack.gateway.config.upstreams import AnswerTimeouts
from stack.gateway.errors import CallerLeft, FirstTokenTimeout, GatewayError, TotalTimeout


class Patience:
    """One timer that is moved: first to the first token, then to the end, to now when the caller leaves."""

    def __init__(self, timeouts: AnswerTimeouts, stream: bool) -> None:
        now = asyncio.get_running_loop().time()
        self._end = now + timeouts.total_seconds
        self._total = TotalTimeout(f"the answer was not complete within {timeouts.total_seconds:g} s")
        self.reason: GatewayError = self._total
        first = now + timeouts.first_token_seconds
        if stream and first < self._end:
            self.reason = FirstTokenTimeout(f"no text within {timeouts.first_token_seconds:g} s")
        self.timer = asyncio.timeout_at(min(first, self._end) if stream else self._end)

    @property
    def timed_out(self) -> bool:
        """True once a time limit, and not the caller, has ended the request."""
        return self.timer.expired() and not isinstance(self.reason, CallerLeft)

    def first_token_came(self) -> None:
        """From now on only the total time limits the request."""
        self._stop_at(self._end, self._total)

    async def watch(self, receive: Receive) -> None:
        """Wait until the caller leaves; stop the work then."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._stop_at(0.0, CallerLeft("the caller closed the connection"))

    def _stop_at(self, when: float, reason: GatewayError) -> None:
        if not self.timer.expired():
            self.reason = reason
            self.timer.reschedule(when)


@asynccontextmanager
async def patience(timeouts: AnswerTimeouts, stream: bool, receive: Receive) -> AsyncIterator[Patience]:
    """Runs its block until patience ends; raises FirstTokenTimeout, TotalTimeout or CallerLeft then.

    The body of the request must have been read: from here on `receive` only tells that the caller left.
    """
    limit = Patience(timeouts, stream)
    try:
        async with limit.timer:
            watcher = asyncio.create_task(limit.watch(receive))
            try:
                yield limit
            finally:
                watcher.cancel()
    except TimeoutError:
        raise limit.reason from None
