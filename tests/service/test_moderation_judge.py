"""The judge behind the service: what it is asked, and what becomes of texts when it is down, slow, full or confused."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_engine import FakeEngine
from gateway_process import free_port, wait_until
from moderation_process import JUDGE_TOKENS, ModerationProcess, StartModeration, answers, judgement


@pytest.fixture(scope="module")
def deciding(start_moderation: StartModeration) -> ModerationProcess:
    """A service whose judge decides, with one category for each way to fail."""
    return start_moderation(
        tier3={"mode": "decide", "threshold": 0.5, "timeout_seconds": 0.5, "on_failure": "fail-closed", "queue": 2}
    )


@pytest.fixture(scope="module")
def lenient(start_moderation: StartModeration) -> ModerationProcess:
    return start_moderation(tier3={"mode": "decide", "timeout_seconds": 0.5, "on_failure": "fail-open"})


@pytest.fixture(scope="module")
def careful(start_moderation: StartModeration) -> ModerationProcess:
    return start_moderation(tier3={"mode": "decide", "timeout_seconds": 0.5, "on_failure": "review"})


# ── asked and answered ──


@pytest.mark.parametrize(("yes", "decision"), [(0.2, "allow"), (0.9, "block")])
def test_the_judge_decides_the_band(deciding: ModerationProcess, engine: FakeEngine, yes: float, decision: str) -> None:
    engine.behave = answers(judgement(yes))
    before = deciding.metric("moderation_judge_tokens_total")
    result = deciding.decide("what a day")
    assert (result["tier"], result["decision"], result["degraded"]) == (3, decision, False)
    assert result["score"] == pytest.approx(yes)
    assert result["cost"] == {"tiers": [1, 2, 3], "judge_tokens": JUDGE_TOKENS}
    assert deciding.metric("moderation_judge_tokens_total") == before + JUDGE_TOKENS


def test_the_judge_is_asked_for_one_token_of_the_normalised_text_with_the_requests_ids(
    deciding: ModerationProcess, engine: FakeEngine
) -> None:
    engine.behave = answers(judgement(0.1))
    trace = "0af7651916cd43dd8448eb211c80319c"
    result = deciding.decide(
        "ｗｈａｔ a day", **{"x-request-id": "mine", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    )
    (body,), (request,) = engine.bodies, engine.requests
    assert body["max_tokens"] == 1
    assert body["model"] == "tiny"
    assert "what a day" in body["messages"][-1]["content"]
    assert request.headers["x-request-id"] == "mine"
    assert trace in request.headers["traceparent"]
    assert result["trace_id"] == trace


def test_in_mode_sort_the_judges_score_is_the_order_of_the_queue(
    start_moderation: StartModeration, engine: FakeEngine
) -> None:
    service = start_moderation(review={"ageing_seconds": None})
    for text, yes in [("so so", 0.5), ("bad", 0.9), ("good", 0.1)]:
        engine.behave = answers(judgement(yes))
        assert service.decide(text)["decision"] == "review"
    assert [item["text"] for item in service.lease(limit=3)] == ["bad", "so so", "good"]


# ── no judgement ──

GARBAGE = [
    b"<html>",
    b"[]",
    {},
    {"choices": []},
    {"choices": [{"message": {"content": "yes"}}]},
    {"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "Sure", "logprob": -0.1}]}]}}]},
    {"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "yes", "logprob": "x"}]}]}}]},
    {"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "yes", "logprob": 1e9}]}]}}]},
    {**judgement(0.5), "usage": 3},
    {**judgement(0.5), "usage": {"total_tokens": "many"}},
]


@pytest.mark.parametrize("body", GARBAGE, ids=lambda body: json.dumps(body, default=str)[:60])
def test_an_answer_that_is_no_judgement_is_a_failure(
    deciding: ModerationProcess, engine: FakeEngine, body: Any
) -> None:
    engine.behave = answers(body)
    assert_degraded(deciding, "block", "garbage", "closed")


@pytest.mark.parametrize(("status", "reason"), [(400, "refused"), (404, "refused"), (500, "error"), (503, "error")])
def test_an_engine_that_refuses_or_fails_is_a_failure(
    deciding: ModerationProcess, engine: FakeEngine, status: int, reason: str
) -> None:
    engine.behave = answers({"error": {"message": "no"}}, status)
    assert_degraded(deciding, "block", reason, "closed")


def test_a_judge_that_is_silent_is_given_up_and_told_so(deciding: ModerationProcess, engine: FakeEngine) -> None:
    engine.behave = engine.is_silent()
    assert_degraded(deciding, "block", "timeout", "closed")
    assert engine.was_abandoned()
    assert deciding.metric("moderation_judge_in_flight") == 0


def test_a_judge_that_is_down_is_a_failure_at_once(start_moderation: StartModeration) -> None:
    service = start_moderation(
        tier3={"upstream": f"http://127.0.0.1:{free_port()}", "mode": "decide", "on_failure": "fail-closed"}
    )
    assert_degraded(service, "block", "unreachable", "closed")
    assert service.get("/readyz").status_code == 200, "texts can still be decided"


def test_a_text_too_long_to_be_judged_is_a_failure(start_moderation: StartModeration, engine: FakeEngine) -> None:
    service = start_moderation(tier3={"mode": "decide", "characters": 20, "on_failure": "fail-closed"})
    engine.behave = answers(judgement(0.0))
    assert service.decide("short enough")["decision"] == "allow"
    assert_degraded(service, "block", "too_long", "closed", text="this one is longer than that")


def test_failing_open_allows_and_says_so(lenient: ModerationProcess, engine: FakeEngine) -> None:
    engine.behave = answers(b"", 500)
    assert_degraded(lenient, "allow", "error", "open")


def test_failing_to_review_gives_the_text_to_people_and_says_so(careful: ModerationProcess, engine: FakeEngine) -> None:
    engine.behave = answers(b"", 500)
    result = assert_degraded(careful, "review", "error", "review")
    item = careful.get(f"/v1/reviews/{result['review_id']}").json()
    assert (item["state"], item["degraded"]) == ("open", True)


def test_a_full_wait_queue_refuses_at_once_and_loses_nobody_who_waits(
    start_moderation: StartModeration, engine: FakeEngine
) -> None:
    service = start_moderation(
        tier3={"mode": "decide", "on_failure": "fail-closed", "concurrency": 2, "queue": 3, "timeout_seconds": 20}
    )

    async def behave(request: Any, body: Any) -> Any:
        await engine.passes_the_gate()
        return await answers(judgement(0.0))(request, body)

    engine.behave = behave
    with ThreadPoolExecutor(9) as threads:
        waiting = [threads.submit(service.decide, f"text {n}") for n in range(5)]
        wait_until(lambda: service.metric("moderation_judge_waiting") == 3, "three wait behind two calls")
        assert service.metric("moderation_judge_in_flight") == 2
        assert_degraded(service, "block", "full", "closed")
        engine.gate.set()
        results = [future.result() for future in waiting]
    assert {(result["tier"], result["decision"], result["degraded"]) for result in results} == {(3, "allow", False)}
    assert engine.gate_visitors == 5
    assert service.metric("moderation_judge_waiting") == service.metric("moderation_judge_in_flight") == 0


def assert_degraded(
    service: ModerationProcess, decision: str, reason: str, mode: str, text: str = "what a day"
) -> dict[str, Any]:
    labels = {"tier": "3", "reason": reason, "mode": mode}
    before = service.metric("moderation_degraded_total", **labels)
    result = service.decide(text)
    assert (result["decision"], result["degraded"]) == (decision, True), result
    assert service.metric("moderation_degraded_total", **labels) == before + 1
    return result
