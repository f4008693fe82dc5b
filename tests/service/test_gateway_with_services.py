"""The gateway in front of the real retrieval and moderation services: all that is faked is the engine."""

from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine
from fake_services import events_of, text_of
from gateway_process import GatewayProcess, StartGateway, ask, assert_error, wait_until
from moderation_process import StartModeration
from rag_process import RagProcess

ASK, SEARCH, MODERATIONS = "/v1/ask", "/v1/search", "/v1/moderations"
ABUSE = "you stupid idiot, nobody likes you"
ALARM = {"collection": "books", "question": "How is the alarm of the branch switched off?"}


@pytest.fixture(scope="module")
def site(
    start_module_gateway: StartGateway, start_moderation: StartModeration, shared_rag: RagProcess
) -> GatewayProcess:
    """A gateway with two tenants; documents of the tenant riverside are for the second one."""
    moderation = start_moderation(
        band={"low": 0.3, "high": 0.9},
        tier1={"lists": True, "patterns": True},
        tier2={"classifier": {"kind": "linear"}, "attributes": True},
        tier3={"enabled": False},
    )
    gateway = start_module_gateway(
        retrieval={"base_url": shared_rag.url},
        moderation={"base_url": moderation.url, "timeouts": {"total_seconds": 5}, "pieces": 4},
        tenants=[
            {"name": "demo", "assistants": ["guarded"], "collections": ["books"], "moderations": True},
            {"name": "other", "assistants": [], "collections": ["books"]},
        ],
    )
    ready = f"{gateway.url}/readyz"
    wait_until(lambda: httpx.get(ready, trust_env=False).json()["degraded"] == {}, "all services are ready")
    return gateway


def found(site: GatewayProcess, query: str, **headers: str) -> list[str]:
    response = ask(site, {"collection": "books", "query": query}, SEARCH, headers=headers)
    assert response.status_code == 200, response.text
    return [result["document"] for result in response.json()["results"]]


def test_a_search_finds_what_the_tenant_may_see_whatever_the_caller_claims_to_be(site: GatewayProcess) -> None:
    assert found(site, "What are the cats called?")[0] == "cats"
    forged = {"x-tenant": "riverside", "x-groups": "board,operators"}
    assert "alarm" not in found(site, "alarm code of the branch", **forged)
    assert "budget" not in found(site, "budget of the board", **forged)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_comes_from_passages_and_cites_them(site: GatewayProcess, engine: FakeEngine, stream: bool) -> None:
    engine.behave = engine.says("The cats are called ", "Comma and ", "Full Stop [1].")
    body = {"collection": "books", "question": "What are the cats called?", "stream": stream}
    response = ask(site, body, ASK)
    assert response.status_code == 200, response.text
    if stream:
        events = events_of(response.text)
        citations, text = events[0]["citations"], text_of(events)
        assert events[-1] == "[DONE]"
    else:
        citations, text = response.json()["citations"], response.json()["choices"][0]["message"]["content"]
    assert text == "The cats are called Comma and Full Stop [1]."
    assert citations[0]["document"] == "cats"
    assert "Full Stop" in engine.bodies[-1]["messages"][-1]["content"]


def test_abuse_is_stopped_on_its_way_in_and_on_its_way_out(site: GatewayProcess, engine: FakeEngine) -> None:
    assert_error(ask(site, ALARM | {"question": ABUSE}, ASK), 400, "content_filter", "the request")
    assert not engine.bodies
    engine.behave = engine.says("The alarm is beside the door of the reading room. ", ABUSE, ". And so on.")
    assert_error(ask(site, ALARM, ASK), 400, "content_filter", "the answer")
    events = events_of(ask(site, ALARM | {"stream": True}, ASK).text)
    assert text_of(events) == "The alarm is beside the door of the reading room. "
    assert events[-1]["error"]["code"] == "content_filter"


def test_moderation_answers_through_the_gateway(site: GatewayProcess) -> None:
    answer: Any = ask(site, {"input": [ABUSE, "thank you for the lovely afternoon in the garden"]}, MODERATIONS)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["decision"] for result in results] == ["block", "allow"]
    assert {result["policy_version"] for result in results} == {"test-1"}


def test_a_collection_that_retrieval_does_not_have_is_a_refusal(
    start_gateway: StartGateway, shared_rag: RagProcess
) -> None:
    tenants = [{"name": "demo", "assistants": [], "collections": ["no-such"]}]
    gateway = start_gateway(retrieval={"base_url": shared_rag.url}, tenants=tenants)
    wait_until(lambda: gateway.metric("gateway_upstream_ready", upstream="rag") == 1, "retrieval is ready")
    assert_error(ask(gateway, {"collection": "no-such", "query": "x"}, SEARCH), 400, "retrieval_refused", "no-such")
