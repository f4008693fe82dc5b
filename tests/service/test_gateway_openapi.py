"""The gateway does what its OpenAPI document says, whatever it is asked, allowed or forbidden there."""

import json
from pathlib import Path

import httpx
import pytest
from gateway_process import GatewayProcess, StartGateway, question, wait_until
from openapi_document import schemathesis

EXAMPLES = 25  # for each operation and phase


@pytest.fixture(scope="module")
def roomy_gateway(start_module_gateway: StartGateway) -> GatewayProcess:
    """One whose limits of size do not get in the way of the others."""
    gateway = start_module_gateway(limits={"body_bytes": 200_000, "prompt_chars": 100_000})
    wait_until(
        lambda: httpx.get(f"{gateway.url}/readyz", trust_env=False).json()["degraded"] == {}, "all services are ready"
    )
    return gateway


def document_for(gateway: GatewayProcess, folder: Path) -> Path:
    """The document with names that exist, which it tells nobody: without them most requests would end at 403 or 404."""
    document = httpx.get(f"{gateway.url}/openapi.json", trust_env=False).json()
    schemas = document["components"]["schemas"]
    schemas["ChatRequest"]["properties"]["model"]["enum"] = ["desk", "guarded", "other-desk", "no-such-desk"]
    for name in ("SearchRequest", "AskRequest"):
        schemas[name]["properties"]["collection"]["enum"] = ["books", "secrets"]
    for path in ("/v1/chat/completions", "/v1/prompts/render"):
        asked = [
            question() | {"model": model, "stream": stream} for model in ("desk", "guarded") for stream in (False, True)
        ]
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        body["examples"] = {str(number): {"value": one} for number, one in enumerate(asked)}
    file = folder / "openapi.json"
    file.write_text(json.dumps(document))
    return file


def check(gateway: GatewayProcess, folder: Path, *arguments: str) -> str:
    how = ["--url", gateway.url, "--header", f"Authorization: Bearer {gateway.KEY}", "--checks", "all"]
    how += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), *arguments]
    return schemathesis(document_for(gateway, folder), folder, *how)


@pytest.mark.usefixtures("engine", "fake_retrieval", "fake_moderation")
def test_no_server_error_and_no_undocumented_answer(roomy_gateway: GatewayProcess, tmp_path: Path) -> None:
    # What a conversation must end with, and how long all texts together may be, no schema can say.
    told = check(roomy_gateway, tmp_path, "--exclude-checks", "positive_data_acceptance")
    assert "Tested: 10" in told, told[-2000:]
    for route in (
        "/v1/chat/completions",
        "/v1/prompts/render",
        "/v1/models",
        "/v1/ask",
        "/v1/search",
        "/v1/moderations",
    ):
        assert roomy_gateway.metric("gateway_requests_total", route=route, status="200") > 0
    assert roomy_gateway.metric("gateway_requests_total", status="500") == 0


@pytest.mark.usefixtures("fake_retrieval", "fake_moderation")
def test_what_the_document_allows_is_served(roomy_gateway: GatewayProcess, tmp_path: Path) -> None:
    routes = [argument for path in ("/v1/search", "/v1/ask") for argument in ("--include-path", path)]
    assert "Tested: 2" in check(roomy_gateway, tmp_path, *routes)


def test_the_document_tells_every_route_its_bounds_and_its_errors(gateway: GatewayProcess) -> None:
    document = httpx.get(f"{gateway.url}/openapi.json", trust_env=False).json()
    assert set(document["paths"]) == {
        "/v1/chat/completions", "/v1/prompts/render", "/v1/models", "/v1/ask", "/v1/search", "/v1/moderations",
        "/healthz", "/readyz", "/metrics", "/openapi.json",
    }  # fmt: skip
    schemas = document["components"]["schemas"]
    assert schemas["SearchRequest"]["properties"]["query"]["maxLength"] == 100
    assert schemas["AskRequest"]["additionalProperties"] is False
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert set(chat["responses"]) == {
        "200", "400", "401", "403", "404", "408", "413", "429", "500", "502", "503", "504",
    }  # fmt: skip
    assert set(chat["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert "retry-after" in chat["responses"]["429"]["headers"]
    assert chat["security"] == [{"key": []}]
    assert "security" not in document["paths"]["/healthz"]["get"]
