"""Around every request of a service: its ids, its size limit, the answer to what nobody caught, metrics, a log line."""

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stack.service.errors import BodyTooLarge, InternalError, ServiceError
from stack.telemetry.ids import current_ids, ids_from_headers

log = logging.getLogger(__name__)

# Asked every second by machines: counting and logging them would bury the callers' requests.
_UNOBSERVED = frozenset({"/healthz", "/readyz", "/metrics"})
UNKNOWN = "unknown"


class RequestMetrics(Protocol):
    """What a service's metrics must have: counts by route and status, seconds by route."""

    requests: Counter
    request_seconds: Histogram


class Observe:
    """ASGI middleware. `route_of` gives the route's template for a scope that was served, so that labels are few."""

    def __init__(
        self, app: ASGIApp, metrics: RequestMetrics, body_bytes: int, route_of: Callable[[Scope], str]
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._body_bytes = body_bytes
        self._route_of = route_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        ids = ids_from_headers(headers.get("x-request-id"), headers.get("traceparent"))
        scope.setdefault("state", {})["ids"] = ids
        started = perf_counter()
        status = 0
        body = _Body(receive, headers, self._body_bytes)

        async def answer(message: Message) -> None:
            nonlocal status
            if body.error and not status:
                return  # what the framework made of it; the error itself is answered below
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", ids.request_id.encode())]
            await send(message)

        token = current_ids.set(ids)
        try:
            try:
                await self._app(scope, body.receive, answer)
                if body.error and not status:
                    too_large, body.error = body.error, None
                    raise too_large
            except ServiceError as error:
                await _fail(error, answer, started=bool(status))
            except Exception:
                log.exception("request failed")
                error = InternalError("the service failed; its log tells more under this request's X-Request-ID")
                await _fail(error, answer, started=bool(status))
            if scope["path"] not in _UNOBSERVED:
                self._tell(self._route_of(scope), status, perf_counter() - started)
        finally:
            current_ids.reset(token)

    def _tell(self, route: str, status: int, seconds: float) -> None:
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        log.info("request", extra={"route": route, "status": status, "seconds": round(seconds, 4)})


class _Body:
    """A request's body that ends in BodyTooLarge, by the announced length at once, or as it comes."""

    def __init__(self, receive: Receive, headers: Headers, most: int) -> None:
        announced = headers.get("content-length", "")
        self._left = most - (int(announced) if announced.isdigit() and int(announced) > most else 0)
        self._most = most
        self._receive = receive
        self.error: BodyTooLarge | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.error = BodyTooLarge(f"the body has more than {self._most} bytes; send less at a time")
            raise self.error
        return message


async def _fail(error: ServiceError, send: Send, *, started: bool) -> None:
    """Tell the caller, unless the answer has begun: then the broken connection tells it."""
    if started:
        raise error
    body = error.body()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
