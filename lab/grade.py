"""Checks to verdict: a pure function of what a graded load left in its folder.

First it is asked whether the run can be graded at all: was the planned load offered, was the machine ours, was it as
fast as when it was calibrated, were the metrics there. Only then are the checks compared. So noise can cost a verdict,
but it cannot turn one round.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from lab.host import QUIET_SHARE
from lab.measure import SCRAPED_SHARE, load_figures
from lab.quality import Paired, paired, scores
from lab.scenario import (
    AlarmCheck,
    Bound,
    Check,
    Cost,
    Goodput,
    Level,
    Objectives,
    PromptHolds,
    Public,
    Quality,
    Work,
)
from lab.traffic import delivery
from loadtests import LoadError
from loadtests.plan import Plan, read_plan
from loadtests.rows import Rows, read_rows

SCHEMA = 1
MARGIN = 1.5  # that a proof asks for: of goodput misses and cost, and of the tokens of a cheat
# The machine's speed as a share of its speed at calibration. A slower machine can fail a good stack, so the limit is
# close; a faster one cannot carry a bad stack over a threshold that it misses by MARGIN.
SLOWEST, FASTEST = 0.85, 1.25
STALL_SECONDS = 2.0  # the machine as a whole stood still
MOST_SAID = 1000  # of a margin

Outcome = Literal["pass", "fail", "not_measured"]
WORDS = {"<=": "at most", ">=": "at least"}
Verdict = Literal["pass", "fail", "cannot_grade"]


@dataclass(frozen=True)
class CheckResult:
    """One check. `margin`: the factor, or the number of paired standard errors, by which the value clears (pass) or
    misses (fail) the threshold; None: exact."""

    id: str
    title: str
    kind: str
    outcome: Outcome
    value: float | None
    threshold: float | tuple[float, float] | None
    op: str
    healthy: float | None
    margin: float | None
    reason: str
    margin_unit: Literal["×", "SE"] = "×"


@dataclass(frozen=True)
class Grade:
    """A verdict with everything that it rests on."""

    verdict: Verdict
    reasons: tuple[str, ...]
    checks: tuple[CheckResult, ...]
    figures: dict[str, float | None]
    conditions: dict[str, Any]
    schema_version: int = SCHEMA

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def margin_in_words(margin: float, unit: str) -> str:
    """A margin with its unit, which is a factor or a number of standard errors; above a thousand no more than that."""
    number = f"{margin:.1f}" if margin <= MOST_SAID else f"over {MOST_SAID:,}"
    return f"{number}{'×' if unit == '×' else f' {unit}'}"


def grade(folder: Path, public: Public) -> Grade:
    """The grade of the load in `folder` (plan, rows, measurements.json); raises OSError or ValueError without them."""
    measured = json.loads((folder / "measurements.json").read_text())
    plan = read_plan(folder / "plan.jsonl")
    try:
        rows = read_rows(folder / "rows.jsonl")
    except LoadError as problem:
        reasons = (f"the load generator left no usable rows: {problem}",)
        return Grade("cannot_grade", reasons, (), {}, measured["conditions"])
    sent = delivery(folder, plan, rows)
    cut_at = rows.end.seconds if rows.end and sent.cut_short else None
    figures = load_figures(rows.rows, plan.header.requests, public.objectives, cut_at)
    scored = _scores(public, plan, rows, measured, cut_short=cut_at is not None)
    checks = tuple(_check(check, figures, measured, public.objectives, scored) for check in public.checks)
    conditions = measured["conditions"] | {"delivery": asdict(sent)}
    problems = [text for text in (sent.problem, *_disturbances(measured)) if text]
    verdict, reasons = _verdict(problems, checks)
    if verdict == "pass" and sent.cut_short:
        verdict, reasons = "cannot_grade", ("the load was cut short, which can show a failure but no pass",)
    return Grade(verdict, reasons, checks, figures, conditions)


def _scores(
    public: Public, plan: Plan, rows: Rows, measured: Mapping[str, Any], cut_short: bool
) -> dict[str, Paired | None]:
    """For each check of quality, the load's answers beside the healthy stack's; None where there are none."""
    found: dict[str, Paired | None] = {}
    for check in public.checks:
        if isinstance(check, Quality):
            healthy = measured["healthy"]["labelled"].get(check.measure, {})
            mine = scores(check.measure, plan.arrivals, rows.rows, only_ended=cut_short)
            known = mine.keys() <= healthy.keys()
            found[check.id] = paired(mine, healthy, check.ratio_to_healthy) if known else None
    return found


def _verdict(problems: list[str], checks: tuple[CheckResult, ...]) -> tuple[Verdict, tuple[str, ...]]:
    if problems:
        return "cannot_grade", tuple(problems)
    failed = [check for check in checks if check.outcome == "fail"]
    if failed:
        return "fail", tuple(check.reason for check in failed)
    unknown = [check for check in checks if check.outcome == "not_measured"]
    if unknown:
        return "cannot_grade", tuple(check.reason for check in unknown)
    return "pass", ()


def _disturbances(measured: Mapping[str, Any]) -> list[str]:
    """Reasons outside the stack why this run proves nothing."""
    conditions, found = measured["conditions"], []
    host, anchors = conditions["host"], conditions["anchors"]
    outside = host["outside_share"] + host["steal_share"]
    if outside > QUIET_SHARE:
        found.append(
            f"other programs on this machine used {outside:.0%} of its CPU during the load (at most "
            f"{QUIET_SHARE:.0%}): close them and check again"
        )
    if host["worst_stall_seconds"] > STALL_SECONDS:
        found.append(f"the machine stood still for {host['worst_stall_seconds']:.1f} s during the load: check again")
    for when in ("before", "after"):
        ratio = anchors[when] / anchors["calibrated"]
        if not same_speed(anchors[when], anchors["calibrated"]):
            found.append(
                f"this machine ran at {ratio:.0%} of its calibrated speed {when} the load (allowed: "
                f"{SLOWEST:.0%} to {FASTEST:.0%}): check again, or run `lab calibrate`"
            )
    if conditions["ended"]:
        found.append(
            f"during the load a service ended: {', '.join(conditions['ended'])}. Check again; if it ends again, "
            "`lab logs` says why"
        )
    for job, share in measured["metrics"]["services_up"].items():
        if share is not None and 0 < share < SCRAPED_SHARE:  # 0: it did not run, and its checks tell what that means
            found.append(f"Prometheus could read {job} for {share:.0%} of the load only: check again")
    found += [problem for problem in (conditions["changed"], measured["metrics"]["problem"]) if problem]
    if problem := measured["healthy"]["problem"]:
        found.append(f"there is no healthy run to compare with: {problem}. `lab stop` and `lab start` measure again")
    return found


def same_speed(anchor: float, calibrated: float) -> bool:
    """Whether the machine runs as fast as when it was calibrated (rounds/s of `lab.anchor`)."""
    return SLOWEST <= anchor / calibrated <= FASTEST


def _check(
    check: Check,
    figures: Mapping[str, Any],
    measured: Mapping[str, Any],
    objectives: Objectives,
    scored: Mapping[str, Paired | None],
) -> CheckResult:
    match check:
        case Goodput():
            return _goodput(check, figures["goodput"], objectives)
        case Work():
            return _ratio(check, figures[check.field], measured["healthy"]["figures"][check.field], "tokens per answer")
        case Cost():
            return _ratio(check, measured["metrics"]["costs"][check.id], measured["healthy"]["costs"][check.id], "")
        case Level():
            return _level(check, measured["metrics"]["levels"][check.id])
        case AlarmCheck():
            return _level(check, measured["alarms"][check.id])
        case Bound():
            return _bound(check, measured["config"])
        case PromptHolds():
            return _prompts(check, measured["prompts"][check.id])
        case Quality():
            return _quality(check, scored[check.id])


def _goodput(check: Goodput, value: float, objectives: Objectives) -> CheckResult:
    passed = value >= check.value
    missed, allowed = 1 - value, 1 - check.value
    limits = objectives.in_words()
    reason = f"{value:.1%} of the offered requests met every objective ({limits}); at least {check.value:.0%} must"
    return _result(check, passed, value, check.value, None, _factor(passed, missed, allowed), reason)


def _ratio(check: Work | Cost, value: float | None, healthy: float | None, unit: str) -> CheckResult:
    """Compares value with ratio × healthy."""
    ratios = check.ratio_to_healthy
    low, high = ratios if isinstance(ratios, tuple) else (ratios, ratios)
    value, healthy = _finite(value), _finite(healthy)
    if value is None or healthy is None or healthy <= 0:
        what = "the run gave no value" if value is None else "the healthy run on this machine gave no value"
        threshold = None if healthy is None else low * healthy
        return CheckResult(check.id, check.title, check.kind, "not_measured", value, threshold, check.op, healthy,
                           None, f"{check.title}: {what}, so it cannot be compared")  # fmt: skip
    floor = low * healthy if check.op != "<=" else -math.inf
    ceiling = high * healthy if check.op != ">=" else math.inf
    passed = floor <= value <= ceiling
    if check.op == "<=":
        threshold, margin = ceiling, _factor(passed, value, ceiling)
    elif check.op == ">=":
        threshold, margin = floor, _factor(passed, floor, value)
    else:
        threshold, margin = (floor, ceiling), None
    unit = f" {unit}" if unit else ""
    allowed = f"{floor:.4g} to {ceiling:.4g}" if check.op == "between" else f"{WORDS[check.op]} {threshold:.4g}"
    reason = f"{check.title}: {value:.4g}{unit}, allowed {allowed} (healthy {healthy:.4g})"
    return _result(check, passed, value, threshold, healthy, margin, reason)


def _level(check: Level | AlarmCheck, value: float | None) -> CheckResult:
    value = _finite(value)
    if value is None:
        return CheckResult(check.id, check.title, check.kind, "not_measured", None, check.value, check.op, None, None,
                           f"{check.title}: the run gave no value")  # fmt: skip
    passed = _holds(value, check.op, check.value)
    actual, limit = (value, check.value) if check.op == "<=" else (check.value, value)
    reason = f"{check.title}: {value:.4g}, {WORDS[check.op]} {check.value:.4g} is allowed"
    return _result(check, passed, value, check.value, None, _factor(passed, actual, limit), reason)


def _bound(check: Bound, config: Mapping[str, Any]) -> CheckResult:
    service, *path = check.key.split(".")
    value: Any = config[service]
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    if not isinstance(value, int | float):
        return CheckResult(check.id, check.title, check.kind, check.absent, None, check.value, check.op, None, None,
                           f"{check.title}: {check.key} is not set to a number")  # fmt: skip
    passed = _holds(value, check.op, check.value)
    reason = f"{check.title}: {check.key} is {value:,}, allowed {WORDS[check.op]} {check.value:,.12g}"
    return _result(check, passed, float(value), check.value, None, None, reason)


def _prompts(check: PromptHolds, found: Mapping[str, Any]) -> CheckResult:
    value, missing = found["share"], found["missing"]
    if value is None:
        return CheckResult(check.id, check.title, check.kind, "not_measured", None, check.value, check.op, None, None,
                           f"{check.title}: no request was answered, so there is no prompt to look at")  # fmt: skip
    reason = f"{check.title}: {value:.1%} of the required texts are in the engine's prompts, {check.value:.0%} must be"
    if missing:
        reason += f"; missing first: {missing}"
    return _result(check, value >= check.value, value, check.value, None, None, reason)


def _quality(check: Quality, found: Paired | None) -> CheckResult:
    if found is None:
        return CheckResult(check.id, check.title, check.kind, "not_measured", None, None, check.op, None, None,
                           f"{check.title}: no answers that the healthy stack gave too, so nothing can be compared",
                           "SE")  # fmt: skip
    threshold = check.ratio_to_healthy * found.healthy
    reason = (
        f"{check.title}: {found.value:.3f} over {found.n} texts, at least {threshold:.3f} must be (the healthy stack: "
        f"{found.healthy:.3f} on the same texts, each text compared with itself)"
    )
    outcome: Outcome = "pass" if found.distance >= 0 else "fail"
    return CheckResult(check.id, check.title, check.kind, outcome, found.value, threshold, check.op, found.healthy,
                       found.standard_errors, reason, "SE")  # fmt: skip


def _result(
    check: Check,
    passed: bool,
    value: float,
    threshold: float | tuple[float, float],
    healthy: float | None,
    margin: float | None,
    reason: str,
) -> CheckResult:
    outcome: Outcome = "pass" if passed else "fail"
    return CheckResult(check.id, check.title, check.kind, outcome, value, threshold, check.op, healthy, margin, reason)


def _holds(value: float, op: Literal["<=", ">="], limit: float) -> bool:
    return value <= limit if op == "<=" else value >= limit


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _factor(passed: bool, actual: float, limit: float) -> float | None:
    """limit / actual when passed, else actual / limit: how many times the value could grow, or must shrink."""
    over, under = (limit, actual) if passed else (actual, limit)
    if under <= 0:
        return None  # nothing at all on the good side: no factor can express it
    return over / under
