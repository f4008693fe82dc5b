"""The review queue over HTTP: leases, decisions, pages, limits."""

import time
from typing import Any

import pytest
from gateway_process import assert_error, wait_until
from moderation_process import REVIEWS, ModerationProcess, StartModeration

TOKEN = "0" * 32


@pytest.fixture
def desk(start_moderation: StartModeration) -> ModerationProcess:
    """A service with an empty queue that takes every text."""
    return start_moderation(tier3={"enabled": False}, review={"lease_seconds": 60, "capacity": 5})


@pytest.fixture(scope="module")
def shared(start_moderation: StartModeration) -> ModerationProcess:
    return start_moderation(tier3={"enabled": False})


def test_an_item_goes_from_open_to_leased_to_decided(desk: ModerationProcess) -> None:
    id_ = desk.decide("so so")["review_id"]
    (item,) = desk.lease("ana")
    assert (item["id"], item["text"], item["state"], item["reviewer"]) == (id_, "so so", "leased", "ana")
    assert item["leased_until"] == pytest.approx(time.time() + 60, abs=30)
    assert desk.lease("bo") == []
    decided = desk.act(item, "decision", outcome="block", note="clear")
    assert (decided.status_code, decided.json()["state"], decided.json()["outcome"]) == (200, "decided", "block")
    full = desk.get(f"{REVIEWS}/{id_}").json()
    assert [event["kind"] for event in full["history"]] == ["enqueued", "leased", "decided"]
    assert desk.get(REVIEWS).json()["counts"] == {"open": 0, "leased": 0, "decided": 1}


def test_a_decision_sent_again_is_answered_again_and_another_is_refused(desk: ModerationProcess) -> None:
    desk.decide("so so")
    (item,) = desk.lease()
    first = desk.act(item, "decision", outcome="block")
    assert desk.act(item, "decision", outcome="block").json() == first.json()
    assert_error(desk.act(item, "decision", outcome="allow"), 409, "already_decided", "decided as block")
    assert desk.metric("moderation_review_decisions_total") == 1


def test_a_lease_that_ran_out_comes_back_by_itself(desk: ModerationProcess) -> None:
    desk.decide("so so")
    (item,) = desk.lease("ana", lease_seconds=1.0)
    wait_until(lambda: desk.metric("moderation_leases_expired_total") == 1, "the lease runs out")
    assert desk.get(REVIEWS).json()["counts"] == {"open": 1, "leased": 0, "decided": 0}
    assert_error(desk.act(item, "decision", outcome="allow"), 409, "lease_lost")
    (again,) = desk.lease("bo")
    assert (again["id"], again["times_leased"]) == (item["id"], 2)


def test_a_lease_can_be_renewed_and_given_back(desk: ModerationProcess) -> None:
    desk.decide("so so")
    (item,) = desk.lease("ana", lease_seconds=20.0)
    renewed = desk.act(item, "renew", lease_seconds=50.0)
    assert renewed.json()["leased_until"] > item["leased_until"] + 20
    assert desk.act(item, "release").json()["state"] == "open"
    assert_error(desk.act(item, "release"), 409, "lease_lost")
    assert len(desk.lease("bo")) == 1


def test_pages_follow_one_another_and_hold_no_text(desk: ModerationProcess) -> None:
    for number in range(5):
        desk.decide(f"text {number}")
    seen, after = [], 0
    while after is not None:
        page = desk.get(f"{REVIEWS}?limit=2&after={after}").json()
        seen += page["items"]
        after = page["next_after"]
    assert [item["id"] for item in seen] == [1, 2, 3, 4, 5]
    assert not any("text" in item for item in seen)
    assert desk.get(f"{REVIEWS}?state=leased").json()["items"] == []


def test_a_full_queue_answers_by_policy_and_says_so(desk: ModerationProcess) -> None:
    for number in range(5):
        assert desk.decide(f"text {number}")["decision"] == "review"
    result = desk.decide("one too many")
    assert (result["tier"], result["decision"], result["degraded"]) == ("review", "block", True)
    assert result["review_id"] is None
    assert desk.metric("moderation_degraded_total", tier="review", reason="full", mode="closed") == 1
    assert desk.get(REVIEWS).json()["counts"]["open"] == 5


def test_depth_and_age_are_measured(desk: ModerationProcess) -> None:
    for number in range(3):
        desk.decide(f"text {number}")
    wait_until(lambda: desk.metric("moderation_queue_depth", priority="normal") == 3, "the depth is measured")
    wait_until(lambda: desk.metric("moderation_queue_oldest_age_seconds", priority="normal") > 1, "the age grows")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("lease", {}, 400, "bad_request"),
        ("lease", {"reviewer": ""}, 400, "bad_request"),
        ("lease", {"reviewer": "ana", "limit": 0}, 400, "bad_request"),
        ("lease", {"reviewer": "ana", "lease_seconds": 61}, 400, "bad_request"),
        ("lease", {"reviewer": "ana", "priority": 1}, 400, "bad_request"),
        ("9/decision", {"lease": TOKEN, "outcome": "allow"}, 404, "not_found"),
        ("9/decision", {"lease": TOKEN, "outcome": "maybe"}, 400, "bad_request"),
        ("9/decision", {"lease": "x", "outcome": "allow"}, 400, "bad_request"),
        ("9/renew", {"lease": TOKEN}, 404, "not_found"),
        ("9/release", {"lease": TOKEN}, 404, "not_found"),
        ("0/release", {"lease": TOKEN}, 400, "bad_request"),
        (f"{1 << 63}/release", {"lease": TOKEN}, 400, "bad_request"),
        ("x/release", {"lease": TOKEN}, 404, "not_found"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    shared: ModerationProcess, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    assert_error(shared.post(f"{REVIEWS}/{path}", body), status, code)


@pytest.mark.parametrize("query", ["state=lost", "limit=0", "limit=201", "after=-1", f"after={1 << 63}"])
def test_a_page_that_cannot_be_is_refused(shared: ModerationProcess, query: str) -> None:
    assert_error(shared.get(f"{REVIEWS}?{query}"), 400, "bad_request")
