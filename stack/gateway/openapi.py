"""The OpenAPI document. It stands beside the routes, not above them: a framework that makes it of the routes' types
would parse every body and every answer a second time."""

from dataclasses import dataclass
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from stack.gateway import errors
from stack.gateway.answers import ChatCompletion, Health, Models, Moderations, Ready, Rendered, SearchAnswer
from stack.gateway.chat import ChatRequest
from stack.gateway.config import GatewayConfig
from stack.gateway.questions import AskRequest, ModerationRequest, SearchRequest
from stack.service.errors import ErrorBody, ServiceError, responses

_KEY = (errors.InvalidKey, errors.InternalError, errors.ShuttingDown)
_BODY = (*_KEY, errors.BadRequest, errors.BodyTooSlow, errors.BodyTooLarge)
_PASSED = (
    *_BODY,
    errors.TooManyInFlight, errors.TooManyConcurrent, errors.RateLimitExceeded,
    errors.NotReady, errors.UpstreamUnavailable,
    errors.UpstreamRefused, errors.UpstreamFailed, errors.UpstreamUnreachable, errors.UpstreamBusy, errors.TotalTimeout,
)  # fmt: skip
_ASSISTANT = (errors.UnknownAssistant, errors.AssistantNotAllowed, errors.PromptTooLong)
_COLLECTION = (errors.RouteNotAllowed, errors.CollectionNotAllowed)
_ANSWER = (
    errors.TokenLimitExceeded, errors.FirstTokenTimeout,
    errors.ContentFiltered, errors.ContentUnchecked, errors.UnderReview, errors.ModerationUnavailable,
)  # fmt: skip

_WAITS = frozenset({429, 503})
_RATES = {
    f"x-ratelimit-{what}-{of}": {
        "schema": {"type": "string"},
        "description": f"{told}, where the tenant has such a limit",
    }
    for of in ("requests", "tokens")
    for what, told in (
        ("limit", f"Most {of} a minute"),
        ("remaining", "What is left of them"),
        ("reset", "Time until all are left again"),
    )
}

# With "stream": true. OpenAPI 3.1 has no word for it: by custom the schema is that of each event.
_EVENT = {
    "type": "object",
    "description": "A chat.completion.chunk as JSON, or [DONE] at the end; an error after the first is the last one.",
    "properties": {"data": {"type": "string"}},
    "required": ["data"],
}


@dataclass(frozen=True)
class _Operation:
    method: str
    path: str
    summary: str
    answer: type[BaseModel] | None
    body: type[BaseModel] | None = None
    errors: tuple[type[ServiceError], ...] = ()
    streams: bool = False


_OPERATIONS = (
    _Operation(
        "post", "/v1/chat/completions", "An assistant's answer", ChatCompletion, ChatRequest,
        (*_PASSED, *_ASSISTANT, *_ANSWER), streams=True,
    ),
    _Operation("post", "/v1/prompts/render", "The messages that the engine would get", Rendered, ChatRequest,
               (*_BODY, *_ASSISTANT)),
    _Operation("get", "/v1/models", "The caller's assistants", Models, errors=_KEY),
    _Operation(
        "post", "/v1/ask", "An answer from documents, with citations", ChatCompletion, AskRequest,
        (*_PASSED, *_COLLECTION, *_ANSWER), streams=True,
    ),
    _Operation("post", "/v1/search", "Passages of documents", SearchAnswer, SearchRequest, (*_PASSED, *_COLLECTION)),
    _Operation("post", "/v1/moderations", "What moderation says of texts", Moderations, ModerationRequest,
               (*_PASSED, errors.RouteNotAllowed)),
    _Operation("get", "/healthz", "200 while the process serves", Health),
    _Operation("get", "/readyz", "200 while chat requests can be served, else 503 with the reasons", Ready),
    _Operation("get", "/metrics", "The metrics for Prometheus", None),
    _Operation("get", "/openapi.json", "This document", None),
)  # fmt: skip


def document(config: GatewayConfig) -> dict[str, Any]:
    """The document, of OpenAPI 3.1, with the configured bounds."""
    bodies = {operation.body for operation in _OPERATIONS if operation.body}
    answers = {operation.answer for operation in _OPERATIONS if operation.answer} | {ErrorBody}
    # Bodies as callers may send them, answers as they are sent.
    models = [(model, "validation") for model in bodies] + [(model, "serialization") for model in answers]
    models.sort(key=lambda pair: pair[0].__name__)
    refs, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")
    _bound(schemas["$defs"], config)
    paths: dict[str, Any] = {}
    for operation in _OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Gateway",
            "version": "1",
            "description": "The one door to engine, retrieval and moderation.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "A tenant's API key."}},
        },
    }


def _bound(schemas: dict[str, Any], config: GatewayConfig) -> None:
    def properties(model: type[BaseModel]) -> dict[str, Any]:
        return schemas[model.__name__]["properties"]

    properties(SearchRequest)["query"]["maxLength"] = config.search.query_chars
    properties(SearchRequest)["limit"]["anyOf"][0]["maximum"] = config.search.limit
    properties(AskRequest)["question"]["maxLength"] = config.ask.question_chars


def _described(operation: _Operation, refs: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"summary": operation.summary, "responses": {"200": _success(operation, refs)}}
    if operation.body:
        schema = refs[operation.body, "validation"]
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    for status, told in responses(*operation.errors).items():
        described["responses"][str(status)] = _error(int(status), told["description"], refs)
    if operation.path == "/readyz":
        described["responses"]["503"] = _success(operation, refs) | {"description": "Not ready, with the reasons."}
    if operation.errors:
        described["security"] = [{"key": []}]
    return described


def _success(operation: _Operation, refs: dict[Any, Any]) -> dict[str, Any]:
    if operation.answer:
        content = {"application/json": {"schema": refs[operation.answer, "serialization"]}}
    elif operation.path == "/metrics":
        content = {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": {"type": "object"}}}
    if operation.streams:
        content["text/event-stream"] = {"schema": _EVENT}
    told: dict[str, Any] = {"description": operation.summary, "content": content}
    return told | ({"headers": _RATES} if errors.RateLimitExceeded in operation.errors else {})


def _error(status: int, description: str, refs: dict[Any, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "description": description,
        "content": {"application/json": {"schema": refs[ErrorBody, "serialization"]}},
    }
    if status in _WAITS:
        seconds = {
            "schema": {"type": "integer"},
            "description": "Seconds after which it may work, where waiting helps.",
        }
        told["headers"] = {"retry-after": seconds} | (_RATES if status == 429 else {})
    return told
