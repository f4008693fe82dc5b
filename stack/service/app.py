"""A service as a FastAPI application with what all services have: errors of one shape, health, metrics, OpenAPI."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import Scope

from stack.service.errors import (
    BadRequest,
    BodyTooLarge,
    ErrorBody,
    InternalError,
    NotFound,
    ServiceError,
    WrongMethod,
    responses,
)
from stack.service.observe import UNKNOWN, Observe, RequestMetrics

_EVERYWHERE = responses(BadRequest, BodyTooLarge, InternalError)


class Health(BaseModel):
    ok: bool


class Ready(BaseModel):
    ready: bool
    reasons: list[str]
    final: bool
    """Waiting will not make it ready: something has to be changed first."""


def create_service(
    *,
    title: str,
    version: str,
    body_bytes: int,
    metrics: RequestMetrics,
    registry: CollectorRegistry,
    ready: Callable[[], list[str]],
    final: Callable[[], bool] = lambda: False,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """An application to which a service adds its routes.

    `ready` gives the reasons why the service cannot serve, none when it can; `final` tells whether to wait for it is
    in vain. Routes raise ServiceErrors, which are
    answered in OpenAI's shape; what a request lacks is answered by 400, not by FastAPI's 422.
    """
    app = FastAPI(
        title=title,
        version=version,
        lifespan=lifespan,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(Observe, metrics=metrics, body_bytes=body_bytes, route_of=_route_of)],
        exception_handlers={
            RequestValidationError: _bad_request,
            ServiceError: _service_error,
            HTTPException: _http_error,
        },
    )
    _add_machine_routes(app, registry, ready, final)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _add_machine_routes(
    app: FastAPI, registry: CollectorRegistry, ready: Callable[[], list[str]], final: Callable[[], bool]
) -> None:
    @app.get("/healthz")
    async def healthz() -> Health:
        """200 while the process serves."""
        return Health(ok=True)

    @app.get("/readyz", responses={503: {"model": Ready, "description": "Not ready, with the reasons."}})
    async def readyz(response: Response) -> Ready:
        """200 while requests can be served, else 503 with the reasons."""
        reasons = ready()
        response.status_code = 503 if reasons else 200
        return Ready(ready=not reasons, reasons=reasons, final=bool(reasons) and final())

    @app.get("/metrics", response_class=PlainTextResponse)
    async def exposition() -> Response:
        """The metrics for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the errors that the middleware and the handlers answer in place of its own 422."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                for status, told in _documented().items():
                    operation["responses"].setdefault(status, told)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schemas.update(_error_schemas())
        app.openapi_schema = document
    return app.openapi_schema


def _documented() -> dict[str, dict[str, Any]]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
    return {
        str(status): {"description": told["description"], "content": content} for status, told in _EVERYWHERE.items()
    }


def _error_schemas() -> dict[str, Any]:
    schema = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "ErrorBody": schema}


def _route_of(scope: Scope) -> str:
    route = scope.get("route")
    return getattr(route, "path", UNKNOWN)


def answer(error: ServiceError) -> Response:
    """An error as the answer to its request."""
    return Response(error.body(), status_code=error.status, headers=error.headers, media_type="application/json")


async def _service_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return answer(error)


async def _bad_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"] if part != "body")
    message = first["msg"].removeprefix("Value error, ")
    return answer(BadRequest(f"{path}: {message}" if path else f"the body: {message}", param=path or None))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return answer(NotFound(f"no such path: {request.url.path[:200]}; see /openapi.json"))
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        refusal = answer(WrongMethod(f"{request.method} is not for this path; use {allowed}"))
        refusal.headers["allow"] = allowed
        return refusal
    if error.status_code < 500:
        return answer(BadRequest(str(error.detail)))
    return JSONResponse({"error": {"message": str(error.detail), "type": "server_error", "param": None,
                                   "code": "internal_error"}}, status_code=error.status_code)  # fmt: skip
