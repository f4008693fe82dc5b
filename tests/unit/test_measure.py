"""From rows and metrics to numbers: what counts as good, and what nothing becomes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from handmade import a_public, a_row, a_run, rows
from hypothesis import given
from hypothesis import strategies as st
from local_http import Asked, Local, answering

from lab.measure import (
    certain_miss,
    good,
    goodput,
    load_figures,
    metric_figures,
    quantile,
)

PUBLIC = a_public()
OBJECTIVES = PUBLIC.objectives

# ── rows ──


def test_an_objective_that_is_met_exactly_is_met():
    assert good(a_row(first_token=1.0, end=4.0, completion_tokens=21), OBJECTIVES)
    assert good(a_row(first_token=0.5, end=8.0, completion_tokens=200), OBJECTIVES)


@pytest.mark.parametrize(
    "changes",
    [
        {"first_token": 1.001, "end": 1.5},
        {"first_token": 0.2, "end": 8.001, "completion_tokens": 200},
        {"first_token": 0.2, "end": 3.3, "completion_tokens": 21},
        {"outcome": "timeout"},
        {"first_token": None},
        {"end": None},
        {"completion_tokens": None},
    ],
)
def test_one_objective_missed_is_a_miss(changes):
    assert not good(a_row(**changes), OBJECTIVES)


def test_an_answer_of_one_token_has_no_pace_to_miss():
    assert good(a_row(first_token=0.9, end=0.9, completion_tokens=1), OBJECTIVES)


def test_lateness_of_the_sender_is_the_readers_wait():
    """Exploit of the classic kind: hold requests back while the stack is slow, and time from the sending."""
    assert not good(a_row(sent=1.0, first_token=1.1, end=2.0), OBJECTIVES)


def test_goodput_is_a_share_of_what_was_planned_not_of_what_was_answered():
    assert goodput(rows(3), 12, OBJECTIVES) == 0.25
    assert goodput([], 12, OBJECTIVES) == 0.0


def test_a_young_request_has_not_missed_yet():
    waiting = a_row(4, outcome="unfinished", first_token=None, end=None)  # due at 2 s
    assert not certain_miss(waiting, 3.0, OBJECTIVES)
    assert certain_miss(waiting, 3.001, OBJECTIVES)


def test_a_request_that_talks_has_until_its_latency_objective():
    talking = a_row(4, outcome="unfinished", end=None)
    assert not certain_miss(talking, 10.0, OBJECTIVES)
    assert certain_miss(talking, 10.001, OBJECTIVES)


@given(st.lists(st.floats(0, 100), max_size=30), st.floats(0, 1))
def test_a_quantile_is_a_value_that_the_share_does_not_exceed(values, share):
    found = quantile(values, share)
    if not values:
        assert found is None
    else:
        assert found in values
        assert sum(value <= found for value in values) >= share * len(values)


def test_figures_of_a_load_without_answers_are_unknown_and_not_zero():
    """Bug: a mean of nothing written as 0 would look like a measured quantity."""
    found = load_figures(rows(0, 5, outcome="connection_error"), 5, OBJECTIVES)
    assert {name for name, value in found.items() if value is not None} == {"goodput", "answered_share"}
    assert (found["goodput"], found["answered_share"]) == (0.0, 0.0)


def test_mean_tokens_are_of_answered_requests_only():
    answered = [a_row(0, prompt_tokens=1000, completion_tokens=10), a_row(1, prompt_tokens=2000, completion_tokens=30)]
    refused = rows(0, 3, outcome="http_error", prompt_tokens=None, completion_tokens=None)
    found = load_figures([*answered, *refused], 5, OBJECTIVES)
    assert (found["prompt_tokens"], found["completion_tokens"], found["answered_share"]) == (1500, 20, 0.4)


# ── metrics ──


class Metrics:
    """What a Prometheus answers: a list of values for each query that holds a text."""

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {'count_over_time(up{job="prometheus"}': ["50"]}
        self.status = 200

    def respond(self, asked: Asked) -> tuple[int, Any]:
        found = next((values for part, values in self.values.items() if part in asked.form["query"]), [])
        vector = [{"metric": {}, "value": [1050, value]} for value in found]
        return self.status, {"status": "success", "data": {"resultType": "vector", "result": vector}}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def prometheus(metrics: Metrics) -> Iterator[Local]:
    with answering(metrics.respond) as local:
        yield local


def measured(tmp_path: Path, prometheus: Local) -> dict[str, Any]:
    run = a_run(tmp_path / "run", port_base=prometheus.port - 3)
    return metric_figures(run, PUBLIC, 1000.2, 1050.0)


def test_a_cost_is_asked_for_over_the_graded_window_at_its_end(tmp_path, metrics, prometheus):
    metrics.values["sum(increase(a_total[50s]))"] = ["123.5"]
    found = measured(tmp_path, prometheus)
    assert (found["costs"], found["problem"], found["window_seconds"]) == ({"cost": 123.5}, None, 50)
    assert {asked.form["time"] for asked in prometheus.asked} == {"1050.0"}


@pytest.mark.parametrize("answer", [[], ["NaN"], ["+Inf"], ["1", "2"]])
def test_a_query_without_exactly_one_number_gives_none(tmp_path, metrics, prometheus, answer):
    """Exploit: a query that has no answer once the traffic is gone must not become a cost of 0."""
    metrics.values["a_total"] = answer
    assert measured(tmp_path, prometheus)["costs"] == {"cost": None}


@pytest.mark.parametrize(("scrapes", "gap"), [(["50"], False), (["45"], False), (["44"], True), ([], True)])
def test_a_gap_in_the_scrapes_is_told(tmp_path, metrics, prometheus, scrapes, gap):
    """Exploit: freeze Prometheus while the work is done, so that a rate sees only the quiet rest."""
    metrics.values['count_over_time(up{job="prometheus"}'] = scrapes
    problem = measured(tmp_path, prometheus)["problem"]
    assert (problem == f"Prometheus has {(scrapes or ['0'])[0]} of 50 scrapes of the graded window") == gap


@pytest.mark.parametrize("status", [500, 404])
def test_a_prometheus_that_does_not_answer_leaves_no_cost_and_says_so(tmp_path, metrics, prometheus, status):
    metrics.status = status
    found = measured(tmp_path, prometheus)
    assert found["costs"] == {"cost": None}
    assert f"answered {status}" in found["problem"]


def test_a_prometheus_that_is_gone_leaves_no_cost_and_says_so(tmp_path):
    with answering(lambda asked: (200, {})) as local:
        pass
    found = measured(tmp_path, local)
    assert found["costs"] == {"cost": None}
    assert "no answer from Prometheus" in found["problem"]
