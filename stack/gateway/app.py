"""The gateway as an ASGI application: its routes, and what they share."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from stack.gateway.audit import Audit
from stack.gateway.auth import Keys
from stack.gateway.body import read_body
from stack.gateway.call import Call
from stack.gateway.chat import ChatRequest, engine_request, parse_chat_request
from stack.gateway.config import GatewayConfig
from stack.gateway.errors import (
    AssistantNotAllowed,
    NotReady,
    TooManyInFlight,
    UnknownAssistant,
    UnknownRoute,
    WrongMethod,
)
from stack.gateway.observe import Observe
from stack.gateway.patience import patience
from stack.gateway.prompts import Asked, ChatMessages, Prompts
from stack.gateway.relay import relay_stream, relay_whole
from stack.gateway.sse import EventReader
from stack.gateway.upstream import Engine, engine_client
from stack.service.readiness import Readiness
from stack.settings import nearest
from stack.telemetry.metrics import GatewayMetrics


def create_app(config: GatewayConfig, keys: Keys, audit: Audit) -> Starlette:
    """The application; its engine client lives as long as the application's lifespan."""
    metrics = GatewayMetrics(config.telemetry.latency_buckets)
    gateway = Gateway(config, keys, audit, metrics)
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", ChatCompletions(gateway), methods=["POST"]),
            Route("/v1/prompts/render", gateway.render, methods=["POST"]),
            Route("/v1/models", gateway.models),
            Route("/healthz", gateway.healthz),
            Route("/readyz", gateway.readyz),
            Route("/metrics", gateway.exposition),
        ],
        middleware=[Middleware(Observe, config=config, metrics=metrics)],
        exception_handlers={404: _unknown_route, 405: _wrong_method},
        lifespan=gateway.lifespan,
    )
    app.router.redirect_slashes = False
    return app


class Gateway:
    """What the routes share: the configuration, compiled, and the way to the engine."""

    def __init__(self, config: GatewayConfig, keys: Keys, audit: Audit, metrics: GatewayMetrics) -> None:
        self.config = config
        self.audit = audit
        self.metrics = metrics
        self._keys = keys
        self._prompts = Prompts(config)
        self._allowed = {tenant.name: frozenset(tenant.assistants) for tenant in config.tenants}
        self._in_flight = 0
        self._client = engine_client(config)
        self.engine = Engine(config.upstream, self._client)
        self.readiness = Readiness(config.upstream, self._client, metrics.upstream_ready)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Asks for the engine's readiness while the application runs."""
        with self.audit.writing():
            async with self._client:
                watcher = asyncio.create_task(self.readiness.watch())
                try:
                    yield
                finally:
                    watcher.cancel()

    def authenticate(self, request: Request) -> Call:
        """The request's record, its tenant filled in. Raises InvalidKey."""
        call: Call = request.state.call
        call.tenant = self._keys.tenant_of(request.headers.get("authorization"))
        return call

    @contextmanager
    def slot(self) -> Iterator[None]:
        """One place among the requests in flight. Raises TooManyInFlight."""
        most = self.config.limits.in_flight
        if self._in_flight >= most:
            raise TooManyInFlight(f"{most} requests are in progress, which is the limit; try again shortly")
        self._in_flight += 1
        self.metrics.in_flight.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            self.metrics.in_flight.set(self._in_flight)

    async def prepare(self, request: Request, call: Call) -> tuple[ChatRequest, ChatMessages]:
        """What the caller asks for, and the messages for the engine. Raises Refused."""
        limits, timeouts = self.config.limits, self.config.timeouts
        with call.waiting():
            body = await read_body(request, limits.body_bytes, timeouts.body_seconds)
        chat = parse_chat_request(body)
        self._admit(chat.model, call)
        asked = Asked(
            question=chat.question,
            history=chat.history,
            metadata=chat.metadata or {},
            tenant=call.tenant,
            request_id=call.ids.request_id,
            received_at=call.received_at,
        )
        call.prompt = self._prompts.render(chat.model, asked)
        return chat, call.prompt

    def _admit(self, assistant: str, call: Call) -> None:
        allowed = self._allowed[call.tenant]
        if assistant not in self.config.assistants:
            raise UnknownAssistant(f"unknown assistant '{assistant}'; {nearest(assistant, allowed)}", "model")
        call.assistant = assistant
        if assistant not in allowed:
            raise AssistantNotAllowed(f"tenant {call.tenant} may not use the assistant '{assistant}'", "model")

    async def render(self, request: Request) -> Response:
        """The messages that the engine would get, without asking it."""
        call = self.authenticate(request)
        _, messages = await self.prepare(request, call)
        return JSONResponse({"messages": messages, "request_id": call.ids.request_id})

    async def models(self, request: Request) -> Response:
        """The caller's assistants, as OpenAI lists models."""
        call = self.authenticate(request)
        listed = [
            {"id": name, "object": "model", "created": 0, "owned_by": "gateway"}
            for name in sorted(self._allowed[call.tenant])
        ]
        return JSONResponse({"object": "list", "data": listed})

    async def healthz(self, _: Request) -> Response:
        """200 while the process serves."""
        return JSONResponse({"ok": True})

    async def readyz(self, _: Request) -> Response:
        """200 while chat requests can be served, else 503 with the reasons."""
        reasons = self.readiness.reasons
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    async def exposition(self, _: Request) -> Response:
        """The metrics for Prometheus."""
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)


class ChatCompletions:
    """`POST /v1/chat/completions`. Bare ASGI: it must see the caller leave while it sends."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        request = Request(scope, receive)
        call = gateway.authenticate(request)
        gateway.readiness.require(NotReady)
        with gateway.slot():
            chat, messages = await gateway.prepare(request, call)
            gateway.audit.record(call)
            body = engine_request(gateway.config, chat, messages)
            stream = bool(chat.stream)
            async with (
                patience(gateway.config.timeouts, stream, receive) as limit,
                gateway.engine.answer(body, call) as response,
            ):
                if stream:
                    await relay_stream(response, EventReader(chat.wants_usage), call, limit, send)
                else:
                    await relay_whole(response, call, send)


async def _unknown_route(request: Request, _: Exception) -> Response:
    raise UnknownRoute(f"no such path: {request.url.path[:200]}; see /v1/models and /v1/chat/completions")


async def _wrong_method(request: Request, error: HTTPException) -> Response:
    allowed = (error.headers or {}).get("Allow", "another method")
    raise WrongMethod(f"{request.method} is not for this path; use {allowed}")
