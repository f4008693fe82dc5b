"""What the routes share: the configuration, compiled, and the ways to the services behind the gateway."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import httpx
from starlette.applications import Starlette
from starlette.requests import Request

from stack.gateway.audit import Audit
from stack.gateway.auth import Keys
from stack.gateway.call import Call
from stack.gateway.config import GatewayConfig
from stack.gateway.config.tenants import Tenant
from stack.gateway.config.upstreams import AnswerTimeouts, Moderation, Retrieval, UpstreamName
from stack.gateway.errors import NotReady, TooManyInFlight
from stack.gateway.moderation import Moderator
from stack.gateway.prompts import Prompts
from stack.gateway.quotas import Quota
from stack.gateway.rates import Rates
from stack.gateway.upstream import ENGINE, MODERATION, RETRIEVAL, Kind, Upstream, client
from stack.service.config import Upstream as EngineSettings
from stack.service.readiness import Readiness
from stack.telemetry.metrics import GatewayMetrics


@dataclass(frozen=True)
class Service:
    """One of the services behind the gateway."""

    upstream: Upstream
    client: httpx.AsyncClient
    readiness: Readiness
    timeouts: AnswerTimeouts


class Gateway:
    """Lives as long as the application."""

    def __init__(self, config: GatewayConfig, keys: Keys, audit: Audit, metrics: GatewayMetrics) -> None:
        self.config = config
        self.audit = audit
        self.metrics = metrics
        self.prompts = Prompts(config)
        self._keys = keys
        self._tenants = {tenant.name: tenant for tenant in config.tenants}
        rates = Rates(config.limits_storage_url, metrics.limits_degraded)
        self._quotas = {tenant.name: Quota(tenant, rates, metrics) for tenant in config.tenants}
        self._in_flight = 0
        self.services = {service.upstream.kind.name: service for service in _services(config, metrics)}
        self.moderator: Moderator | None = None
        if config.moderation and (service := self.services.get("moderation")):
            self.moderator = Moderator(config.moderation, service.upstream, service.readiness, metrics)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Asks for the services' readiness while the application runs."""
        gc.collect()
        gc.freeze()  # what the start made stays: to look through it again and again would make callers wait
        with self.audit.writing():
            async with AsyncExitStack() as stack:
                for service in self.services.values():
                    await stack.enter_async_context(service.client)
                watchers = [asyncio.create_task(service.readiness.watch()) for service in self.services.values()]
                try:
                    yield
                finally:
                    for watcher in watchers:
                        watcher.cancel()

    @property
    def reasons(self) -> list[str]:
        """Why chat requests cannot be served."""
        return self.services["llm"].readiness.reasons

    @property
    def degraded(self) -> dict[str, list[str]]:
        """The other services that are not ready, with the reasons."""
        others = {name: service.readiness.reasons for name, service in self.services.items() if name != "llm"}
        return {name: reasons for name, reasons in others.items() if reasons}

    def authenticate(self, request: Request) -> tuple[Call, Tenant]:
        """The request's record, its tenant filled in. Raises InvalidKey."""
        call: Call = request.state.call
        call.tenant = self._keys.tenant_of(request.headers.get("authorization"))
        return call, self._tenants[call.tenant]

    def service(self, name: UpstreamName) -> Service:
        """A service that can be called. Raises NotReady, UpstreamUnavailable."""
        service = self.services[name]
        service.readiness.require(NotReady)
        service.upstream.require()
        return service

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

    def quota(self, tenant: Tenant) -> Quota:
        """What the tenant may use."""
        return self._quotas[tenant.name]

    async def show_quotas(self) -> None:
        """Bring the tenants' gauges up to date."""
        for quota in self._quotas.values():
            await quota.show()


def identity(tenant: Tenant) -> Mapping[str, str]:
    """The headers that tell the services whom they serve. They trust them, so nothing of the caller's is in them."""
    return {"x-tenant": tenant.name, "x-groups": ",".join(tenant.groups)}


def _services(config: GatewayConfig, metrics: GatewayMetrics) -> Iterator[Service]:
    """The services that some tenant's requests can reach."""
    used = config.used_upstreams

    def service(kind: Kind, place: EngineSettings | Retrieval | Moderation, timeouts: AnswerTimeouts) -> Service:
        http = client(config.limits.in_flight, timeouts.connect_seconds)
        upstream = Upstream(kind, str(place.base_url), http, config.calls_of(kind.name), metrics)
        readiness = Readiness(place, http, metrics.upstream_ready.labels(kind.name), kind.code)
        return Service(upstream, http, readiness, timeouts)

    yield service(ENGINE, config.upstream, config.timeouts)
    if config.retrieval and "rag" in used:
        yield service(RETRIEVAL, config.retrieval, config.retrieval.timeouts)
    if config.moderation and "moderation" in used:
        own = config.moderation.timeouts
        timeouts = AnswerTimeouts(connect_seconds=own.connect_seconds, total_seconds=own.total_seconds)
        yield service(MODERATION, config.moderation, timeouts)
