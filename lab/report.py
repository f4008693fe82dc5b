"""The report of a drill: score, timeline, changes, measurements, debrief; Markdown, made from the run's folder."""

import json
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from lab.diagnosis import Diagnosis
from lab.diagnosis import grade as grade_diagnosis
from lab.grade import margin_in_words
from lab.promql import QueryError
from lab.run import Run, RunError
from lab.runtime.control import OVER
from lab.scenario import Scenario
from stack.settings import nearest

FIX_POINTS, DIAGNOSIS_POINTS, PREDICTION_POINTS = 60, 30, 10
HINT_COST, ATTEMPT_COST = 5, 4
_MOST = {"fix": FIX_POINTS, "diagnosis": DIAGNOSIS_POINTS, "predictions": PREDICTION_POINTS, "total": 100}


class WrongAnswer(RunError):
    """No answer that could be graded: words that are not offered, a query that cannot be read."""


def diagnose(
    run: Run, scenario: Scenario, component: str, mechanism: str, query: str, predictions: list[str]
) -> dict[str, Any]:
    """Grade an answer and keep it in the run; the last one counts.

    Raises RunError when it is too late, WrongAnswer when it is none: that costs nothing.
    """
    if any(run.events("debrief")):
        raise RunError("the debrief of this drill was read already: start a new one to be graded on a diagnosis")
    _require_words(scenario, component, mechanism)
    numbers = _predictions(run, scenario, predictions)
    said = Diagnosis(component=component, mechanism=mechanism, query=query)
    try:
        result = grade_diagnosis(said, scenario.truth.diagnosis, scenario.folder / "hidden")
    except QueryError as problem:
        raise WrongAnswer(f"--query: {problem}. Nothing was graded, and nothing is deducted") from problem
    answer = {
        "answer": {"component": component, "mechanism": mechanism, "query": query},
        "points": result.points,
        "reasons": list(result.sentences),
        "values": result.values,
        "predictions": numbers,
    }
    run.event("diagnosis", **answer)
    return answer | {
        "score": round(DIAGNOSIS_POINTS * result.points, 1),
        "score_of": DIAGNOSIS_POINTS,
        "deducted": round(_deducted(DIAGNOSIS_POINTS * result.points, sum(1 for _ in run.events("diagnosis"))), 1),
        "next_costs": ATTEMPT_COST,
    }


def _deducted(earned: float, answers: int) -> float:
    """Points for the answers before the last: never more than that one earned, so that they do not eat the mend."""
    return min(earned, ATTEMPT_COST * max(0, answers - 1))


def _predictions(run: Run, scenario: Scenario, texts: list[str]) -> dict[str, float]:
    """What is predicted; raises WrongAnswer where that comes too late, or is left out while it could be made."""
    said = parse_predictions(scenario, texts)
    numbers = {name: value for name, value in said.items() if value is not None}
    if late := too_late(run):
        if numbers:
            raise WrongAnswer(
                f"--predict: {late}, so this would be a measurement: leave it out. What was predicted before counts, "
                "and nothing is deducted"
            )
        return {}
    for item in scenario.public.predict:
        if item.id not in said:
            raise WrongAnswer(
                f"--predict {item.id}=NUMBER is missing: {item.ask} ({item.unit}). It comes with the first answer, for "
                f"answers show figures of healthy runs; --predict {item.id}=none goes without"
            )
    return numbers


def too_late(run: Run) -> str:
    """Why nobody predicts any more, as a clause; empty where they do."""
    if _changed(run):
        return "a change is in service since"
    if any(run.events("verdict")):
        return "the stack was graded since, beside figures of the healthy one"
    if any(run.events("diagnosis")):
        return "an answer was graded before, and answers show figures of healthy runs"
    return ""


def _changed(run: Run) -> bool:
    """Whether a change is in service, or was for a while."""
    changed = before = False
    for event in run.events():
        if event["kind"] == "apply":  # without a difference where it starts what had ended
            changed, before = changed or bool(event["diff"]), changed
        elif event["kind"] == "apply_failed":  # what ran before was put back
            changed = before
    return changed


def _require_words(scenario: Scenario, component: str, mechanism: str) -> None:
    """Raises WrongAnswer that says what to write instead."""
    offered = scenario.public.diagnosis
    for word, known, kind in (
        (component, offered.components, "component"),
        (mechanism, offered.mechanisms, "mechanism"),
    ):
        if word not in known:
            raise WrongAnswer(
                f"'{word}' is no {kind} of this scenario (`lab diagnose` without options lists them); "
                f"{nearest(word, known)}"
            )


def parse_predictions(scenario: Scenario, texts: list[str]) -> dict[str, float | None]:
    """`id=value` texts as numbers, `id=none` as None; raises WrongAnswer that names what is known."""
    known = [item.id for item in scenario.public.predict]
    found: dict[str, float | None] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in found:
            raise WrongAnswer(f"--predict {text}: {name} was given before")
        try:
            found[name] = None if value == "none" else float(value)
        except ValueError:
            raise WrongAnswer(f"--predict {text}: write ID=NUMBER; known: {', '.join(known) or 'none'}") from None
        if name not in known:
            raise WrongAnswer(f"--predict {text}: this scenario asks for {', '.join(known) or 'no prediction'}")
    return found


def score(run: Run, scenario: Scenario) -> dict[str, float]:
    """Points of 100: fix, diagnosis (the last answer), predictions, less hints and repeated answers."""
    verdicts = [event["verdict"] for event in run.events("verdict")]
    answers = list(run.events("diagnosis"))
    earned = DIAGNOSIS_POINTS * answers[-1]["points"] if answers else 0
    truths = scenario.truth.predictions
    said = predicted(answers)
    closeness = [closeness_of(said[name], value) for name, value in truths.items() if name in said]
    points = {
        "fix": FIX_POINTS if "pass" in verdicts else 0,
        "diagnosis": earned,
        "predictions": PREDICTION_POINTS * sum(closeness) / len(truths) if truths else 0,
        "hints": -HINT_COST * sum(1 for _ in run.events("hint")),
        "repeated diagnoses": 0 - _deducted(earned, len(answers)),  # a minus alone makes -0.0 of none
    }
    return {name: round(value, 1) for name, value in points.items()} | {
        "total": round(max(0.0, sum(points.values())), 1)
    }


def predicted(answers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The prediction of each figure: that of the first answer, for later ones have none."""
    return answers[0]["predictions"] if answers else {}


def closeness_of(said: float, true: float) -> float:
    """1 for the true value, less by twice the relative error, never below 0: nothing for what is off by half."""
    return max(0.0, 1 - 2 * abs(said - true) / abs(true))


def write(run: Run, scenario: Scenario, out: Path | None = None) -> Path:
    """The report as Markdown; raises RunError when it cannot be written."""
    path = out or run.folder / "report.md"
    try:
        path.write_text(render(run, scenario), encoding="utf-8")
        if tells_solution(run):
            run.event("debrief")
    except OSError as problem:
        raise RunError(f"cannot write the report to {path}: {problem.strerror}") from problem
    return path


def render(run: Run, scenario: Scenario) -> str:
    """The whole report. The debrief, which tells the solution, is in it only after a pass or the end of the drill."""
    parts = [_head(run, scenario), _score(run, scenario), _timeline(run), _checks(run), _changes(run)]
    if tells_solution(run):
        parts.append(f"## Debrief\n\n{scenario.debrief.strip()}\n")
    else:
        parts.append("## Debrief\n\nIt tells the solution, so it is added after a pass or `lab stop`.\n")
    return "\n".join(parts)


def tells_solution(run: Run) -> bool:
    """After a pass, or when the drill is over."""
    passed = any(event["verdict"] == "pass" for event in run.events("verdict"))
    return passed or any(event["kind"] in ("stopped", "time_box") for event in run.events())


def _head(run: Run, scenario: Scenario) -> str:
    started = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.info.started))
    return (
        f"# {scenario.public.title}\n\n{scenario.public.question.strip()}\n\n"
        f"Scenario `{scenario.id}`, level {scenario.public.level}, run `{run.info.run_id}`, started {started}, "
        f"practice load: {run.info.practice}.\n"
    )


def _score(run: Run, scenario: Scenario) -> str:
    points = score(run, scenario)
    lines = ["## Score", "", "| part | points | of |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {value:g} | {_MOST.get(name, '')} |" for name, value in points.items()]
    answers = list(run.events("diagnosis"))
    if answers:
        said = answers[-1]["answer"]
        lines += ["", *_told_predictions(scenario, predicted(answers), tells_solution(run))]
        lines += ["", f"Diagnosis: {said['component']} × {said['mechanism']}, evidence `{said['query'] or 'none'}`."]
        lines += [f"* {reason}" for reason in answers[-1]["reasons"]]
    if tells_solution(run):
        lines += ["", f"The decoy, which has the same symptom: {scenario.truth.decoy.title}."]
    return "\n".join(lines) + "\n"


def _told_predictions(scenario: Scenario, said: dict[str, float], tell: bool) -> list[str]:
    """A line for each prediction that the scenario asks for; the true value once it may be told."""
    lines = []
    for item in scenario.public.predict:
        true, mine = scenario.truth.predictions[item.id], said.get(item.id)
        text = f"Prediction `{item.id}`: " + ("none given" if mine is None else f"{mine:g} {item.unit}")
        if tell:
            worth = "" if mine is None else f", {closeness_of(mine, true):.0%} of its points"
            text += f"; it is {true:g}{worth}"
        lines.append(f"{text}.")
    return lines


def _timeline(run: Run) -> str:
    lines = ["## Timeline", "", "| after | event |", "| ---: | --- |"]
    for event in run.events():
        if text := _told(event):
            minutes, seconds = divmod(int(event["time"] - run.info.started), 60)
            lines.append(f"| {minutes}:{seconds:02d} | {text} |")
    return "\n".join(lines) + "\n"


def _told(event: dict[str, Any]) -> str | None:
    match event["kind"]:
        case "started":
            return "drill started"
        case "symptom":
            return "the symptom shows"
        case "applied":
            return f"applied; restarted {', '.join(event['services'])}"
        case "apply_failed":
            return "a configuration could not be served; the one before was put back"
        case "apply_interrupted":
            return "an apply was interrupted"
        case "hint":
            return f"hint {event['number']}"
        case "diagnosis":
            said = event["answer"]
            query = " ".join(said["query"].split())
            evidence = f"`{query}`" if query else "no evidence"
            earned = f"{event['points']:.0%} of its points"
            return f"diagnosis: {said['component']} × {said['mechanism']}, {evidence}, {earned}".replace("|", "\\|")
        case "verdict":
            return f"check {event['folder']}: **{event['verdict'].replace('_', ' ')}**"
        case "process" if event["state"] in OVER:
            return f"{event['service']} {event['state']}"
        case "time_box":
            return "time box over"
        case "stopped":
            return "stopped"
    return None


def _checks(run: Run) -> str:
    folder = run.last_check()
    if folder is None:
        return "## Checks\n\nThe stack was not graded.\n"
    verdict = json.loads((folder / "verdict.json").read_text())
    lines = [f"## Checks (number {folder.name}: {verdict['verdict'].replace('_', ' ')})", ""]
    lines += [*(f"* {reason}" for reason in verdict["reasons"]), ""] if verdict["verdict"] == "cannot_grade" else []
    lines += ["| check | result | margin | why |", "| --- | --- | ---: | --- |"]
    for item in verdict["checks"]:
        margin = "" if item["margin"] is None else margin_in_words(item["margin"], item["margin_unit"])
        lines.append(f"| {item['id']} | {item['outcome'].replace('_', ' ')} | {margin} | {item['reason']} |")
    figures = "  \n".join(f"{name}: {value:.4g}" for name, value in verdict["figures"].items() if value is not None)
    return "\n".join(lines) + f"\n\n{figures}\n"


def _changes(run: Run) -> str:
    applied = (event["diff"] for event in run.events("apply") if event["diff"])
    diffs = [diff for diff, _ in groupby(applied)]  # once, where it was tried again
    if not diffs:
        return "## Changes\n\nNothing was changed.\n"
    return "## Changes\n\n" + "\n".join(f"```diff\n{diff}\n```\n" for diff in diffs)
