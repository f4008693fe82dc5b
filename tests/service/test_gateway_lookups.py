"""The routes that retrieval and moderation answer."""

import json
import socket
from typing import Any

import httpx
import pytest
from fake_engine import USAGE
from fake_services import CITATIONS, FakeModeration, FakeRetrieval, events_of, failing, text_of
from gateway_process import GatewayProcess, StartGateway, ask, assert_error, wait_until

SEARCH, ASK, MODERATIONS = "/v1/search", "/v1/ask", "/v1/moderations"
BODIES: dict[str, dict[str, Any]] = {
    SEARCH: {"collection": "books", "query": "Is a whale a fish?"},
    ASK: {"collection": "books", "question": "Is a whale a fish?"},
    MODERATIONS: {"input": "Is a whale a fish?"},
}


@pytest.fixture
def asked(fake_retrieval: FakeRetrieval, fake_moderation: FakeModeration) -> dict[str, Any]:
    """The service behind each route."""
    return {SEARCH: fake_retrieval, ASK: fake_retrieval, MODERATIONS: fake_moderation}


def test_a_search_gives_the_passages_of_retrieval(gateway: GatewayProcess, fake_retrieval: FakeRetrieval) -> None:
    response = ask(gateway, BODIES[SEARCH] | {"limit": 5}, SEARCH)
    assert response.status_code == 200
    assert response.json() == {"collection": "books", "results": CITATIONS}
    assert fake_retrieval.bodies == [BODIES[SEARCH] | {"limit": 5, "stages": False}]


def test_an_answer_has_its_citations_whole_and_streamed(gateway: GatewayProcess, fake_retrieval: FakeRetrieval) -> None:
    whole = ask(gateway, BODIES[ASK], ASK).json()
    assert whole["choices"][0]["message"]["content"] == "Whales are mammals [1]."
    assert whole["citations"] == CITATIONS
    streamed = ask(gateway, BODIES[ASK] | {"stream": True}, ASK)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    events = events_of(streamed.text)
    assert events[0]["citations"] == CITATIONS
    assert text_of(events) == "Whales are mammals [1]."
    assert events[-2:] == [{"object": "chat.completion.chunk", "choices": [], "usage": USAGE}, "[DONE]"]
    assert [body["max_tokens"] for body in fake_retrieval.bodies] == [30, 30]


@pytest.mark.parametrize(("wanted", "sent"), [(None, 30), (7, 7), (99, 30)])
def test_an_answer_has_no_more_tokens_than_the_configuration_allows(
    gateway: GatewayProcess, fake_retrieval: FakeRetrieval, wanted: int | None, sent: int
) -> None:
    ask(gateway, BODIES[ASK] | {"max_tokens": wanted}, ASK)
    assert fake_retrieval.bodies[0]["max_tokens"] == sent


def test_moderation_answers_openais_clients(gateway: GatewayProcess, fake_moderation: FakeModeration) -> None:
    answer = ask(gateway, {"input": ["a whale", "a vile thing"], "model": "omni-moderation-latest"}, MODERATIONS)
    assert [result["decision"] for result in answer.json()["results"]] == ["allow", "block"]
    assert fake_moderation.bodies == [{"input": ["a whale", "a vile thing"], "model": "omni-moderation-latest"}]


# ---- who is served


@pytest.mark.parametrize("path", BODIES)
def test_the_services_are_told_the_tenant_by_the_gateway_and_by_nobody_else(
    gateway: GatewayProcess, asked: dict[str, Any], path: str
) -> None:
    forged = {"x-tenant": "other", "x-groups": "admins", "X-GROUPS": "all", "x-request-id": "mine-7", "cookie": "a=b"}
    assert ask(gateway, BODIES[path], path, headers=forged).status_code == 200
    seen = asked[path].headers[-1]
    assert (seen["x-tenant"], seen["x-groups"], seen["x-request-id"]) == ("demo", "readers,staff", "mine-7")
    assert seen["traceparent"]
    assert "authorization" not in seen
    assert "cookie" not in seen


@pytest.mark.parametrize("path", BODIES)
def test_a_tenant_without_the_right_is_refused_before_its_body_is_read(
    gateway: GatewayProcess, asked: dict[str, Any], path: str
) -> None:
    with gateway.client(key=gateway.OTHER_KEY) as client:
        assert_error(client.post(path, content=b"{"), 403, "route_not_allowed", "other")
    with gateway.client(key=None) as client:
        assert_error(client.post(path, json=BODIES[path]), 401, "invalid_api_key")
    assert not asked[path].bodies


@pytest.mark.parametrize("path", [SEARCH, ASK])
def test_a_collection_of_others_and_one_that_does_not_exist_are_the_same(
    gateway: GatewayProcess, fake_retrieval: FakeRetrieval, path: str
) -> None:
    answers = [ask(gateway, BODIES[path] | {"collection": name}, path) for name in ("secrets", "no-such")]
    for answer in answers:
        assert_error(answer, 403, "collection_not_allowed", "may use these collections: books")
    assert answers[0].json() == answers[1].json()
    assert not fake_retrieval.bodies


# ---- what may be asked


@pytest.mark.parametrize(
    ("path", "body", "param", "says"),
    [
        (SEARCH, {"collection": "books"}, "query", "required"),
        (SEARCH, BODIES[SEARCH] | {"query": ""}, "query", "at least 1"),
        (SEARCH, BODIES[SEARCH] | {"query": "  "}, "query", "blank"),
        (SEARCH, BODIES[SEARCH] | {"query": "x" * 101}, "query", "at most 100 are allowed (search.query_chars)"),
        (SEARCH, BODIES[SEARCH] | {"limit": 21}, "limit", "at most 20"),
        (SEARCH, BODIES[SEARCH] | {"limit": 0}, "limit", "greater than or equal to 1"),
        (SEARCH, BODIES[SEARCH] | {"collection": "A b"}, "collection", "expected text that matches"),
        (SEARCH, BODIES[SEARCH] | {"tenant": "other"}, "tenant", "unknown key"),
        (ASK, BODIES[ASK] | {"question": "x" * 101}, "question", "at most 100"),
        (ASK, BODIES[ASK] | {"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        (ASK, BODIES[ASK] | {"groups": ["admins"]}, "groups", "unknown key"),
        (ASK, BODIES[ASK] | {"stream": "yes"}, "stream", "expected true or false"),
        (MODERATIONS, {"input": []}, "input", "at least 1"),
        (MODERATIONS, {"input": ["x" * 400, "y" * 101]}, "input", "has 501 characters, at most 500"),
        (MODERATIONS, {"input": [5]}, "input.0", "expected text"),
        (MODERATIONS, [], None, "expected keys and values"),
    ],
)
def test_a_body_that_the_route_does_not_take_gets_400_that_says_where(
    gateway: GatewayProcess, asked: dict[str, Any], path: str, body: Any, param: str | None, says: str
) -> None:
    response = ask(gateway, body, path)
    assert_error(response, 400, "bad_request", says)
    assert (response.json()["error"]["param"] or "").startswith(param or "")
    assert not asked[path].bodies


@pytest.mark.parametrize("path", BODIES)
def test_a_body_that_is_too_large_is_refused(gateway: GatewayProcess, path: str) -> None:
    assert_error(ask(gateway, b" " * 5000, path), 413, "body_too_large", "4096 bytes")


# ---- what may go wrong


@pytest.mark.parametrize(
    ("upstream", "status", "kind"),
    [(400, 400, "refused"), (413, 400, "refused"), (429, 503, "busy"), (500, 502, "failed"), (503, 503, "busy")],
)
@pytest.mark.parametrize(("path", "code"), [(SEARCH, "retrieval"), (ASK, "retrieval"), (MODERATIONS, "moderation")])
def test_a_services_refusal_keeps_its_meaning(
    gateway: GatewayProcess, asked: dict[str, Any], path: str, code: str, upstream: int, status: int, kind: str
) -> None:
    if path == ASK:
        asked[ASK].answers = [failing(upstream, "out of paper")]
    else:
        asked[path].answers = [failing(upstream, "out of paper")]
    response = ask(gateway, BODIES[path], path)
    assert_error(response, status, f"{code}_{kind}")
    assert ("out of paper" in response.text) == (kind == "refused")


def test_a_stream_that_fails_amid_its_answer_ends_with_an_error_event(
    gateway: GatewayProcess, fake_retrieval: FakeRetrieval
) -> None:
    async def broken(request: Any, body: Any) -> Any:
        from starlette.responses import StreamingResponse

        async def events() -> Any:
            yield b'data: {"choices": [{"delta": {"content": "Whales are mammals. "}}]}\n\n'
            yield b'data: {"error": {"message": "the engine broke off", "type": "x", "param": null, "code": "x"}}\n\n'

        return StreamingResponse(events(), media_type="text/event-stream")

    fake_retrieval.answers = [broken]
    events = events_of(ask(gateway, BODIES[ASK] | {"stream": True}, ASK).text)
    assert events[-1]["error"]["code"] == "retrieval_failed"
    assert "[DONE]" not in events


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_that_leaves_cancels_its_question(
    gateway: GatewayProcess, fake_retrieval: FakeRetrieval, stream: bool
) -> None:
    fake_retrieval.answers = [fake_retrieval.silent]
    body = json.dumps(BODIES[ASK] | {"stream": stream}).encode()
    url = httpx.URL(gateway.url)
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(
            f"POST {ASK} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nX-Request-ID: left-{stream}\r\n"
            f"Authorization: Bearer {gateway.KEY}\r\n\r\n".encode()
            + body
        )
        wait_until(lambda: fake_retrieval.bodies, "retrieval gets the question")
    assert fake_retrieval.was_abandoned()
    assert gateway.log_of(f"left-{stream}")["status"] == 499
    wait_until(lambda: gateway.metric("gateway_tenant_in_flight", tenant="demo") == 0, "its place is free")


def test_retrieval_has_time_limits_of_its_own(start_gateway: StartGateway, fake_retrieval: FakeRetrieval) -> None:
    gateway = start_gateway(retrieval={"timeouts": {"first_token_seconds": 0.3, "total_seconds": 0.6}})
    wait_until(lambda: ask(gateway, BODIES[SEARCH], SEARCH).status_code == 200, "retrieval is ready")
    fake_retrieval.answers = [fake_retrieval.silent] * 2
    assert_error(ask(gateway, BODIES[ASK] | {"stream": True}, ASK), 504, "first_token_timeout", "0.3 s")
    assert_error(ask(gateway, BODIES[SEARCH], SEARCH), 504, "total_timeout", "0.6 s")
    assert fake_retrieval.was_abandoned()


# ---- what can be seen from outside


def test_metrics_and_log_tell_of_each_route(gateway: GatewayProcess, asked: dict[str, Any]) -> None:
    def seen() -> dict[str, float]:
        count = gateway.metric
        return {
            "search": count("gateway_requests_total", route=SEARCH, tenant="demo", status="200"),
            "ask": count("gateway_requests_total", route=ASK, assistant="help-desk", status="200"),
            "moderations": count("gateway_requests_total", route=MODERATIONS, status="200"),
            "first": count("gateway_time_to_first_token_seconds_count", assistant="help-desk"),
            "tokens": count("gateway_tokens_total", assistant="help-desk", direction="prompt"),
            "rag": count("gateway_upstream_duration_seconds_count", upstream="rag", outcome="ok"),
            "own": count("gateway_overhead_seconds_count", route=ASK),
        }

    before = seen()
    for path, body in BODIES.items():
        ask(gateway, body, path)
    ask(gateway, BODIES[ASK] | {"stream": True}, ASK, headers={"x-request-id": "told-1"})
    grown = {name: value - before[name] for name, value in seen().items()}
    assert grown == {"search": 1, "ask": 2, "moderations": 1, "first": 1, "tokens": 42, "rag": 3, "own": 2}
    line = gateway.log_of("told-1")
    assert (line["route"], line["assistant"], line["prompt_tokens"]) == (ASK, "help-desk", 21)
    assert line["moderation"] == {"input": "allow", "output": "allow"}
    assert "whale" not in gateway.log_file.read_text()
