"""The score and the report of a drill, made from its folder alone."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from handmade import a_public, a_run, measurements, rows, write_load

from lab import report
from lab.grade import grade
from lab.run import Run, RunError
from lab.scenario import Scenario, all_ids, find

NOTHING = {"fix": 0, "diagnosis": 0, "predictions": 0, "hints": 0, "repeated diagnoses": 0, "total": 0}


@pytest.fixture
def scenario() -> Scenario:
    return find(all_ids()[0])


@pytest.fixture
def run(tmp_path: Path, scenario: Scenario) -> Run:
    return a_run(tmp_path / "20270115-080000-beef", scenario=scenario.id)


def check(run: Run, bad: int = 0, changes: dict[str, Any] | None = None) -> str:
    """One graded load in the run, as `lab check` leaves it; its verdict."""
    folder = run.new_check()
    write_load(folder, rows(40 - bad, bad), measured=measurements(changes))
    found = grade(folder, a_public())
    (folder / "verdict.json").write_text(json.dumps(found.as_dict()))
    run.event("verdict", folder=folder.name, verdict=found.verdict, reasons=list(found.reasons))
    return found.verdict


def answer(
    run: Run, scenario: Scenario, right: bool = True, predictions: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """A diagnosis without evidence, and without a prediction where none is given."""
    if predictions is None:
        predictions = tuple(f"{name}=none" for name in scenario.truth.predictions)
    offered, accepted = scenario.public.diagnosis, scenario.truth.diagnosis.accepted
    component = accepted[0].component if right else next(c for c in offered.components if c != accepted[0].component)
    mechanism = accepted[0].mechanism if right else next(m for m in offered.mechanisms if m != accepted[0].mechanism)
    return report.diagnose(run, scenario, component, mechanism, "", list(predictions))


def section(text: str, title: str) -> str:
    return text.partition(f"## {title}")[2].partition("\n## ")[0]


# ── points ──


def test_a_drill_without_any_step_has_no_points(run, scenario):
    assert report.score(run, scenario) == NOTHING


@pytest.mark.parametrize("changes", [None, {"conditions.host.steal_share": 0.5}])
def test_only_a_pass_earns_the_points_of_the_fix(run, scenario, changes):
    check(run, bad=20, changes=changes)
    assert report.score(run, scenario)["fix"] == 0
    assert check(run) == "pass"
    assert report.score(run, scenario)["fix"] == report.FIX_POINTS


def test_a_pass_stays_earned_when_a_later_check_fails(run, scenario):
    assert (check(run), check(run, bad=20)) == ("pass", "fail")
    assert report.score(run, scenario)["fix"] == report.FIX_POINTS


def test_the_right_words_without_evidence_earn_two_thirds_of_the_diagnosis(run, scenario):
    found = answer(run, scenario)
    assert found["points"] == pytest.approx(2 / 3)
    assert report.score(run, scenario)["diagnosis"] == pytest.approx(report.DIAGNOSIS_POINTS * 2 / 3)


def test_the_last_diagnosis_counts(run, scenario):
    answer(run, scenario)
    answer(run, scenario, right=False)
    assert report.score(run, scenario)["diagnosis"] == 0


def test_words_that_are_not_offered_are_refused_and_leave_no_answer(run, scenario):
    mechanism = scenario.public.diagnosis.mechanisms[0]
    with pytest.raises(RunError, match="'gatway' is no component of this scenario"):
        report.diagnose(run, scenario, "gatway", mechanism, "", [])
    assert list(run.events("diagnosis")) == []


@pytest.mark.parametrize(("factor", "share"), [(1, 1), (0.75, 0.5), (1.25, 0.5), (1.5, 0), (100, 0), (-1, 0)])
def test_predictions_earn_by_how_near_they_are(run, scenario, factor, share):
    guesses = tuple(f"{name}={truth * factor}" for name, truth in scenario.truth.predictions.items())
    answer(run, scenario, predictions=guesses)
    assert report.score(run, scenario)["predictions"] == pytest.approx(report.PREDICTION_POINTS * share)


def test_what_is_read_off_the_mended_stack_is_no_prediction(run, scenario):
    """Exploit: mend it, look, and "predict" what is there."""
    name, true = next(iter(scenario.truth.predictions.items()))
    run.event("apply", services=["gateway"], diff="-x: 1\n+x: 2\n")  # interrupted or not: it may be looked at
    with pytest.raises(report.WrongAnswer, match="a change is in service since, so this would be a measurement"):
        answer(run, scenario, predictions=(f"{name}={true}",))
    answer(run, scenario, predictions=())
    assert report.score(run, scenario)["predictions"] == 0


def test_a_change_that_was_not_served_leaves_room_for_a_prediction(run, scenario):
    name, true = next(iter(scenario.truth.predictions.items()))
    run.event("apply", services=["gateway"], diff="-x: 1\n+x: a\n")
    run.event("apply_failed", services=["gateway"], problem="not a number")
    run.event("apply", services=["moderation"], diff="")  # it had ended, and was started again
    answer(run, scenario, predictions=(f"{name}={true}",))
    assert report.score(run, scenario)["predictions"] == report.PREDICTION_POINTS


@pytest.mark.parametrize("diff", ["-x: 2\n+x: a\n", ""], ids=["a change", "a service that had ended"])
def test_what_could_not_be_served_hides_no_earlier_change(run, scenario, diff):
    """Exploit: mend it, measure, apply something that cannot be served, and "predict"."""
    name, true = next(iter(scenario.truth.predictions.items()))
    run.event("apply", services=["gateway"], diff="-x: 1\n+x: 2\n")
    run.event("apply", services=["gateway"], diff=diff)
    run.event("apply_failed", services=["gateway"], problem="not a number")
    with pytest.raises(report.WrongAnswer, match="a change is in service since"):
        answer(run, scenario, predictions=(f"{name}={true}",))


def test_what_is_read_off_a_check_is_no_prediction(run, scenario):
    """Exploit: each check shows what the healthy stack has, and a prediction follows from it."""
    name, true = next(iter(scenario.truth.predictions.items()))
    check(run, bad=20)
    with pytest.raises(report.WrongAnswer, match="the stack was graded since, beside figures of the healthy one"):
        answer(run, scenario, predictions=(f"{name}={true}",))
    answer(run, scenario, predictions=())
    assert report.score(run, scenario)["predictions"] == 0


def test_a_score_without_deductions_has_none(run, scenario):
    """Bug: it was -0."""
    answer(run, scenario)
    assert "| repeated diagnoses | 0 |" in section(report.render(run, scenario), "Score")


def test_what_is_read_off_the_first_answer_is_no_prediction(run, scenario):
    """Exploit: the answer shows what a healthy run has, and a prediction follows from it. The first one counts."""
    name, true = next(iter(scenario.truth.predictions.items()))
    answer(run, scenario, predictions=(f"{name}={true * 0.75}",))
    with pytest.raises(report.WrongAnswer, match="an answer was graded before, and answers show figures"):
        answer(run, scenario, predictions=(f"{name}={true}",))
    answer(run, scenario)
    assert report.score(run, scenario)["predictions"] == pytest.approx(report.PREDICTION_POINTS * 0.5)


def test_a_first_answer_that_forgets_the_prediction_is_asked_for_it_and_costs_nothing(run, scenario):
    name = next(iter(scenario.truth.predictions))
    with pytest.raises(report.WrongAnswer, match=f"--predict {name}=NUMBER is missing.*{name}=none goes without"):
        answer(run, scenario, predictions=())
    assert list(run.events("diagnosis")) == []
    answer(run, scenario)
    assert answer(run, scenario, predictions=())["deducted"] == report.ATTEMPT_COST


def test_earlier_answers_cost_no_more_than_the_last_one_earns(run, scenario):
    """Bug: fifteen answers cost 56 points, and the mend with them."""
    check(run)
    for _ in range(3):
        answer(run, scenario)
    assert report.score(run, scenario)["repeated diagnoses"] == -2 * report.ATTEMPT_COST
    for _ in range(12):
        found = answer(run, scenario)
    assert found["deducted"] == found["score"]
    assert answer(run, scenario, right=False)["deducted"] == 0
    assert report.score(run, scenario)["total"] == report.FIX_POINTS


@pytest.mark.parametrize("guess", ["nan", "inf", "-inf"])
def test_a_prediction_that_is_no_number_earns_nothing(run, scenario, guess):
    """Exploit: NaN is neither near nor far, and a careless maximum makes points of it."""
    name = next(iter(scenario.truth.predictions))
    answer(run, scenario, predictions=(f"{name}={guess}",))
    assert report.score(run, scenario)["predictions"] == 0


@pytest.mark.parametrize("text", ["NAME", "NAME=", "NAME=much", "other=0.5", "=1"])
def test_a_prediction_that_cannot_be_read_names_what_is_asked_for(run, scenario, text):
    name = next(iter(scenario.truth.predictions))
    with pytest.raises(RunError, match=name):
        answer(run, scenario, predictions=(text.replace("NAME", name),))


def test_hints_cost_but_never_below_nothing(run, scenario):
    for number in range(3):
        run.event("hint", number=number + 1)
    assert report.score(run, scenario) == {**NOTHING, "hints": -3 * report.HINT_COST}
    check(run)
    assert report.score(run, scenario)["total"] == report.FIX_POINTS - 3 * report.HINT_COST


# ── the report ──


def test_the_report_names_the_drill_and_tells_its_story_in_order(run, scenario):
    run.event("started", purpose="drill")
    run.event("symptom", value=0.25, seconds=12.0)
    run.event("hint", number=1)
    run.event("apply", services=["llm"], diff="-  max_num_seqs: 1\n+  max_num_seqs: 16")
    run.event("apply_interrupted", services=["llm"])
    run.event("apply", services=["llm"], diff="")  # of the same, for a service that it had left stopped
    run.event("applied", services=["llm"])
    run.event("process", service="gateway", state="exited", pid=7, exit_status=-1)
    run.event("process", service="gateway", state="running", pid=8, exit_status=None)
    check(run, bad=20)
    answer(run, scenario)
    check(run)
    run.event("stopped")
    text = report.render(run, scenario)
    assert text.startswith(f"# {scenario.public.title}\n")
    assert "run `20270115-080000-beef`, started 2027-01-15 08:00 UTC" in text
    told = [line.split(" | ", 1)[1].rstrip(" |") for line in section(text, "Timeline").splitlines()[4:] if line]
    assert [one.split(":")[0] for one in told] == [
        "drill started", "the symptom shows", "hint 1", "an apply was interrupted", "applied; restarted llm",
        "gateway exited", "check 1", "diagnosis", "check 2", "stopped",
    ]  # fmt: skip
    assert section(text, "Changes").strip() == "```diff\n-  max_num_seqs: 1\n+  max_num_seqs: 16\n```"


def test_the_newest_check_is_shown_with_every_value(run, scenario):
    check(run)
    check(run, bad=20)
    text = section(report.render(run, scenario), "Checks")
    assert text.startswith(" (number 2: fail)")
    for name in ("goodput", "prompt", "answer_work", "cost", "budget"):
        assert f"\n| {name} | " in text
    assert "| goodput | fail | 5.0× | 50.0% of the offered requests met every objective" in text


def test_a_check_without_a_verdict_says_why(run, scenario):
    check(run, changes={"conditions.host.steal_share": 0.5})
    text = section(report.render(run, scenario), "Checks")
    assert "(number 1: cannot grade)" in text
    assert "* other programs on this machine used 52% of its CPU" in text


def test_the_table_of_checks_is_a_table_also_below_reasons(run, scenario):
    """Bug: a line that follows a list item belongs to it, in Markdown; only an empty line ends the list."""
    check(run, changes={"conditions.host.steal_share": 0.5})
    assert "\n\n| check | result |" in section(report.render(run, scenario), "Checks")


def test_a_drill_in_which_nothing_was_done_can_be_reported(run, scenario):
    text = report.render(run, scenario)
    assert "The stack was not graded." in text
    assert "Nothing was changed." in text


@pytest.mark.parametrize("event", ["stopped", "time_box"])
def test_the_debrief_comes_when_the_drill_is_over(run, scenario, event):
    assert scenario.debrief.strip() not in report.render(run, scenario)
    run.event(event)
    assert scenario.debrief.strip() in report.render(run, scenario)


def test_the_debrief_comes_after_a_pass_and_not_after_a_failure(run, scenario):
    """Exploit: read the solution in the report of a drill that is still on."""
    check(run, bad=20)
    check(run, changes={"conditions.host.steal_share": 0.5})
    assert scenario.debrief.strip() not in report.render(run, scenario)
    check(run)
    assert scenario.debrief.strip() in report.render(run, scenario)


def test_no_key_is_in_the_report(run, scenario):
    check(run)
    run.event("stopped")
    assert "lab-secret" not in report.render(run, scenario)


def test_the_report_is_written_into_the_run_or_where_it_is_wanted(run, scenario, tmp_path):
    assert report.write(run, scenario) == run.folder / "report.md"
    assert report.write(run, scenario, tmp_path / "other.md").read_text() == (run.folder / "report.md").read_text()


def test_a_report_that_cannot_be_written_is_a_clear_error(run, scenario, tmp_path):
    with pytest.raises(RunError, match=r"cannot write the report to .*: No such file or directory"):
        report.write(run, scenario, tmp_path / "no/such/folder.md")


def test_each_further_diagnosis_costs_points(run, scenario):
    """Exploit: try one pair of words after the other, and keep the last."""
    for _ in range(3):
        run.event("diagnosis", points=1.0, predictions={}, answer={}, reasons=[])
    points = report.score(run, scenario)
    assert points["repeated diagnoses"] == -2 * report.ATTEMPT_COST
    assert points["total"] == report.DIAGNOSIS_POINTS - 2 * report.ATTEMPT_COST


def test_nobody_is_graded_on_a_diagnosis_after_reading_the_debrief(run, scenario):
    run.event("stopped")
    report.write(run, scenario)
    offered = scenario.public.diagnosis
    with pytest.raises(RunError, match="debrief"):
        report.diagnose(run, scenario, offered.components[0], offered.mechanisms[0], "", [])


# ── what may be told when ──


def test_a_prediction_is_told_with_the_truth_and_its_points_only_once_the_solution_may_be_told(run, scenario):
    name, true = next(iter(scenario.truth.predictions.items()))
    answer(run, scenario, predictions=(f"{name}={true * 0.9}",))
    before = section(report.render(run, scenario), "Score")
    assert f"Prediction `{name}`: {true * 0.9:g}" in before
    assert "it is" not in before
    check(run)
    after = section(report.render(run, scenario), "Score")
    assert f"it is {true:g}, 80% of its points" in after


def test_each_part_of_the_score_says_how_many_points_there_are(run, scenario):
    text = section(report.render(run, scenario), "Score")
    assert "| fix | 0 | 60 |" in text
    assert "| total | 0 | 100 |" in text


def test_the_timeline_says_what_each_diagnosis_was_worth(run, scenario):
    answer(run, scenario, right=False)
    answer(run, scenario)
    timeline = section(report.render(run, scenario), "Timeline")
    assert re.findall(r"(\d+)% of its points", timeline) == ["0", "67"]
    assert timeline.count(", no evidence, ") == 2


def test_a_query_with_a_bar_does_not_break_the_table_of_the_timeline(run, scenario):
    query = 'sum(a{b=~"c|d"})\n / sum(e)'
    said = {"component": "caller", "mechanism": "capacity-exceeded", "query": query}
    run.event("diagnosis", answer=said, points=0.0, reasons=[], values={}, predictions={})
    told = section(report.render(run, scenario), "Timeline")
    assert r'`sum(a{b=~"c\|d"}) / sum(e)`' in told


def test_the_decoy_is_named_with_the_solution_and_not_before(run, scenario):
    answer(run, scenario)
    title = scenario.truth.decoy.title
    assert title not in report.render(run, scenario)
    check(run)
    assert f"The decoy, which has the same symptom: {title}." in report.render(run, scenario)
