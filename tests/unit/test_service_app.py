"""What all services share: one shape of errors, ids, limits, health, metrics and an OpenAPI document that says so."""

from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Histogram
from pydantic import BaseModel, Field

from stack.service.app import create_service
from stack.service.errors import TooMany, responses


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("x_requests", "x", ["route", "status"], registry=self.registry)
        self.request_seconds = Histogram("x_request_seconds", "x", ["route"], registry=self.registry)


class Thing(BaseModel):
    size: Annotated[int, Field(ge=1)]


@pytest.fixture
def reasons() -> list[str]:
    return []


@pytest.fixture
def app(reasons: list[str]) -> FastAPI:
    metrics = Metrics()
    app = create_service(
        title="x", version="1", body_bytes=100, metrics=metrics, registry=metrics.registry, ready=lambda: reasons
    )

    @app.post("/v1/things/{name}", responses=responses(TooMany))
    async def make(name: str, thing: Thing) -> Thing:
        if thing.size == 7:
            raise TooMany("no more of them")
        if thing.size == 8:
            raise RuntimeError("secret")
        return thing

    return app


@pytest.fixture
async def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        yield client


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"size": 0}, 400, "bad_request"),
        ({}, 400, "bad_request"),
        ({"size": 7}, 429, "too_many_requests"),
        ({"size": 8}, 500, "internal_error"),
        ({"size": 1, "more": "x" * 200}, 413, "body_too_large"),
    ],
)
async def test_every_error_has_the_same_shape(client: httpx.AsyncClient, body: dict, status: int, code: str) -> None:
    answer = await client.post("/v1/things/a", json=body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"]


async def test_a_body_without_a_length_is_cut_off_as_it_comes(client: httpx.AsyncClient) -> None:
    async def pieces():
        for _ in range(20):
            yield b" " * 10

    answer = await client.post("/v1/things/a", content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 413


async def test_what_is_wrong_is_named(client: httpx.AsyncClient) -> None:
    error = (await client.post("/v1/things/a", json={"size": "many"})).json()["error"]
    assert error["param"] == "size"
    assert error["message"].startswith("size: ")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/v1/things/a", 405)])
async def test_unknown_paths_and_methods(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == {404: "not_found", 405: "wrong_method"}[status]
    assert status != 405 or answer.headers["allow"] == "POST"


async def test_the_request_id_of_the_caller_is_kept(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/things/a", json={"size": 1}, headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"


async def test_readiness_tells_the_reasons(client: httpx.AsyncClient, reasons: list[str]) -> None:
    assert (await client.get("/readyz")).json() == {"ready": True, "reasons": [], "final": False}
    reasons.append("no index yet")
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["no index yet"])
    assert answer.json()["final"] is False, "no service says so by itself"


async def test_requests_are_counted_by_the_routes_template(client: httpx.AsyncClient) -> None:
    await client.post("/v1/things/a", json={"size": 1})
    await client.post("/v1/things/b", json={"size": 0})
    await client.get("/nowhere/at/all")
    text = (await client.get("/metrics")).text
    assert 'x_requests_total{route="/v1/things/{name}",status="200"} 1.0' in text
    assert 'x_requests_total{route="/v1/things/{name}",status="400"} 1.0' in text
    assert 'x_requests_total{route="unknown",status="404"} 1.0' in text
    assert "/metrics" not in text


async def test_the_openapi_document_tells_of_400_and_never_of_422(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    told = document["paths"]["/v1/things/{name}"]["post"]["responses"]
    assert {"200", "400", "413", "429", "500"} <= set(told)
    assert "422" not in told
    assert "ErrorBody" in document["components"]["schemas"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
