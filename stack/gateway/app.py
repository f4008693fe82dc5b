"""The gateway as an ASGI application: its routes."""

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stack.gateway.audit import Audit
from stack.gateway.auth import Keys
from stack.gateway.completions import CHAT, Completions
from stack.gateway.config import GatewayConfig
from stack.gateway.errors import UnknownRoute, WrongMethod
from stack.gateway.gateway import Gateway
from stack.gateway.lookups import ASK, MODERATIONS, SEARCH, Lookups, may_moderate, may_search
from stack.gateway.observe import Observe
from stack.gateway.openapi import document
from stack.gateway.passing import PassingRoute
from stack.telemetry.metrics import GatewayMetrics


def create_app(config: GatewayConfig, keys: Keys, audit: Audit) -> Starlette:
    """The application; its clients of other services live as long as the application's lifespan."""
    metrics = GatewayMetrics(config.telemetry.latency_buckets)
    gateway = Gateway(config, keys, audit, metrics)
    completions, lookups, machines = Completions(gateway), Lookups(config), _Machines(gateway)
    app = Starlette(
        routes=[
            Route(CHAT, PassingRoute(gateway, "llm", completions.prepare), methods=["POST"]),
            Route(ASK, PassingRoute(gateway, "rag", lookups.ask, may_search), methods=["POST"]),
            Route(SEARCH, PassingRoute(gateway, "rag", lookups.search, may_search), methods=["POST"]),
            Route(
                MODERATIONS, PassingRoute(gateway, "moderation", lookups.moderations, may_moderate), methods=["POST"]
            ),
            Route("/v1/prompts/render", completions.render, methods=["POST"]),
            Route("/v1/models", completions.models),
            Route("/healthz", machines.healthz),
            Route("/readyz", machines.readyz),
            Route("/metrics", machines.exposition),
            Route("/openapi.json", machines.openapi),
        ],
        middleware=[Middleware(Observe, config=config, metrics=metrics)],
        exception_handlers={404: _unknown_route, 405: _wrong_method},
        lifespan=gateway.lifespan,
    )
    app.router.redirect_slashes = False
    return app


class _Machines:
    """The routes for machines: health, metrics, the description of the others."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._document = document(gateway.config)

    async def healthz(self, _: Request) -> Response:
        """200 while the process serves."""
        return JSONResponse({"ok": True})

    async def readyz(self, _: Request) -> Response:
        """200 while chat requests can be served, else 503 with the reasons."""
        reasons = self._gateway.reasons
        told = {"ready": not reasons, "reasons": reasons, "degraded": self._gateway.degraded}
        return JSONResponse(told, status_code=503 if reasons else 200)

    async def exposition(self, _: Request) -> Response:
        """The metrics for Prometheus."""
        await self._gateway.show_quotas()
        return Response(generate_latest(self._gateway.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, _: Request) -> Response:
        """What all routes take and answer."""
        return JSONResponse(self._document)


async def _unknown_route(request: Request, _: Exception) -> Response:
    raise UnknownRoute(f"no such path: {request.url.path[:200]}; see /openapi.json")


async def _wrong_method(request: Request, error: HTTPException) -> Response:
    allowed = (error.headers or {}).get("Allow", "another method")
    raise WrongMethod(f"{request.method} is not for this path; use {allowed}", allowed)
