"""The gateway's side of the services behind it: calls, with their errors, repetitions and circuit breaker."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count

import httpx

from stack.gateway.call import Call
from stack.gateway.circuit import CircuitBreaker
from stack.gateway.config.upstreams import Calls, UpstreamName
from stack.gateway.errors import (
    UpstreamBusy,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamUnreachable,
)
from stack.gateway.retries import RetryBudget, backoff
from stack.gateway.sse import BrokenAnswer
from stack.telemetry.metrics import GatewayMetrics

log = logging.getLogger(__name__)

# A service closes idle connections (vLLM after 5 s); reusing one at that moment would fail the request.
_KEEP_ALIVE_SECONDS = 2.0
# The client's pool looks at every idle connection for every request: with hundreds that costs milliseconds.
_KEEP_ALIVE_CONNECTIONS = 16
_SPARE_CONNECTIONS = 8

_BUSY = frozenset({429, 503})
_AGAIN = frozenset({502, 503})


@dataclass(frozen=True)
class Kind:
    """How one of the services is spoken of, and which of its refusals are about the request."""

    name: UpstreamName
    code: str
    said: str
    refusals: frozenset[int]


ENGINE = Kind("llm", "engine", "the engine", frozenset({400, 413, 422}))
RETRIEVAL = Kind("rag", "retrieval", "the retrieval service", frozenset({400, 404, 413, 422}))
MODERATION = Kind("moderation", "moderation", "the moderation service", frozenset({400, 413, 422}))


def client(in_flight: int, connect_seconds: float) -> httpx.AsyncClient:
    """A client with a connection for every request in flight. Proxies of the environment are not for it."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=connect_seconds),
        limits=httpx.Limits(
            max_connections=in_flight + _SPARE_CONNECTIONS,
            max_keepalive_connections=_KEEP_ALIVE_CONNECTIONS,
            keepalive_expiry=_KEEP_ALIVE_SECONDS,
        ),
        headers={"accept-encoding": "identity", "content-type": "application/json"},
        trust_env=False,
    )


class Upstream:
    """Calls one of the services."""

    def __init__(
        self, kind: Kind, base_url: str, client: httpx.AsyncClient, calls: Calls, metrics: GatewayMetrics
    ) -> None:
        self.kind = kind
        self._base_url = base_url.rstrip("/")
        self._client = client
        self._retries = calls.retries
        self._budget = RetryBudget(calls.retries)
        self._circuit = CircuitBreaker(kind.name, kind.said, calls.circuit, metrics.circuit_state)
        self._retried = metrics.retries

    def require(self) -> None:
        """Raises UpstreamUnavailable."""
        self._circuit.require()

    @asynccontextmanager
    async def post(
        self, path: str, content: bytes, call: Call, timed_out: Callable[[], bool], headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """The service's 200 answer, its content unread; leaving the block early makes the service stop.

        Raises UpstreamUnavailable and UpstreamErrors, also for faults of the service inside the block. Where the block
        is cancelled, `timed_out` says whether it took too long.
        """
        sent = {"traceparent": call.ids.traceparent, "x-request-id": call.ids.request_id, **headers}
        with (
            self._circuit.guarding(lambda: timed_out() and call.waits_for == self.kind.name),
            self._faults_as_errors(),
        ):
            async with aclosing(await self._send(path, content, sent, call)) as response:
                if response.status_code != httpx.codes.OK:
                    raise self._refusal(response.status_code, await response.aread())
                yield response

    @contextmanager
    def _faults_as_errors(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            message = f"{self.kind.said} cannot be reached; try again later"
            raise UpstreamUnreachable(self.kind.code, message) from error
        except httpx.HTTPError as error:
            raise UpstreamFailed(self.kind.code, f"{self.kind.said} broke off its answer; try again") from error
        except BrokenAnswer as error:
            raise UpstreamFailed(self.kind.code, f"{self.kind.said} {error}") from error

    async def _send(self, path: str, content: bytes, headers: Mapping[str, str], call: Call) -> httpx.Response:
        """The head of the answer, after as many repetitions as are allowed and make sense. Raises httpx's errors."""
        most = self._retries.most
        if most:
            self._budget.request()
        for repetition in count():
            answer = await self._try(path, content, headers, call)
            vain = isinstance(answer, httpx.TransportError) or answer.status_code in _AGAIN
            if repetition:
                self._retried.labels(self.kind.name, "failed" if vain else "succeeded").inc()
            if not vain or repetition == most or not self._may_repeat():
                break
            if isinstance(answer, httpx.Response):
                await answer.aclose()
            with call.waiting(self.kind.name):
                await asyncio.sleep(backoff(self._retries, repetition))
        if isinstance(answer, httpx.TransportError):
            raise answer
        return answer

    async def _try(
        self, path: str, content: bytes, headers: Mapping[str, str], call: Call
    ) -> httpx.Response | httpx.TransportError:
        """The head of the answer, or why the service was not reached: nothing of the request has got there then."""
        request = self._client.build_request("POST", self._base_url + path, content=content, headers=headers)
        try:
            with call.waiting(self.kind.name):
                return await self._client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            return error

    def _may_repeat(self) -> bool:
        if self._budget.take():
            return True
        self._retried.labels(self.kind.name, "no_budget").inc()
        return False

    def _refusal(self, status: int, content: bytes) -> UpstreamError:
        kind = self.kind
        if status in _BUSY:
            return UpstreamBusy(kind.code, f"{kind.said} has no room for this request; try again later")
        if status in kind.refusals:
            return UpstreamRefused(kind.code, f"{kind.said} refused the request: {_message(content)}")
        log.error("a service answered with an error", extra={"upstream": kind.name, "upstream_status": status})
        return UpstreamFailed(kind.code, f"{kind.said} answered with status {status}")


def _message(content: bytes) -> str:
    """The text of an error in OpenAI's shape, or what there is instead."""
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return content[:200].decode("utf-8", "replace")
