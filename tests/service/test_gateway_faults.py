"""The gateway when its engine fails, when time runs out, when callers leave or are too many."""

import asyncio
import json
import socket
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine, sse
from gateway_process import (
    CHAT,
    RENDER,
    GatewayProcess,
    StartGateway,
    ask,
    assert_error,
    free_port,
    question,
    wait_until,
)

# ---- the engine's faults


@pytest.mark.parametrize(
    ("engine_status", "status", "code", "says"),
    [
        (400, 400, "engine_refused", "context is 8192 tokens"),
        (404, 502, "engine_failed", "404"),
        (429, 503, "engine_busy", ""),
        (500, 502, "engine_failed", "500"),
        (503, 503, "engine_busy", ""),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_engines_refusal_keeps_its_meaning(
    gateway: GatewayProcess,
    engine: FakeEngine,
    engine_status: int,
    status: int,
    code: str,
    says: str,
    stream: bool,
) -> None:
    engine.behave = engine.refuses(engine_status, "context is 8192 tokens")
    assert_error(ask(gateway, question(stream=stream)), status, code, says)


def events_of(response: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


@pytest.mark.parametrize(
    "end", [b"", b'data: {"choices": [{"delta"', sse({"error": {"message": "CUDA"}}), sse("no json")]
)
def test_a_stream_that_breaks_ends_with_an_error_event(gateway: GatewayProcess, engine: FakeEngine, end: bytes) -> None:
    engine.behave = engine.says("Yes", gate_after=1, end=end)
    with gateway.client() as client, client.stream("POST", CHAT, json=question(stream=True)) as response:
        chunks = response.iter_bytes()
        assert b"assistant" in next(chunks)
        engine.gate.set()
        rest = b"".join(chunks)
    assert response.status_code == 200
    last = json.loads(rest.strip().splitlines()[-1].removeprefix(b"data: "))
    assert last["error"]["code"] == "engine_failed"
    assert b"[DONE]" not in rest


def test_an_engine_that_went_away_is_502_first_and_503_once_noticed(
    start_gateway: StartGateway, engine: FakeEngine
) -> None:
    gateway = start_gateway(upstream={"base_url": f"http://127.0.0.1:{free_port()}"})
    assert_error(ask(gateway), 502, "engine_unreachable", "cannot be reached")
    engine.ready = False
    response = wait_until(
        lambda: (answer := ask(gateway)).status_code == 503 and answer, "the gateway notices the engine"
    )
    assert_error(response, 503, "not_ready", "readyz answered 503")
    assert response.headers["retry-after"] == "1"


def test_readyz_gives_reasons_until_the_engine_is_ready(start_gateway: StartGateway, engine: FakeEngine) -> None:
    engine.ready = False
    gateway = start_gateway(ready=False)
    with gateway.client(key=None) as client:
        reasons = wait_until(
            lambda: [r for r in client.get("/readyz").json()["reasons"] if "503" in r], "a reason with 503"
        )
        assert '{"canary":false}' in reasons[0]
        assert client.get("/readyz").status_code == 503
        assert gateway.metric("gateway_upstream_ready", upstream="llm") == 0
        assert ask(gateway, path=RENDER).status_code == 200
        engine.ready = True
        wait_until(lambda: client.get("/readyz").status_code == 200, "ready")
        assert client.get("/readyz").json() == {"ready": True, "reasons": [], "degraded": {}}
    assert gateway.metric("gateway_upstream_ready", upstream="llm") == 1
    assert ask(gateway).status_code == 200


def test_readyz_says_when_nothing_listens(start_gateway: StartGateway, engine: FakeEngine) -> None:
    url = f"http://127.0.0.1:{free_port()}/readyz"
    gateway = start_gateway(ready=False, upstream={"ready_url": url})
    with gateway.client(key=None) as client:
        expected = [f"engine: nothing listens at {url}"]
        wait_until(lambda: client.get("/readyz").json()["reasons"] == expected, "the reason")


# ---- time limits


@pytest.fixture(scope="module")
def hasty_gateway(start_module_gateway: StartGateway) -> GatewayProcess:
    timeouts = {"body_seconds": 0.5, "first_token_seconds": 0.5, "total_seconds": 1.5}
    return start_module_gateway(timeouts=timeouts)


def test_a_silent_engine_is_a_first_token_timeout(hasty_gateway: GatewayProcess, engine: FakeEngine) -> None:
    engine.behave = engine.is_silent()
    assert_error(ask(hasty_gateway, question(stream=True)), 504, "first_token_timeout", "within 0.5 s")
    assert engine.was_abandoned()


def test_a_role_without_text_is_no_first_token(hasty_gateway: GatewayProcess, engine: FakeEngine) -> None:
    engine.behave = engine.says("Yes", gate_after=0)
    response = ask(hasty_gateway, question(stream=True))
    assert response.status_code == 200
    assert [*events_of(response)[-1]] == ["error"]
    assert events_of(response)[-1]["error"]["code"] == "first_token_timeout"
    assert engine.was_abandoned()


def test_the_total_time_limits_a_stream_and_ends_it_with_an_error_event(
    hasty_gateway: GatewayProcess, engine: FakeEngine
) -> None:
    engine.behave = engine.says("Yes", ", it is", gate_after=1)
    response = ask(hasty_gateway, question(stream=True), headers={"x-request-id": "slow-1"})
    assert response.status_code == 200
    assert events_of(response)[-1]["error"]["code"] == "total_timeout"
    assert engine.was_abandoned()
    assert hasty_gateway.log_of("slow-1")["status"] == 504
    assert hasty_gateway.metric("gateway_requests_total", status="504") >= 1
    assert hasty_gateway.metric("gateway_upstream_duration_seconds_count", outcome="total_timeout") >= 1


def test_an_answer_in_one_piece_has_the_total_time(hasty_gateway: GatewayProcess, engine: FakeEngine) -> None:
    engine.behave = engine.is_silent()
    assert_error(ask(hasty_gateway), 504, "total_timeout", "within 1.5 s")
    assert engine.was_abandoned()


def test_a_body_that_does_not_come_is_408(hasty_gateway: GatewayProcess, engine: FakeEngine) -> None:
    url = httpx.URL(hasty_gateway.url)
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n"
            f"Authorization: Bearer {hasty_gateway.KEY}\r\n\r\n{{".encode()
        )
        answer = b""
        while b"body_timeout" not in answer and (received := connection.recv(65536)):
            answer += received
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body_timeout" in answer


# ---- callers that leave, callers in number


@pytest.mark.parametrize(("behaviour", "stream"), [("silent", False), ("silent", True), ("writing", True)])
def test_a_caller_that_leaves_cancels_its_request_at_the_engine(
    gateway: GatewayProcess, engine: FakeEngine, behaviour: str, stream: bool
) -> None:
    engine.behave = engine.is_silent() if behaviour == "silent" else engine.says("Yes", gate_after=1)
    request_id = f"leaves-{behaviour}-{stream}"
    url = httpx.URL(gateway.url)
    body = json.dumps(question(stream=stream)).encode()
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            f"X-Request-ID: {request_id}\r\nAuthorization: Bearer {gateway.KEY}\r\n\r\n".encode()
            + body
        )
        wait_until(lambda: engine.bodies, "the engine gets the request")
        if behaviour == "writing":
            assert connection.recv(1024)
    assert engine.was_abandoned()
    assert gateway.log_of(request_id)["status"] == 499
    assert gateway.log_of(request_id)["error"] == "caller_left"
    wait_until(lambda: gateway.metric("gateway_in_flight_requests") == 0, "its place is free")


async def stream_many(gateway: GatewayProcess, number: int, engine: FakeEngine) -> list[httpx.Response]:
    """`number` streams at once: the gate opens when as many are in flight as the gateway lets in."""
    limits = httpx.Limits(max_connections=number + 1)
    headers = {"authorization": f"Bearer {gateway.KEY}"}
    async with httpx.AsyncClient(limits=limits, headers=headers, timeout=30, trust_env=False) as client:
        asked = [
            asyncio.create_task(client.post(gateway.url + CHAT, json=question(stream=True))) for _ in range(number)
        ]
        await asyncio.to_thread(wait_until, lambda: engine.gate_visitors == number, "all reach the engine", 30)
        in_flight = await asyncio.to_thread(gateway.metric, "gateway_in_flight_requests")
        refused = await client.post(gateway.url + CHAT, json=question(stream=True))
        engine.gate.set()
        answers = await asyncio.gather(*asked)
    assert in_flight == number
    assert_error(refused, 429, "too_many_in_flight", str(number))
    assert refused.headers["retry-after"] == "1"
    return answers


async def test_one_more_than_the_limit_is_429_and_a_free_place_is_used_again(
    gateway: GatewayProcess, engine: FakeEngine
) -> None:
    engine.behave = engine.says("Yes", gate_after=1)
    answers = await stream_many(gateway, 4, engine)
    assert all(answer.content.endswith(sse("[DONE]")) for answer in answers)
    assert ask(gateway).status_code == 200
    assert gateway.metric("gateway_rejections_total", reason="too_many_in_flight", tenant="demo") >= 1


async def test_256_streams_run_at_once(start_gateway: StartGateway, engine: FakeEngine) -> None:
    gateway = start_gateway(limits={"in_flight": 256})
    engine.behave = engine.says("Yes", ", it is.", gate_after=1)
    answers = await stream_many(gateway, 256, engine)
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.content.endswith(sse("[DONE]")) for answer in answers)
