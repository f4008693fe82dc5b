"""The generator's metrics, read as Prometheus reads them."""

import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loadtests import LoadError
from loadtests.labelled import Expected
from loadtests.metrics import SECONDS, Meters
from loadtests.rows import Row


def row(outcome: str, **changes: object) -> Row:
    fields = {
        "i": 0, "request_id": "load-0", "tenant": "acme", "intended": 0.0, "sent": 0.0, "first_token": 0.5,
        "end": 1.5, "outcome": outcome, "status": 200, "error": None, "prompt_tokens": 20,
        "completion_tokens": 11, "answer": "Yes.",
    }  # fmt: skip
    return Row(**{**fields, **changes})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def scrape(meters: Meters) -> dict[tuple[str, str], float]:
    """(series, its label other than the user) -> value"""
    port = free_port()
    meters.serve(port)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in families for sample in family.samples]
    return {(s.name, s.labels.get("outcome") or s.labels.get("le", "")): s.value for s in samples}


def test_offered_in_flight_and_outcomes_are_counted():
    meters = Meters()
    for _ in range(4):
        meters.sent("reading_desk", 0.001)
    meters.ended("reading_desk", row("ok"))
    meters.ended("reading_desk", row("http_error", first_token=None, status=429))
    series = scrape(meters)
    assert series["loadgen_offered_total", ""] == 4
    assert series["loadgen_in_flight_requests", ""] == 2
    assert series["loadgen_requests_total", "ok"] == 1
    assert series["loadgen_requests_total", "http_error"] == 1
    assert series["loadgen_schedule_lag_seconds_count", ""] == 4


def test_a_quick_refusal_does_not_improve_the_times():
    meters = Meters()
    for outcome in ("ok", "http_error", "unfinished"):
        meters.sent("reading_desk", 0.0)
        meters.ended("reading_desk", row(outcome))
    series = scrape(meters)
    assert series["loadgen_time_to_first_token_seconds_count", ""] == 1
    assert series["loadgen_request_duration_seconds_count", ""] == 1
    assert series["loadgen_time_per_output_token_seconds_count", ""] == 1


def test_an_objective_on_a_boundary_is_met_at_the_boundary():
    meters = Meters()
    meters.sent("reading_desk", 0.0)
    meters.ended("reading_desk", row("ok", first_token=0.5, end=1.5))
    series = scrape(meters)
    assert series["loadgen_time_to_first_token_seconds_bucket", "0.5"] == 1
    assert series["loadgen_time_to_first_token_seconds_bucket", "0.3"] == 0
    assert series["loadgen_time_per_output_token_seconds_bucket", "0.1"] == 1
    assert {le for name, le in series if name == "loadgen_request_duration_seconds_bucket"} == {
        *(str(float(bound)) for bound in SECONDS),
        "+Inf",
    }


def test_a_taken_port_is_a_clear_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LoadError, match=f"metrics port {port}: cannot listen"):
            Meters().serve(port)


def test_the_place_of_the_right_document_is_counted_and_one_that_was_not_found_is_beyond_all_places():
    meters = Meters()
    for documents in (("a", "b"), ("b", "a"), ("b",), None):
        meters.ended("library", row("ok", documents=documents, streamed=False), Expected(document="a"))
    meters.ended("library", row("timeout", documents=("a",), streamed=False), Expected(document="a"))
    found = scrape(meters)
    bucket = "loadgen_right_document_rank_bucket"
    assert [found[bucket, le] for le in ("1.0", "2.0", "10.0", "+Inf")] == [1.0, 2.0, 2.0, 4.0]


def test_decisions_are_counted_by_the_label_of_the_text_and_strange_ones_are_none():
    meters = Meters()
    for decision in ("block", "allow", "whatever", None):
        meters.ended("comments", row("ok", decision=decision, streamed=False), Expected(violating=True))
    families = {family.name: family for family in meters.registry.collect()}
    counted = {
        (s.labels["label"], s.labels["decision"]): s.value
        for s in families["loadgen_decisions"].samples
        if s.name.endswith("_total")
    }
    assert counted == {("violating", "block"): 1, ("violating", "allow"): 1, ("violating", "none"): 2}
