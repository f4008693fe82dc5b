"""The moderation service over HTTP: OpenAI's schema, limits, and what it logs and counts."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine
from gateway_process import assert_error, wait_until
from moderation_process import MODERATIONS, ModerationProcess, StartModeration, answers, judgement

from stack.moderation.categories import CATEGORIES

ABUSE = "you stupid idiot, nobody likes you"
KINDNESS = "thank you for the lovely afternoon in the garden"


@pytest.fixture(scope="module")
def site(start_moderation: StartModeration) -> ModerationProcess:
    """A service with a usual band, whose judge is off."""
    return start_moderation(
        band={"low": 0.3, "high": 0.9},
        tier1={"lists": True, "patterns": True},
        tier2={"classifier": {"kind": "linear"}, "attributes": True},
        tier3={"enabled": False},
    )


def test_a_result_has_openais_keys_and_ours(site: ModerationProcess) -> None:
    response = site.post(MODERATIONS, {"input": ABUSE, "model": "omni-moderation-latest"})
    assert response.status_code == 200
    body = response.json()
    assert set(body) == {"id", "model", "results"}
    assert body["id"].startswith("modr-")
    assert body["model"] == "linear", "what judged, not what was asked for"
    (result,) = body["results"]
    for by_category in ("categories", "category_scores", "category_applied_input_types"):
        assert tuple(sorted(result.pop(by_category))) == tuple(sorted(CATEGORIES))
    trace = result.pop("trace_id")
    assert len(trace) == 32
    assert result.pop("score") > 0.9
    assert result == {
        "flagged": True,
        "tier": 2,
        "decision": "block",
        "reason": "the classifier's score is above the band",
        "degraded": False,
        "review_id": None,
        "policy_version": "test-1",
        "cost": {"tiers": [1, 2], "judge_tokens": 0},
    }


def test_openais_own_client_types_take_the_answer(site: ModerationProcess) -> None:
    """Every category is a bool, every score a number, every list of input types says text or is empty."""
    (result,) = site.post(MODERATIONS, {"input": ABUSE}).json()["results"]
    assert [name for name, flagged in result["categories"].items() if flagged] == ["harassment"]
    assert all(type(flagged) is bool for flagged in result["categories"].values())
    assert all(type(score) in (int, float) and 0 <= score <= 1 for score in result["category_scores"].values())
    assert result["category_applied_input_types"]["harassment"] == ["text"]
    assert result["category_applied_input_types"]["violence/graphic"] == [], "nothing here can find it"
    assert result["category_scores"]["harassment"] == result["score"]


def test_a_score_is_told_for_what_is_allowed_too(site: ModerationProcess) -> None:
    result = site.decide(KINDNESS)
    assert (result["flagged"], result["decision"]) == (False, "allow")
    assert not any(result["categories"].values())
    assert 0 < result["category_scores"]["harassment"] == result["score"] < 0.3


def test_several_texts_are_answered_in_their_order(site: ModerationProcess) -> None:
    texts = [KINDNESS, ABUSE, "…", KINDNESS]
    results = site.post(MODERATIONS, {"input": texts}).json()["results"]
    assert [result["decision"] for result in results] == ["allow", "block", "allow", "allow"]
    assert [result["tier"] for result in results] == [2, 2, 1, 2]


def test_obfuscated_abuse_is_seen_through(site: ModerationProcess) -> None:
    hidden = "yоu stuрid idiоt, ｎｏｂｏｄｙ li\u200bkes you"
    assert site.decide(hidden)["decision"] == "block"


def test_an_uncertain_text_waits_for_people_and_is_flagged(start_moderation: StartModeration) -> None:
    service = start_moderation(tier3={"enabled": False})
    result = service.decide(KINDNESS, **{"x-tenant": "reading-desk", "x-request-id": "r-1"})
    assert (result["flagged"], result["decision"], result["tier"]) == (True, "review", "review")
    item = service.get(f"/v1/reviews/{result['review_id']}").json()
    assert (item["text"], item["tenant"], item["request_id"]) == (KINDNESS, "reading-desk", "r-1")
    again = service.decide(KINDNESS, **{"x-tenant": "reading-desk", "x-request-id": "r-1"})
    assert again["review_id"] == result["review_id"]
    (leased,) = service.lease()
    assert service.act(leased, "decision", outcome="allow").status_code == 200
    decided = service.decide(KINDNESS, **{"x-tenant": "reading-desk", "x-request-id": "r-1"})
    assert (decided["decision"], decided["reason"]) == ("allow", "people decided")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "JSON"),
        (b'{"input": "\xff"}', ""),
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": 3}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a"] * 5}, "at most 4"),
        ({"input": "x" * 2001}, "at most 2000"),
        ({"input": ["x", 4]}, "input"),
        ({"input": [{"type": "text", "text": "x"}]}, "input"),
        ({"input": "x", "threshold": 0.1}, "threshold"),
        (b'{"input": "\\ud800"}', "input"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_request_is_refused_with_the_place(site: ModerationProcess, body: Any, says: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with site.client() as client:
        response = client.post(MODERATIONS, content=content, headers={"content-type": "application/json"})
    assert_error(response, 400, "bad_request", says)


def test_a_body_over_the_limit_is_refused(site: ModerationProcess) -> None:
    response = site.post(MODERATIONS, {"input": ["x" * 2000] * 11})
    assert_error(response, 413, "body_too_large")


def test_a_malformed_tenant_is_refused(site: ModerationProcess) -> None:
    with site.client() as client:
        response = client.post(MODERATIONS, json={"input": "x"}, headers={"x-tenant": "Not A Name"})
    assert_error(response, 400, "bad_request", "x-tenant")


def test_more_texts_than_may_be_in_progress_are_refused_and_the_rest_is_served(
    start_moderation: StartModeration, engine: FakeEngine
) -> None:
    service = start_moderation(limits={"in_flight": 4})

    async def behave(request: Any, body: Any) -> Any:
        await engine.passes_the_gate()
        return await answers(judgement(0.1))(request, body)

    engine.behave = behave
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(service.post, MODERATIONS, {"input": ["a", "b"]})
        wait_until(lambda: service.metric("moderation_in_flight_texts") == 2, "two texts are in progress")
        assert_error(service.post(MODERATIONS, {"input": ["c", "d", "e"]}), 429, "too_many_requests", "4 is the limit")
        engine.gate.set()
        assert waiting.result().status_code == 200
    assert service.post(MODERATIONS, {"input": ["a", "b", "c"]}).status_code == 200
    assert service.metric("moderation_in_flight_texts") == 0


def test_texts_are_never_logged_and_decisions_are_counted(spawn_moderation: StartModeration) -> None:
    service = spawn_moderation(tier3={"enabled": False})
    secret = "purple elephants at midnight"
    service.decide(secret, **{"x-request-id": "told"})
    (item,) = service.lease()
    service.act(item, "decision", outcome="block", note="seen purple elephants")
    assert service.post(MODERATIONS, {"input": secret, "x": secret}).status_code == 400
    assert service.log_of("told")["status"] == 200
    assert "elephants" not in service.log_file.read_text()
    assert service.metric("moderation_decisions_total", tier="review", decision="review", policy="test-1") == 1
    assert service.metric("moderation_review_decisions_total", outcome="block") == 1
    assert service.metric("moderation_overturned_total") == 1, "the classifier leant to allow"
    assert service.metric("moderation_tier_seconds_count", tier="2") == 1
    assert service.metric("moderation_queue_wait_seconds_count", priority="normal") == 1


def test_a_health_check_is_answered_and_the_openapi_document_tells_the_limits(site: ModerationProcess) -> None:
    assert site.get("/healthz").json() == {"ok": True}
    schemas = site.get("/openapi.json").json()["components"]["schemas"]
    text, texts = schemas["ModerationRequest"]["properties"]["input"]["oneOf"]
    assert (text["maxLength"], texts["maxItems"], texts["items"]["maxLength"]) == (2000, 4, 2000)


def test_requests_at_the_same_time_are_scored_together(start_moderation: StartModeration) -> None:
    service = start_moderation(band={"low": 0.9, "high": 0.9}, tier2={"classifier": {"kind": "linear"}})
    texts = [f"{KINDNESS}, number {number}" for number in range(200)]

    def ask(part: list[str]) -> None:
        with service.client() as client:
            for start in range(0, len(part), 4):
                response = client.post(MODERATIONS, json={"input": part[start : start + 4]})
                assert response.status_code == 200

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, [texts[start : start + 50] for start in range(0, 200, 50)]))
    calls = service.metric("moderation_batch_texts_count")
    assert service.metric("moderation_batch_texts_sum") == 200
    assert calls <= 100, f"{calls} calls of the classifier for 200 texts"


def test_the_service_answers_health_checks_while_the_classifier_works(start_moderation: StartModeration) -> None:
    """The classifier runs beside the event loop: a long text's score does not hold up who asks for readiness."""
    service = start_moderation(band={"low": 0.9, "high": 0.9}, tier2={"classifier": {"kind": "mean"}})
    with ThreadPoolExecutor(2) as threads:
        busy = [threads.submit(service.post, MODERATIONS, {"input": [KINDNESS * 40] * 4}) for _ in range(20)]
        checks = [httpx.get(service.url + "/readyz", timeout=5, trust_env=False).status_code for _ in range(20)]
        assert {future.result().status_code for future in busy} == {200}
    assert set(checks) == {200}
