"""The way of every request that another service answers: admitted, prepared, checked, passed on, its answer relayed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import httpx
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from stack.gateway.body import read_body
from stack.gateway.call import Call
from stack.gateway.config.routes import ModerationUse
from stack.gateway.config.tenants import Tenant
from stack.gateway.config.upstreams import UpstreamName
from stack.gateway.gateway import Gateway, Service, identity
from stack.gateway.moderation import Stage
from stack.gateway.patience import Patience, patience
from stack.gateway.relay import StreamRelay, relay_whole
from stack.gateway.segments import Segments
from stack.gateway.sse import EventReader

_UNCHECKED = ModerationUse()


@dataclass(frozen=True)
class Passed:
    """A request as it goes to the service."""

    path: str
    content: bytes
    stream: bool = False
    keep_usage: bool = True
    """False: the caller did not ask for the stream's event with the token counts."""
    texts: tuple[str, ...] = ()
    """What the caller wrote, for moderation."""
    moderation: ModerationUse = _UNCHECKED
    prompt_tokens: int = 0
    """Expected, as answer_tokens: so many are reserved."""
    answer_tokens: int = 0
    audited: bool = False


Permit = Callable[[Tenant], None]
"""Raises Refused for a tenant that may not use the route at all."""

Prepare = Callable[[bytes, Call, Tenant], Passed]
"""What becomes of the body of a request. Raises Refused."""


class PassingRoute:
    """A route whose requests go to a service. Bare ASGI: it must see the caller leave while it sends."""

    def __init__(self, gateway: Gateway, service: UpstreamName, prepare: Prepare, permit: Permit | None = None) -> None:
        self._gateway = gateway
        self._service = service
        self._prepare = prepare
        self._permit = permit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        request = Request(scope, receive)
        call, tenant = gateway.authenticate(request)
        if self._permit:
            self._permit(tenant)
        service = gateway.service(self._service)
        quota = gateway.quota(tenant)
        with gateway.slot(), quota.place():
            await quota.request(call)
            passed = self._prepare(await read(request, call, gateway), call, tenant)
            async with quota.tokens(call, passed.prompt_tokens, passed.answer_tokens):
                await _Passage(gateway, service, passed, call, tenant, send).serve(receive)


async def read(request: Request, call: Call, gateway: Gateway) -> bytes:
    """The body of a request, as far as the configuration lets it come. Raises Refused, CallerLeft."""
    config = gateway.config
    with call.waiting():
        return await read_body(request, config.limits.body_bytes, config.timeouts.body_seconds)


class _Passage:
    """One request on its way."""

    def __init__(
        self, gateway: Gateway, service: Service, passed: Passed, call: Call, tenant: Tenant, send: Send
    ) -> None:
        self._gateway = gateway
        self._service = service
        self._passed = passed
        self._call = call
        self._identity = identity(tenant)
        self._send = send

    async def serve(self, receive: Receive) -> None:
        passed, call, upstream = self._passed, self._call, self._service.upstream
        async with patience(self._service.timeouts, passed.stream, receive) as limit:
            if passed.moderation.input == "check":
                await self._check("input", passed.texts)
            if passed.audited:
                self._gateway.audit.record(call)
            call.upstream, call.passed_on = upstream.kind.name, perf_counter()
            async with upstream.post(
                passed.path, passed.content, call, lambda: limit.timed_out, self._identity
            ) as response:
                await self._relay(response, limit)

    async def _relay(self, response: httpx.Response, limit: Patience) -> None:
        passed, call, name = self._passed, self._call, self._service.upstream.kind.name
        checked = passed.moderation.output == "check"
        if not passed.stream:
            await relay_whole(response, name, call, self._check_answer if checked else None, self._send)
            return
        relay = StreamRelay(response, name, EventReader(passed.keep_usage), call, limit, self._send)
        if checked:
            await relay.relay_checked(Segments(self._gateway.config.moderation.segments), self._check_answer)
        else:
            await relay.relay()

    async def _check_answer(self, texts: list[str]) -> None:
        await self._check("output", texts)

    async def _check(self, stage: Stage, texts: Sequence[str]) -> None:
        await self._gateway.moderator.check(stage, texts, self._passed.moderation, self._call, self._identity)
