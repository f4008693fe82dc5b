"""The retrieval service does what its OpenAPI document says, whatever it is asked, allowed or forbidden there."""

import json
from pathlib import Path
from typing import Any

import pytest
from gateway_process import wait_until
from openapi_document import schemathesis
from rag_process import ALL_BOOKS, RagProcess, StartRag

EXAMPLES = 25  # for each operation and phase


@pytest.fixture(scope="module")
def roomy_rag(start_rag: StartRag) -> RagProcess:
    """A service whose limits do not get in one another's way."""
    rag = start_rag(limits={"asks": 64, "body_bytes": 4_000_000}, answerer={"context_tokens": 4096})
    rag.write(*ALL_BOOKS)
    rag.build("blue")
    wait_until(lambda: rag.metric("rag_engine_ready") == 1, "the engine is ready")
    return rag


def document(rag: RagProcess) -> dict[str, Any]:
    return rag.send("GET", "/openapi.json").json()


def document_for(rag: RagProcess, folder: Path) -> Path:
    """The document with a collection that exists, which it tells nobody: without it all would end at 404."""
    told = document(rag)
    for name in ("SearchRequest", "AskRequest"):
        told["components"]["schemas"][name]["properties"]["collection"]["enum"] = ["books", "no-such"]
    for operations in told["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] == "name":
                    parameter["schema"]["enum"] = ["books", "no-such"]
    file = folder / "openapi.json"
    file.write_text(json.dumps(told))
    return file


def check(rag: RagProcess, folder: Path, *arguments: str) -> str:
    how = ["--url", rag.url, "--header", "X-Tenant: riverside", "--header", "X-Groups: operators"]
    how += ["--max-examples", str(EXAMPLES), "--checks", "all", "--phases", "coverage,fuzzing", *arguments]
    return schemathesis(document_for(rag, folder), folder, *how, seconds=240)


@pytest.mark.usefixtures("engine")
def test_no_server_error_and_no_undocumented_answer(roomy_rag: RagProcess, tmp_path: Path) -> None:
    # That a batch must not hold a document twice, or be whose documents it may hold, no schema can say.
    told = check(roomy_rag, tmp_path, "--exclude-checks", "positive_data_acceptance")
    assert "Tested: 10" in told, told[-2000:]
    for route in ("/v1/search", "/v1/ask", "/v1/collections", "/v1/collections/{name}/documents"):
        assert roomy_rag.metric("rag_requests_total", route=route, status="200") > 0, route
    assert roomy_rag.metric("rag_requests_total", status="500") == 0


@pytest.mark.usefixtures("engine")
def test_what_the_document_allows_is_served(roomy_rag: RagProcess, tmp_path: Path) -> None:
    routes = [argument for path in ("/v1/search", "/v1/ask") for argument in ("--include-path", path)]
    assert "Tested: 2" in check(roomy_rag, tmp_path, *routes)


def test_the_document_tells_every_route_its_bounds_and_its_errors(rag: RagProcess) -> None:
    told = document(rag)
    assert set(told["paths"]) == {
        "/healthz", "/readyz", "/metrics", "/v1/search", "/v1/ask", "/v1/collections",
        "/v1/collections/{name}/documents", "/v1/collections/{name}/documents/{document}",
        "/v1/collections/{name}/indexes/{slot}", "/v1/collections/{name}/active",
    }  # fmt: skip
    schemas = told["components"]["schemas"]
    assert schemas["SearchRequest"]["properties"]["query"]["maxLength"] == 300
    assert schemas["SearchRequest"]["properties"]["limit"]["anyOf"][0]["maximum"] == 10
    ask = told["paths"]["/v1/ask"]["post"]["responses"]
    assert set(ask) == {"200", "400", "401", "404", "413", "429", "500", "502", "503", "504"}
    assert set(ask["200"]["content"]) == {"application/json", "text/event-stream"}
    headers = {parameter["name"] for parameter in told["paths"]["/v1/search"]["post"]["parameters"]}
    assert headers == {"x-tenant", "x-groups"}
