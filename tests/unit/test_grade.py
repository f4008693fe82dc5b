"""Grading as a pure function of a folder: no noise, gap or trick may turn a verdict round."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from handmade import CHECKS, KV_BUDGET, PUBLIC, a_plan, a_public, a_row, graded, measurements, result, rows, write_load

from lab.grade import CheckResult, grade, margin_in_words
from lab.quality import key
from loadtests.labelled import Expected
from loadtests.plan import Plan

GOODPUT = a_public(CHECKS[:1])


# ── pass and fail ──


def test_a_healthy_load_passes_every_check_without_a_reason(tmp_path):
    found = graded(tmp_path, rows(40))
    assert (found.verdict, found.reasons) == ("pass", ())
    assert [item.outcome for item in found.checks] == ["pass"] * len(CHECKS)


def test_slow_requests_fail_on_goodput_and_the_reason_names_share_and_limits(tmp_path):
    found = graded(tmp_path, rows(30, 10))
    assert found.verdict == "fail"
    assert found.reasons == (result(found, "goodput").reason,)
    for part in ("75.0%", "first token within 1 s", "0.15 s per token", "all of an answer within 8 s", "at least 90%"):
        assert part in found.reasons[0]


@pytest.mark.parametrize(("good", "verdict"), [(36, "pass"), (35, "fail")])
def test_a_share_of_exactly_the_threshold_passes_and_one_request_less_fails(tmp_path, good, verdict):
    assert graded(tmp_path, rows(good, 40 - good)).verdict == verdict


def test_quantiles_decide_nothing(tmp_path):
    """Bug: a p95 over forty requests is the second-worst of them, so one straggler would decide a verdict."""
    found = graded(tmp_path, rows(37, 3))
    assert found.figures["ttft_p95"] > 1.0
    assert found.verdict == "pass"


def test_a_fast_median_is_no_pass(tmp_path):
    found = graded(tmp_path, rows(34, 6))
    assert found.figures["ttft_p50"] < 1.0
    assert found.verdict == "fail"


def test_each_result_tells_value_threshold_and_margin(tmp_path):
    found = graded(tmp_path, rows(38, 2))
    goodput, cost = result(found, "goodput"), result(found, "cost")
    assert (goodput.value, goodput.threshold, goodput.margin) == (0.95, 0.9, pytest.approx(2.0))
    assert (cost.value, cost.threshold, cost.healthy, cost.margin) == (110, 300, 100, pytest.approx(300 / 110))


# ── tricks ──

WELL_TIMED = {"first_token": 0.1, "end": 0.2}


@pytest.mark.parametrize("outcome", ["http_error", "stream_error", "timeout", "connection_error", "unfinished"])
def test_a_request_without_a_whole_answer_is_a_miss_however_fast_it_was(tmp_path, outcome):
    """Exploit: reject the load. Refusals come within a millisecond, and the few that are let in fly."""
    found = graded(tmp_path, rows(20, 20, outcome=outcome, **WELL_TIMED))
    assert found.verdict == "fail"
    assert result(found, "goodput").value == 0.5


def test_a_request_that_has_no_row_is_a_miss(tmp_path):
    """Exploit: what never ends leaves no row, so a share of the rows alone would be a share of the survivors."""
    write_load(tmp_path, rows(30), planned=40)
    text = (tmp_path / "rows.jsonl").read_text().replace('"sent": 30', '"sent": 40')
    (tmp_path / "rows.jsonl").write_text(text)
    found = grade(tmp_path, PUBLIC)
    assert found.verdict == "fail"
    assert result(found, "goodput").value == 0.75


def test_an_answer_that_streams_no_text_is_a_miss(tmp_path):
    """Exploit: answer everything with an empty stream, or without streaming, which has no first token."""
    found = graded(tmp_path, rows(20, 20, first_token=None, end=0.2))
    assert result(found, "goodput").value == 0.5


@pytest.mark.parametrize("tokens", [None, 0])
def test_an_answer_without_output_tokens_is_a_miss(tmp_path, tokens):
    assert result(graded(tmp_path, rows(20, 20, completion_tokens=tokens)), "goodput").value == 0.5


def test_answers_of_one_token_fail_on_their_work(tmp_path):
    """Exploit: max_tokens 1. Every request meets every time objective, and nobody gets an answer."""
    found = graded(tmp_path, rows(0, 40, completion_tokens=1, **WELL_TIMED))
    assert result(found, "goodput").outcome == "pass"
    assert (found.verdict, result(found, "answer_work").outcome) == ("fail", "fail")


def test_a_load_without_any_answer_fails_although_its_work_cannot_be_told(tmp_path):
    """Exploit: stop the engine. No answer has no mean length, which must not hide that all were missed."""
    found = graded(tmp_path, rows(0, 40, outcome="connection_error"), {"metrics.costs.cost": None})
    assert found.verdict == "fail"
    assert [item.outcome for item in found.checks].count("not_measured") == 2


@pytest.mark.parametrize(("share", "outcome"), [(1.0, "pass"), (0.999, "fail"), (0.0, "fail")])
def test_a_prompt_that_lacks_a_line_fails(tmp_path, share, outcome):
    """Exploit: cut what makes prompts long."""
    found = graded(tmp_path, rows(40), {"prompts.prompt": {"share": share, "missing": None}})
    assert result(found, "prompt").outcome == outcome


def test_the_first_text_that_is_missing_is_named(tmp_path):
    found = {"share": 0.957, "missing": "its desk (request 3fa2c1-12)"}
    assert result(graded(tmp_path, rows(40), {"prompts.prompt": found}), "prompt").reason.endswith(
        "95.7% of the required texts are in the engine's prompts, 100% must be; "
        "missing first: its desk (request 3fa2c1-12)"
    )


def test_without_an_answer_there_is_no_prompt_to_look_at(tmp_path):
    found = graded(tmp_path, rows(40), {"prompts.prompt": {"share": None, "missing": None}})
    assert result(found, "prompt").outcome == "not_measured"
    assert found.verdict == "cannot_grade"


@pytest.mark.parametrize(("memory", "outcome"), [(KV_BUDGET, "pass"), (KV_BUDGET + 1, "fail"), (1, "pass")])
def test_a_bound_is_exact_to_the_byte_and_has_no_margin(tmp_path, memory, outcome):
    """Exploit: buy the way out with memory that the site does not have."""
    found = result(graded(tmp_path, rows(40), {"config.llm.engine.kv_cache_memory_bytes": memory}), "budget")
    assert (found.outcome, found.margin) == (outcome, None)


@pytest.mark.parametrize("engine", [{}, {"kv_cache_memory_bytes": None}, {"kv_cache_memory_bytes": "1 GiB"}, None])
def test_a_bound_on_a_value_that_is_no_number_is_not_held(tmp_path, engine):
    found = graded(tmp_path, rows(40), {"config.llm.engine": engine})
    assert found.verdict == "fail"
    assert "llm.engine.kv_cache_memory_bytes is not set to a number" in found.reasons[0]


def test_work_between_two_ratios_has_a_floor_and_a_ceiling(tmp_path):
    check = {**CHECKS[2], "op": "between", "ratio_to_healthy": [0.8, 1.2]}
    outcomes = []
    for tokens in (15, 16, 24, 25):
        write_load(tmp_path, rows(0, 40, completion_tokens=tokens, **WELL_TIMED))
        outcomes.append(result(grade(tmp_path, a_public([check])), "answer_work").outcome)
    assert outcomes == ["fail", "pass", "pass", "fail"]


@pytest.mark.parametrize(
    ("op", "limit", "value", "outcome", "margin"),
    [("<=", 0.25, 0.1, "pass", 2.5), ("<=", 0.25, 1.0, "fail", 4.0), ("<=", 0.25, 0.0, "pass", None),
     (">=", 0.5, 0.9, "pass", 1.8), (">=", 0.5, 0.25, "fail", 2.0), (">=", 0.5, 0.0, "fail", None)],
)  # fmt: skip
def test_a_level_is_compared_with_a_number(tmp_path, op, limit, value, outcome, margin):
    check = {"id": "quiet", "kind": "level", "title": "Alarm", "query": "up", "op": op, "value": limit}
    write_load(tmp_path, rows(40, **WELL_TIMED), measured=measurements({"metrics.levels": {"quiet": value}}))
    found = grade(tmp_path, a_public([check]))
    assert (found.verdict, result(found, "quiet").outcome) == (outcome, outcome)
    assert result(found, "quiet").margin == (margin if margin is None else pytest.approx(margin))


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_level_without_a_number_is_no_verdict(tmp_path, value):
    check = {"id": "quiet", "kind": "level", "title": "Alarm", "query": "up", "op": ">=", "value": 0.5}
    write_load(tmp_path, rows(40, **WELL_TIMED), measured=measurements({"metrics.levels": {"quiet": value}}))
    found = grade(tmp_path, a_public([check]))
    assert (found.verdict, result(found, "quiet").outcome) == ("cannot_grade", "not_measured")


@pytest.mark.parametrize(
    ("rings", "verdict", "margin"), [(0.25, "pass", 4.0), (3.0, "fail", 3.0), (None, "cannot_grade", None)]
)
def test_an_alarm_may_ring_by_chance_so_often_and_no_more(tmp_path, rings, verdict, margin):
    """Bug: limits that one window in forty exceeds passed two graded loads in three."""
    check = {"id": "by_chance", "kind": "false_alarms", "title": "Rings", "searches_per_second": 20, "value": 1.0}
    write_load(tmp_path, rows(40, **WELL_TIMED), measured=measurements({"alarms": {"by_chance": rings}}))
    found = grade(tmp_path, a_public([check]))
    assert found.verdict == verdict
    assert result(found, "by_chance").margin == margin


# ── what nobody measured ──


RAN, HEALTHY = "metrics.costs.cost", "healthy.costs.cost"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (RAN, None),
        (RAN, float("nan")),
        (RAN, float("inf")),
        (HEALTHY, None),
        (HEALTHY, float("nan")),
        (HEALTHY, float("inf")),
    ],
)
def test_a_cost_without_a_number_is_never_a_pass(tmp_path, path, value):
    """Exploit: a query without an answer; NaN compares false with everything, so a careless test lets it by."""
    found = graded(tmp_path, rows(40), {path: value})
    assert found.verdict != "pass"
    assert result(found, "cost").outcome != "pass"


@pytest.mark.parametrize("path", [RAN, HEALTHY])
def test_a_cost_that_is_not_a_number_is_no_failure_either(tmp_path, path):
    found = graded(tmp_path, rows(40), {path: float("nan")})
    assert (found.verdict, result(found, "cost").margin) == ("cannot_grade", None)


@pytest.mark.parametrize("healthy", [None, 0.0])
def test_without_a_healthy_value_to_compare_with_there_is_no_verdict(tmp_path, healthy):
    found = graded(tmp_path, rows(40), {"healthy.costs.cost": healthy})
    assert found.verdict == "cannot_grade"
    assert "the healthy run on this machine gave no value" in found.reasons[0]


def test_one_check_that_was_not_measured_is_no_verdict_when_all_others_pass(tmp_path):
    found = graded(tmp_path, rows(40), {"metrics.costs.cost": None})
    assert found.verdict == "cannot_grade"
    assert found.reasons == (result(found, "cost").reason,)


def test_a_grade_is_json_that_every_parser_reads_even_where_nothing_was_measured(tmp_path):
    """Bug: a threshold that is not known was NaN, which is no JSON."""
    found = graded(tmp_path, rows(40), {"healthy.costs.cost": None, "metrics.costs.cost": None})
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["verdict"] == "cannot_grade"


# ── quality ──

RANKING = {"id": "ranking", "kind": "quality", "title": "Ranking", "measure": "ranking", "ratio_to_healthy": 0.7}


def a_labelled_load(folder: Path, found: Sequence[int | None], healthy: Sequence[float] | None) -> Path:
    """Searches whose right document came at these places; `healthy` are the healthy stack's scores."""
    plan = a_plan(len(found))
    arrivals = tuple(
        arrival.model_copy(
            update={"path": "/v1/search", "body": {"query": f"q{arrival.i}"}, "expected": Expected(document="d")}
        )
        for arrival in plan.arrivals
    )
    lines = [
        a_row(i, streamed=False, documents=("x",) * (place - 1) + ("d",) if place else ("x",))
        for i, place in enumerate(found)
    ]
    known = {} if healthy is None else {"ranking": {key(f"q{i}"): score for i, score in enumerate(healthy)}}
    write_load(folder, lines, measured=measurements({"healthy.labelled": known}))
    Plan(plan.header, arrivals).write(folder / "plan.jsonl")
    return folder


def graded_ranking(folder: Path, found: Sequence[int | None], healthy: Sequence[float] | None) -> CheckResult:
    a_labelled_load(folder, found, healthy)
    return result(grade(folder, a_public([RANKING])), "ranking")


def test_quality_passes_at_its_share_of_the_healthy_stacks_and_fails_below(tmp_path):
    for name, found, outcome in (("same", [1] * 10, "pass"), ("worse", [1] * 6 + [None] * 4, "fail")):
        (tmp_path / name).mkdir()
        assert graded_ranking(tmp_path / name, found, [1.0] * 10).outcome == outcome


def test_the_margin_of_quality_is_in_standard_errors_over_the_same_texts(tmp_path):
    found = graded_ranking(tmp_path, [1, 1, 1, None] * 10, [1.0] * 40)
    assert (found.value, found.healthy, found.threshold, found.margin_unit) == (0.75, 1.0, 0.7, "SE")
    assert found.margin == pytest.approx(0.05 / (math.sqrt(0.75 * 0.25 * 40 / 39) / math.sqrt(40)))


def test_quality_without_the_healthy_stacks_answers_is_not_graded(tmp_path):
    """Exploit: another set of questions than the healthy stack was asked."""
    a_labelled_load(tmp_path, [1] * 10, None)
    assert grade(tmp_path, a_public([RANKING])).verdict == "cannot_grade"


@pytest.mark.parametrize(
    ("margin", "unit", "words"),
    [(1.24, "×", "1.2×"), (1000, "×", "1000.0×"), (1.6e14, "×", "over 1,000×"), (5.0, "SE", "5.0 SE")],
)
def test_a_margin_is_no_longer_than_anybody_reads(margin, unit, words):
    assert margin_in_words(margin, unit) == words
