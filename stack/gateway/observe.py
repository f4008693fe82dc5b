"""Around every request: its ids, the answer to its errors, its metrics, its log line."""

import asyncio
import logging
from time import perf_counter

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stack.gateway.call import UNKNOWN, Call
from stack.gateway.config import GatewayConfig
from stack.gateway.errors import CallerLeft, GatewayError, InternalError, Refused, ShuttingDown
from stack.gateway.sse import error_event
from stack.telemetry.ids import current_ids, ids_from_headers
from stack.telemetry.metrics import GatewayMetrics

log = logging.getLogger(__name__)

ROUTES = frozenset(
    {"/v1/chat/completions", "/v1/models", "/v1/prompts/render", "/v1/ask", "/v1/search", "/v1/moderations"}
)
# Asked every second by machines: counting and logging them would bury the callers' requests.
_UNOBSERVED = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json"})


class Observe:
    """ASGI middleware. Below it a request's Call is `request.state.call`, and GatewayErrors may be raised."""

    def __init__(self, app: ASGIApp, config: GatewayConfig, metrics: GatewayMetrics) -> None:
        self._app = app
        self._prompts_in_logs = config.telemetry.prompts_in_logs
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        ids = ids_from_headers(headers.get("x-request-id"), headers.get("traceparent"))
        path = scope["path"]
        call = Call(ids, route=path if path in ROUTES else UNKNOWN)
        scope.setdefault("state", {})["call"] = call
        answer = Answer(send, call)
        token = current_ids.set(ids)
        try:
            error = await self._run(scope, receive, answer)
            if path not in _UNOBSERVED:
                status = error.status if error else answer.status
                self._count(call, status, error)
                self._log(call, status, error)
        finally:
            current_ids.reset(token)

    async def _run(self, scope: Scope, receive: Receive, answer: "Answer") -> GatewayError | None:
        """Serve the request; the error that it ended with, the caller told of it."""
        error: GatewayError
        try:
            await self._app(scope, receive, answer)
            return None
        except GatewayError as raised:
            error = raised
        except asyncio.CancelledError:
            # The server cancels what is left when it stops; the task ends here in any case.
            error = ShuttingDown("the gateway is shutting down; try again")
        except Exception:
            log.exception("request failed")
            error = InternalError("the gateway failed; its log tells more under this request's X-Request-ID")
        if not isinstance(error, CallerLeft):
            await answer.fail(error)
        return error

    def _count(self, call: Call, status: int, error: GatewayError | None) -> None:
        metrics = self._metrics
        metrics.requests.labels(call.route, call.tenant, call.assistant, str(status)).inc()
        metrics.request_duration.labels(call.route, call.assistant).observe(call.seconds)
        if isinstance(error, Refused):
            metrics.rejections.labels(error.code, call.tenant).inc()
        if call.passed_on is not None:
            outcome = error.code if error else "ok"
            spent = perf_counter() - call.passed_on
            metrics.upstream_duration.labels(call.upstream, call.assistant, outcome).observe(spent)
            metrics.overhead.labels(call.route).observe(call.seconds - call.waited_seconds)
        if call.first_text is not None:
            metrics.time_to_first_token.labels(call.assistant).observe(call.first_text - call.started)
        for direction in ("prompt", "completion"):
            if count := call.usage.get(f"{direction}_tokens"):
                metrics.tokens.labels(call.tenant, call.assistant, direction).inc(count)

    def _log(self, call: Call, status: int, error: GatewayError | None) -> None:
        fields = {
            "route": call.route,
            "tenant": call.tenant,
            "assistant": call.assistant,
            "status": status,
            "error": error and error.code,
            "cause": error and error.__cause__ and type(error.__cause__).__name__,
            "seconds": round(call.seconds, 4),
            "first_text_seconds": call.first_text and round(call.first_text - call.started, 4),
            "prompt_chars": sum(len(message["content"]) for message in call.prompt),
            "prompt_tokens": call.usage.get("prompt_tokens"),
            "completion_tokens": call.usage.get("completion_tokens"),
            "moderation": call.moderation or None,
        }
        if self._prompts_in_logs:
            fields["prompt"] = call.prompt
        log.info("request", extra=fields)


class Answer:
    """Passes an answer on with its request id, and can end it with an error at any point."""

    def __init__(self, send: Send, call: Call) -> None:
        self._send = send
        self._call = call
        self._started = False
        self._complete = False
        self.status = 500

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
            self.status = message["status"]
            call = self._call
            own = [(name.encode(), value.encode()) for name, value in call.headers.items()]
            own.append((b"x-request-id", call.ids.request_id.encode()))
            message["headers"] = [*message.get("headers", ()), *own]
        elif not message.get("more_body", False):
            self._complete = True
        await self._send(message)

    async def fail(self, error: GatewayError) -> None:
        """Tell the caller: by status and body while that is possible, then by the stream's last event."""
        if self._complete:
            return
        if self._started:
            body = error_event(error.body())
        else:
            body = error.body()
            headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await self({"type": "http.response.start", "status": error.status, "headers": raw})
        await self({"type": "http.response.body", "body": body})
