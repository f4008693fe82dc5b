"""What people are shown: progress, values, margins."""

import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from lab import views
from lab.drill_view import allowed, next_steps, since_check, symptom
from lab.grade import CheckResult
from lab.scenario import all_ids, find
from lab.views import Steps, margin_of, value_of


def test_progress_without_a_terminal_is_a_line_a_step_and_one_every_ten_seconds_of_a_long_one():
    now, lines = [0.0], []
    tell = Steps(lines.append, clock=lambda: now[0])
    for second in range(26):
        now[0] = float(second)
        tell(f"waiting for llm: {second} s")
    tell("llm is ready")
    assert lines == [
        "waiting for llm: 0 s", "waiting for llm: 10 s", "waiting for llm: 20 s", "llm is ready",
    ]  # fmt: skip


def a_result(kind, value, outcome="fail", margin=None):
    return CheckResult("id", "title", kind, outcome, value, 0.9, ">=", None, margin, "why")


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("slo", 0.0, "0.0%"), ("slo", 1.0, "100.0%"), ("probe", 0.957, "95.7%"), ("cost", 58.62, "58.6"),
        ("bound", 268435456.0, "268,435,456"), ("slo", None, "-"), ("cost", None, "-"),
    ],
)  # fmt: skip
def test_shares_are_per_cent_and_everything_else_a_number(kind, value, shown):
    assert value_of(a_result(kind, value), value) == shown


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (a_result("slo", 0.0, margin=10.0), "all missed"),
        (a_result("slo", 1.0, "pass"), "none missed"),
        (a_result("slo", 0.6, margin=4.0), "4.0×"),
        (a_result("cost", 1328.0, margin=7.6), "7.6×"),
        (a_result("probe", 0.957), "exact"),
        (a_result("cost", None, "not_measured"), "-"),
    ],
)
def test_a_margin_is_a_factor_only_where_that_says_something(result, shown):
    assert margin_of(result) == shown


OBJECTIVES = {"goodput": 0.9}


@pytest.mark.parametrize(("load", "said"), [(True, "it has just begun"), (False, "`lab apply` starts it again")])
def test_callers_of_whom_none_was_answered_yet_are_not_callers_who_are_not_there(load, said):
    """Bug: right after a check, status said that the load runs and that there is none."""
    assert said in str(symptom(None, OBJECTIVES, load))


def test_a_briefing_tells_each_number_that_is_graded():
    told = {check.id: allowed(check) for name in all_ids() for check in find(name).public.checks}
    assert told["kv_budget"] == "at most 268,435,456 bytes"
    assert told["prefill_cost"] == "at most 3 × the healthy stack's"
    assert told["goodput"] == "at least 90%"
    assert told["too_weak"] == "at most 0.2"


def shown(renderable) -> str:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


ONE = {"__name__": "m", "job": "a", "instance": "1"}


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ([ONE, {"__name__": "m", "job": "b", "instance": "2"}], 'job="b"'),
        ([ONE, {"__name__": "m", "job": "a", "instance": "2"}], 'instance="2"'),
        ([ONE, {"__name__": "n", "job": "b", "instance": "2"}], '__name__="n"'),
        ([ONE | {"tenant": "x"}], 'tenant="x"'),
    ],
)
def test_series_are_shown_by_the_labels_that_tell_them_apart(series, said):
    """Bug: the memory of five processes stood in five rows of one name."""
    samples = [{"labels": labels, "value": 1.0} for labels in series]
    rows = [{"title": "m", "query": "m", "unit": "", "objective": "", "samples": samples}]
    text = shown(views.metrics(rows, SimpleNamespace(prometheus_url="http://127.0.0.1:1")))
    assert said in text
    assert text.count('"') == 2 * len(series), "one label each"


@pytest.mark.parametrize(("ago", "told"), [(5, True), (3_600, False), (None, False)])
def test_what_a_check_sent_is_told_while_metrics_still_show_it(ago, told):
    """Bug: the alert that a check's own traffic had set off stood in the status after its pass, without a word."""
    events = [] if ago is None else [{"time": time.time() - 7_200}, {"time": time.time() - ago}]
    run = SimpleNamespace(events=lambda kind: iter(events))
    assert (since_check(run) is not None) is told


@pytest.mark.parametrize("asks", [True, False])
def test_a_prediction_is_asked_for_as_long_as_one_can_be_made(asks):
    assert ("prediction" in next_steps("w", "p", "g", asks)) is asks
