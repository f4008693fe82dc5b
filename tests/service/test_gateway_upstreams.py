"""The services behind the gateway: which are watched, when calls are repeated, when they are not even tried."""

import time
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine
from fake_services import FakeModeration, FakeRetrieval, failing
from gateway_process import (
    CHAT,
    GatewayProcess,
    StartGateway,
    ask,
    assert_error,
    free_port,
    question,
    wait_until,
)

SEARCH = {"collection": "books", "query": "whales"}


def search(gateway: GatewayProcess, **options: Any) -> httpx.Response:
    return ask(gateway, SEARCH, "/v1/search", **options)


def readyz(gateway: GatewayProcess) -> tuple[int, dict[str, Any]]:
    response = httpx.get(f"{gateway.url}/readyz", trust_env=False)
    return response.status_code, response.json()


# ---- readiness


def test_another_service_that_is_not_ready_degrades_the_gateway_and_refuses_what_needs_it(
    gateway: GatewayProcess, fake_retrieval: FakeRetrieval
) -> None:
    fake_retrieval.ready = False
    wait_until(lambda: readyz(gateway)[1]["degraded"], "the gateway notices")
    status, told = readyz(gateway)
    assert (status, told["ready"], told["reasons"]) == (200, True, [])
    assert list(told["degraded"]) == ["rag"]
    assert "readyz answered 503" in told["degraded"]["rag"][0]
    assert gateway.metric("gateway_upstream_ready", upstream="rag") == 0
    assert gateway.metric("gateway_upstream_ready", upstream="llm") == 1
    assert_error(search(gateway), 503, "not_ready", "retrieval: ")
    assert ask(gateway).status_code == 200


def test_what_no_tenant_can_reach_is_neither_watched_nor_missed(
    start_gateway: StartGateway, engine: FakeEngine
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    tenants = [{"name": "demo", "assistants": ["desk"]}]
    gateway = start_gateway(tenants=tenants, retrieval={"base_url": nowhere}, moderation={"base_url": nowhere})
    assert readyz(gateway) == (200, {"ready": True, "reasons": [], "degraded": {}})
    text = httpx.get(f"{gateway.url}/metrics", trust_env=False).text
    assert 'gateway_upstream_ready{upstream="llm"} 1.0' in text
    assert 'upstream="rag"' not in text
    assert 'upstream="moderation"' not in text
    assert_error(search(gateway), 403, "route_not_allowed")


# ---- repetitions


@pytest.fixture(scope="module")
def patient_gateway(start_module_gateway: StartGateway) -> GatewayProcess:
    """Repeats calls of retrieval up to twice, as long as no more than half of its requests are repetitions."""
    retries = {"most": 2, "budget_share": 0.5, "budget_seconds": 1, "backoff_seconds": 0.01}
    circuit = {"failures": 1000}
    return start_module_gateway(calls={"rag": {"retries": retries, "circuit": circuit}, "llm": {"circuit": circuit}})


def retried(gateway: GatewayProcess, outcome: str, upstream: str = "rag") -> float:
    return gateway.metric("gateway_retries_total", upstream=upstream, outcome=outcome)


@pytest.mark.parametrize("status", [502, 503])
def test_a_call_that_was_turned_away_is_repeated_and_the_caller_sees_nothing_of_it(
    patient_gateway: GatewayProcess, fake_retrieval: FakeRetrieval, status: int
) -> None:
    time.sleep(1.1)  # until the budget has forgotten the tests before
    before = retried(patient_gateway, "succeeded")
    fake_retrieval.answers = [failing(status)]
    assert search(patient_gateway).status_code == 200
    assert fake_retrieval.bodies[0] == fake_retrieval.bodies[1]
    assert len({headers["x-request-id"] for headers in fake_retrieval.headers}) == 1
    assert retried(patient_gateway, "succeeded") == before + 1


@pytest.mark.parametrize("status", [400, 404, 429, 500, 504])
def test_other_answers_are_not_repeated(
    patient_gateway: GatewayProcess, fake_retrieval: FakeRetrieval, status: int
) -> None:
    fake_retrieval.answers = [failing(status)] * 3
    assert search(patient_gateway).status_code in (400, 502, 503)
    assert len(fake_retrieval.bodies) == 1


def test_repetitions_end_with_the_budget(patient_gateway: GatewayProcess, fake_retrieval: FakeRetrieval) -> None:
    time.sleep(1.1)
    without_budget = retried(patient_gateway, "no_budget")
    fake_retrieval.answers = [failing(503)] * 100
    for _ in range(20):
        assert search(patient_gateway).status_code == 503
    repetitions = len(fake_retrieval.bodies) - 20
    assert 1 <= repetitions <= 20, "each would have been repeated twice"
    assert retried(patient_gateway, "no_budget") > without_budget


def test_a_service_that_cannot_be_reached_is_tried_again(
    start_gateway: StartGateway, engine: FakeEngine, fake_retrieval: FakeRetrieval
) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    gateway = start_gateway(
        upstream={"base_url": gone}, calls={"llm": {"retries": {"most": 1}, "circuit": {"failures": 1000}}}
    )
    assert_error(ask(gateway), 502, "engine_unreachable")
    assert retried(gateway, "failed", "llm") == 1


def test_the_engine_is_asked_once_unless_the_configuration_says_otherwise(
    gateway: GatewayProcess, engine: FakeEngine
) -> None:
    engine.behave = engine.refuses(503, "full")
    assert_error(ask(gateway), 503, "engine_busy")
    assert len(engine.bodies) == 1


def test_an_answer_that_broke_after_it_had_begun_is_never_repeated(
    start_gateway: StartGateway, engine: FakeEngine
) -> None:
    gateway = start_gateway(calls={"llm": {"retries": {"most": 3}}})
    engine.behave = engine.says("Yes", end=b"")
    assert "engine_failed" in ask(gateway, question(stream=True)).text
    assert len(engine.bodies) == 1


# ---- circuit


def test_after_failures_in_a_row_nothing_is_sent_until_a_try_succeeds(
    start_gateway: StartGateway, engine: FakeEngine
) -> None:
    gateway = start_gateway(calls={"llm": {"circuit": {"failures": 3, "open_seconds": 1}}})
    engine.behave = engine.refuses(500, "no")
    for _ in range(3):
        assert_error(ask(gateway), 502, "engine_failed")
    opened = time.monotonic()
    refused = ask(gateway, question(stream=True))
    assert_error(refused, 503, "upstream_unavailable", "the engine failed several times in a row")
    assert refused.headers["retry-after"] == "1"
    assert len(engine.bodies) == 3
    assert gateway.metric("gateway_circuit_state", upstream="llm") == 2
    assert gateway.metric("gateway_rejections_total", reason="upstream_unavailable") >= 1
    engine.behave = engine.says("Yes")
    wait_until(lambda: ask(gateway).status_code == 200, "the circuit closes")
    assert time.monotonic() - opened >= 0.9
    assert gateway.metric("gateway_circuit_state", upstream="llm") == 0
    changes = [line["state"] for line in gateway.log() if line["message"] == "circuit changed"]
    assert changes == ["opened", "half-opened", "closed"]


def test_time_outs_open_it_and_a_slow_caller_does_not(start_gateway: StartGateway, engine: FakeEngine) -> None:
    gateway = start_gateway(
        timeouts={"first_token_seconds": 0.2, "total_seconds": 0.4}, calls={"llm": {"circuit": {"failures": 2}}}
    )
    engine.behave = engine.is_silent()
    assert_error(ask(gateway, question(stream=True)), 504, "first_token_timeout")
    assert_error(ask(gateway), 504, "total_timeout")
    assert_error(ask(gateway), 503, "upstream_unavailable")


def test_mistakes_of_callers_never_open_it(start_gateway: StartGateway, engine: FakeEngine) -> None:
    gateway = start_gateway(calls={"llm": {"circuit": {"failures": 2}}})
    for status, code in ((400, "engine_refused"), (429, "engine_busy"), (503, "engine_busy")):
        engine.behave = engine.refuses(status, "no")
        for _ in range(4):
            assert ask(gateway).json()["error"]["code"] == code
    assert gateway.metric("gateway_circuit_state", upstream="llm") == 0


def test_each_service_has_a_circuit_of_its_own(
    start_gateway: StartGateway, engine: FakeEngine, fake_retrieval: FakeRetrieval, fake_moderation: FakeModeration
) -> None:
    gateway = start_gateway(calls={"rag": {"circuit": {"failures": 1}}})
    wait_until(lambda: readyz(gateway)[1]["degraded"] == {}, "all are ready")
    fake_retrieval.answers = [failing(500)]
    assert_error(search(gateway), 502, "retrieval_failed", "the retrieval service answered with status 500")
    assert_error(search(gateway), 503, "upstream_unavailable")
    assert ask(gateway, path=CHAT).status_code == 200
