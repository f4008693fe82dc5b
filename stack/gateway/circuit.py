"""A circuit breaker for each upstream: who failed again and again is left alone for a while.

The states and their changes are purgatory's. Its own `async with` takes every exception for a failure or for a success,
a caller who left among them, and lets all requests through as soon as the time is over; so it is driven from here.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Gauge
from purgatory.domain.model import CLOSED, HALF_OPENED, OPENED, Context, OpenedState

from stack.gateway.config.upstreams import Circuit as CircuitSettings
from stack.gateway.errors import UpstreamFailed, UpstreamRefused, UpstreamUnavailable, UpstreamUnreachable

log = logging.getLogger(__name__)

_SHOWN = {CLOSED: 0, HALF_OPENED: 1, OPENED: 2}


class CircuitBreaker:
    """Of one upstream."""

    def __init__(self, upstream: str, said: str, config: CircuitSettings, gauge: Gauge) -> None:
        self._upstream = upstream
        self._said = said
        self._context = Context(upstream, threshold=config.failures, ttl=config.open_seconds)
        self._gauge = gauge.labels(upstream)
        self._gauge.set(_SHOWN[CLOSED])
        self._trying = False

    def require(self) -> None:
        """Raises UpstreamUnavailable while the circuit is open, before any work is done for a call."""
        context = self._context
        if context.state == OPENED and (left := context.opened_at + context.ttl - time.time()) > 0:
            raise self._unavailable(left)

    @contextmanager
    def guarding(self, timed_out: Callable[[], bool]) -> Iterator[None]:
        """Around one call. Raises UpstreamUnavailable while the circuit is open.

        How the block ends tells how the upstream does. An exception that says nothing about it changes nothing: the
        caller left, the upstream was busy, the gateway stops. When the block is cancelled, `timed_out` says whether
        it was for the upstream's slowness.
        """
        trying = self._admit()
        try:
            yield
        except (UpstreamFailed, UpstreamUnreachable) as error:
            self._failed(error, trying)
            raise
        except UpstreamRefused:
            self._served(trying)
            raise
        except asyncio.CancelledError as error:
            if timed_out():
                self._failed(error, trying)
            raise
        else:
            self._served(trying)
        finally:
            if trying:
                self._trying = False

    def _admit(self) -> bool:
        """True for the one request that tries whether the upstream is back."""
        context = self._context
        try:
            self._change(context.handle_new_request)
        except OpenedState as opened:
            opened.__traceback__ = None  # it is one object, raised again and again: it would grow
            raise self._unavailable(opened.opened_at + context.ttl - time.time()) from None
        if context.state != HALF_OPENED:
            return False
        if self._trying:
            raise self._unavailable(1.0)
        self._trying = True
        return True

    def _unavailable(self, wait_seconds: float) -> UpstreamUnavailable:
        return UpstreamUnavailable(f"{self._said} failed several times in a row; try again later", wait_seconds)

    def _failed(self, error: BaseException, trying: bool) -> None:
        # What began before the circuit opened tells nothing about the try.
        if trying or self._context.state == CLOSED:
            self._change(lambda: self._context.handle_exception(error))

    def _served(self, trying: bool) -> None:
        if trying or self._context.state == CLOSED:
            self._change(self._context.handle_end_request)

    def _change(self, step: Callable[[], None]) -> None:
        before = self._context.state
        step()
        self._context.messages.clear()  # for purgatory's message bus, which nobody listens to here
        if (state := self._context.state) != before:
            self._gauge.set(_SHOWN[state])
            log.warning("circuit changed", extra={"upstream": self._upstream, "state": state})
