"""The service on PostgreSQL: what becomes of texts and reviewers while the database is down; nothing is lost."""

import threading
import time
from collections.abc import Iterator

import pytest
from gateway_process import assert_error, wait_until
from moderation_process import MODERATIONS, REVIEWS, ModerationProcess, StartModeration
from postgres_process import Postgres, running_postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def service(postgres: Postgres, spawn_moderation: StartModeration) -> ModerationProcess:
    service = spawn_moderation(tier3={"enabled": False}, review={"url": postgres.url})
    wait_for_queue(service, up=True)
    return service


def wait_for_queue(service: ModerationProcess, up: bool) -> None:
    wait_until(lambda: service.metric("moderation_queue_up") == up, f"the queue is {'up' if up else 'down'}", 20)


def degraded(service: ModerationProcess) -> float:
    return service.metric("moderation_degraded_total", tier="review", reason="down", mode="closed")


def test_items_are_kept_leased_and_decided_as_on_sqlite(service: ModerationProcess) -> None:
    id_ = service.decide("so \0 so")["review_id"]
    (item,) = [one for one in service.lease(limit=100) if one["id"] == id_]
    assert item["text"] == "so \u2400 so"
    assert service.act(item, "decision", outcome="allow").status_code == 200
    assert service.get(f"{REVIEWS}/{id_}").json()["state"] == "decided"


def test_a_service_starts_without_its_database_and_says_what_is_missing(
    postgres: Postgres, spawn_moderation: StartModeration
) -> None:
    postgres.crash()
    service = spawn_moderation(
        tier2={"classifier": {"kind": "linear"}},
        band={"low": 0.3, "high": 0.9},
        tier3={"enabled": False},
        review={"url": postgres.url},
    )
    try:
        assert service.decide("a lovely afternoon in the garden")["decision"] == "allow", "tiers 1 and 2 need none"
        result = service.post(MODERATIONS, {"input": "nasty people, all of them, just nasty"}).json()["results"][0]
        assert 0.3 <= result["score"] < 0.9, "this text is no longer uncertain: choose another"
        assert (result["tier"], result["decision"], result["degraded"]) == ("review", "block", True)
        assert result["reason"] == "uncertain; review queue down"
        assert degraded(service) == 1
        assert_error(service.get(REVIEWS), 503, "review_queue_down", "has not answered yet")
        assert_error(service.post(f"{REVIEWS}/lease", {"reviewer": "ana"}), 503, "review_queue_down")
        wait_until(lambda: any(line["message"] == "review queue is down" for line in service.log()), "the log tells it")
    finally:
        postgres.start()
    wait_for_queue(service, up=True)
    assert service.decide("nasty people, all of them, just nasty")["decision"] == "review"


def test_a_database_that_crashes_and_comes_back_has_everything_that_was_acknowledged(
    service: ModerationProcess, postgres: Postgres
) -> None:
    acknowledged: dict[int, str] = {}
    refused: list[str] = []
    stop = threading.Event()

    def send(name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            text = f"{name} says {number}"
            result = service.decide(text)
            if result["decision"] == "review":
                acknowledged[result["review_id"]] = text
            else:
                assert (result["decision"], result["degraded"]) == ("block", True)
                refused.append(text)

    senders = [threading.Thread(target=send, args=(f"sender {n}",)) for n in range(3)]
    for sender in senders:
        sender.start()
    for _ in range(3):
        so_far = len(acknowledged)
        wait_until(lambda n=so_far: len(acknowledged) > n + 10, "texts are acknowledged", 30)
        postgres.crash()
        wait_for_queue(service, up=False)
        postgres.start()
        wait_for_queue(service, up=True)
    stop.set()
    for sender in senders:
        sender.join()
    assert refused, "no text came in while the database was down"
    stored: dict[int, str] = {}
    while items := service.lease(limit=100):
        stored |= {item["id"]: item["text"] for item in items}
    assert acknowledged.items() <= stored.items()


def test_a_lease_outlives_a_crash_of_the_database(service: ModerationProcess, postgres: Postgres) -> None:
    id_ = service.decide("so so")["review_id"]
    (item,) = [one for one in service.lease(limit=100) if one["id"] == id_]
    postgres.crash()
    assert_error(service.act(item, "decision", outcome="block"), 503, "review_queue_down")
    postgres.start()
    wait_for_queue(service, up=True)
    assert service.act(item, "decision", outcome="block").json()["outcome"] == "block"


def test_a_database_that_hangs_costs_a_bounded_time(service: ModerationProcess, postgres: Postgres) -> None:
    service.decide("so so")
    postgres.hang()
    try:
        began = time.monotonic()
        result = service.decide("so and so")
        assert (result["decision"], result["degraded"], result["reason"]) == (
            "block",
            True,
            "uncertain; review queue down",
        )
        assert time.monotonic() - began < 15
        assert service.get("/readyz").status_code == 200
    finally:
        postgres.go_on()
    wait_for_queue(service, up=True)
    assert service.decide("so and so again")["decision"] == "review"
