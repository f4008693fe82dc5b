"""When the load of a control may end before its plan does, and what it does without."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from handmade import CHECKS, a_plan, a_public, a_row, rows

from lab import proof
from lab.grade import CheckResult, Grade
from lab.proof import RECORDED, Control, watcher
from loadtests.labelled import Expected
from loadtests.plan import Arrival, Plan
from loadtests.rows import Row

ABUSE: dict[str, Any] = {
    "id": "abuse", "kind": "quality", "title": "Abuse", "measure": "abuse_stopped", "ratio_to_healthy": 0.9,
}  # fmt: skip
PUBLIC = a_public([*CHECKS, ABUSE])


def ends(plan: Plan, rows: list[Row], elapsed: float = 20.0, fails_on: str | None = "abuse", name: str = "c") -> bool:
    return watcher(Control(name, {}, fails_on=fails_on), PUBLIC)(plan, rows, elapsed)


def comments(texts: list[str]) -> Plan:
    """One comment each half second, all abusive but those that begin with "no"."""
    arrivals = (
        Arrival(i=i, offset=i * 0.5, tenant="acme", path="/v1/moderations", body={"input": text},
                expected=Expected(violating=not text.startswith("no")))
        for i, text in enumerate(texts)
    )  # fmt: skip
    return Plan(a_plan(len(texts)).header, tuple(arrivals))


def test_a_comparison_of_texts_ends_when_each_text_has_its_answer():
    plan = comments(["a", "b", "no abuse", "a", "b"])
    assert not ends(plan, [a_row(0)])
    assert not ends(plan, [a_row(0), a_row(1, outcome="unfinished")])
    assert ends(plan, [a_row(0), a_row(1)]), "what comes later was asked before"


def test_a_text_that_was_refused_has_its_answer():
    assert ends(comments(["a", "b", "a"]), [a_row(0), a_row(1, outcome="http_error")])


def test_misses_end_a_load_when_they_are_twice_what_is_allowed_of_the_whole_plan():
    plan = a_plan(100)
    assert not ends(plan, rows(10, 19), fails_on="goodput")
    assert ends(plan, rows(10, 21), fails_on="goodput")


def test_what_a_counter_shows_is_settled_after_some_answers():
    assert not ends(a_plan(100), rows(9), fails_on="cost")
    assert ends(a_plan(100), rows(10), fails_on="cost")


@pytest.mark.parametrize("fails_on", ["abuse", "goodput", "cost"])
def test_nothing_is_certain_in_the_first_seconds(fails_on):
    assert not ends(comments(["a"]), rows(0, 100), elapsed=14.0, fails_on=fails_on)


@pytest.mark.parametrize("name", RECORDED)
def test_loads_that_are_recorded_run_in_full(name):
    assert not ends(comments(["a"]), rows(0, 100), name=name, fails_on="goodput")


def test_a_control_that_must_pass_runs_in_full():
    assert not ends(comments(["a"]), rows(100), fails_on=None)


def test_what_a_control_stops_is_not_missed_by_its_check(monkeypatch):
    """Bug: a check that is told nothing cannot grade a stack of which a service does not run."""
    asked = []

    def check(run, scenario, baseline, progress, watch, stopped):
        asked.append(stopped)
        return None, Grade("fail", (), (), {}, {})

    monkeypatch.setattr(proof, "serve", lambda *_: None)
    monkeypatch.setattr(proof, "check", check)
    scenario = SimpleNamespace(public=PUBLIC)
    proof._prove_one(None, scenario, None, Control("c", {}, fails_on="goodput", stop=("llm",)), lambda text: None)
    assert asked == [("llm",)]


# ── whether a control did what it must ──


def a_check(check_id: str, outcome: str = "pass", margin: float | None = 2.0, unit: Any = "×") -> CheckResult:
    return CheckResult(check_id, "", "", outcome, 1.0, 1.0, ">=", None, margin, "", unit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("must_fail_on", "verdict", "checks", "problem"),
    [
        (None, "pass", [a_check("goodput"), a_check("abuse", margin=3.0, unit="SE")], None),
        (None, "pass", [a_check("goodput", margin=1.49)], "goodput: margin 1.49 × is below 1.5"),
        (None, "pass", [a_check("abuse", margin=2.9, unit="SE")], "abuse: margin 2.90 SE is below 3.0"),
        (None, "pass", [a_check("answer_work", margin=1.1), a_check("prompt", margin=None)], None),
        (None, "fail", [a_check("goodput", "fail")], "must pass, but"),
        ("cost", "fail", [a_check("cost", "fail"), a_check("goodput", margin=1.0)], None),
        ("cost", "fail", [a_check("cost", "fail", margin=1.2)], "cost: margin 1.20 × is below 1.5"),
        ("answer_work", "fail", [a_check("answer_work", "fail", margin=1.2)], "answer_work: margin 1.20"),
        ("cost", "fail", [a_check("cost"), a_check("goodput", "fail")], "must fail on cost, but that check did not"),
        ("cost", "fail", [a_check("goodput", "fail")], "must fail on cost, but that check did not"),
        ("cost", "cannot_grade", [a_check("cost", "fail")], "could not be graded: noise"),
        (None, "cannot_grade", [], "could not be graded: noise"),
    ],
)
def test_a_control_has_to_do_what_it_must_and_with_margin(must_fail_on, verdict, checks, problem):
    result = Grade(verdict, ("noise",), tuple(checks), {}, {})
    found = proof.shortfalls(Control("c", {}, fails_on=must_fail_on), result, SimpleNamespace(public=PUBLIC))
    assert found == [] if problem is None else problem in found[0]


@pytest.mark.parametrize("what", ["digest", "code", "grader"])
def test_a_proof_holds_for_the_scenario_its_code_and_its_grader_as_they_were(tmp_path, monkeypatch, what):
    holds_for = {"digest": "d", "code": "c", "grader": "g"}
    monkeypatch.setattr(proof, "_holds_for", lambda _: dict(holds_for))
    path = tmp_path / "proof.json"
    monkeypatch.setattr(proof, "proof_path", lambda _: path)
    scenario: Any = object()
    assert not proof.proved(scenario), "there is none"
    for good in (False, True):
        path.write_text(json.dumps({"proved": good, **holds_for}))
        assert proof.proved(scenario) is good
    holds_for[what] = "another"
    assert not proof.proved(scenario)
