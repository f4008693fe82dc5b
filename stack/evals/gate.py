"""Whether a release may ship: every metric against the baseline, example by example, with its interval.

A metric blocks only where the whole confidence interval of its change lies beyond its tolerance: a release is not
stopped for what may be chance. Nothing passes for want of evidence: what cannot be compared is not judged, and does not
ship.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from stack.evals import tasks
from stack.evals.baseline import DIGITS, Baseline
from stack.evals.errors import NotComparable
from stack.evals.example import Row
from stack.evals.judge import Choice, at_equal_length, kappa
from stack.evals.statistics import AGGREGATES, Interval, paired, smallest_effect
from stack.evals.suite import AT_ONCE, COVERAGE, Metric, Mode, Named
from stack.evals.tasks.preference import KNOWN, SEEN

Outcome = Literal["pass", "warn", "unjudged", "block"]
COVERAGE_TOLERANCE = 0.01
"""Share of the examples that may fail by more than in the baseline."""
REFUSED_NOW = Metric(score=tasks.AT_ONCE, tolerance=0.02)
"""Share of the examples that are answered at the first time of asking; the suites ask again, and users may not."""


@dataclass(frozen=True)
class Finding:
    """What became of one metric."""

    suite: str
    metric: str
    outcome: Outcome
    baseline: float
    candidate: float
    interval: Interval
    """Of the change, where above 0 is better; of a metric that should stay the same, below 0 is any change."""
    tolerance: float
    examples: int
    smallest: float
    """How much worse it must be to be blocked with 80 % power."""
    reason: str
    kappa: float | None = None
    """Agreement with known pairs of the language model that judged it; None where none did."""


@dataclass(frozen=True)
class Trust:
    """How far a judging model can be believed."""

    kappa: float
    pairs: int
    least: float
    equal_length: float
    """Its preference for the release if all answers were as long as the baseline's."""

    @property
    def enough(self) -> bool:
        return self.kappa >= self.least


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a suite."""

    suite: str
    about: str
    findings: tuple[Finding, ...]
    trust: Trust | None = None
    errors: tuple[str, ...] = ()
    """The first failures of examples."""
    compared_with: str = ""
    """The machine that the baseline was made on."""
    problem: str | None = None
    """Why it is not judged."""

    @property
    def outcome(self) -> Outcome:
        """The worst of its findings."""
        return "unjudged" if self.problem else worst(finding.outcome for finding in self.findings)

    @property
    def complaint(self) -> bool:
        """Whether a judging model finds the release worse: what has to be seen again before it blocks."""
        return any(one.kappa is not None and one.outcome != "pass" for one in self.findings)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """What comes of all together; pass where there are none."""
    return max(outcomes, key=get_args(Outcome).index, default="pass")


def judge_suite(
    suite: Named, mode: Mode, rows: Mapping[str, Row], baseline: Baseline, confirmed: bool | None = None
) -> Verdict:
    """Compare. `rows` are of all examples of the run. `confirmed`: whether a judged regression was seen again.

    Raises NotComparable: run and baseline are of different examples, the judge gave hardly any verdict, or no example
    has the score of a metric while no other one blocks.
    """
    _same_examples(suite, mode, rows, baseline)
    names = sorted(rows)
    _same_answers(suite, rows, baseline)
    trust = _trust(suite, rows)
    names = [name for name in names if rows[name].failed != "judge"]  # which is not the release's fault
    findings = [_coverage(suite, rows, baseline, names)]
    unmeasured: list[str] = []
    for name, metric in {AT_ONCE: REFUSED_NOW, **suite.suite.metrics}.items():
        for named, part in _parts(suite, name, metric):
            try:
                findings += _findings(suite, named, metric, part, rows, baseline, names, trust, confirmed)
            except NotComparable as problem:
                unmeasured.append(str(problem))
    if unmeasured and worst(finding.outcome for finding in findings) != "block":
        raise NotComparable(f"{suite.name}: {unmeasured[0]}")  # what blocks needs no more; what would pass does
    errors = unmeasured + [f"{name}: {row.error}" for name, row in sorted(rows.items()) if row.error]
    return Verdict(suite.name, suite.suite.about, tuple(findings), trust, tuple(errors[:3]), baseline.machine)


def visible(suite: Named, baseline: Baseline, slices: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, int, float]]:
    """Each metric with the number of its examples and the smallest loss that is blocked with 80 % power. `slices`: of
    the examples of a run, by name."""
    yield COVERAGE, len(slices), smallest_effect(np.ones(len(slices)), COVERAGE_TOLERANCE)
    for name, metric in {AT_ONCE: REFUSED_NOW, **suite.suite.metrics}.items():
        for named, part in _parts(suite, name, metric):
            scores = [baseline.scores[example] for example, its in slices.items() if part <= set(its)]
            before = np.array([one[metric.score] for one in scores if metric.score in one])
            if len(before):
                yield named, len(before), _smallest(metric, before, _tolerance(metric, float(before.mean())))


def _same_examples(suite: Named, mode: Mode, rows: Mapping[str, Row], baseline: Baseline) -> None:
    """A release must not choose what it is asked, nor what is right: its code reads both. Raises NotComparable."""
    wanted = baseline.examples(mode)
    changed = sorted(name for name in rows.keys() & wanted if rows[name].digest != baseline.asked[name])
    for names, told in (
        (sorted(rows.keys() - wanted), "are not in the baseline"),
        (sorted(wanted - rows.keys()), "of the baseline were not asked"),
        (changed, "are others than those of this name in the baseline, or another answer to them is right"),
    ):
        if names:
            raise NotComparable(f"{suite.name}: {len(names)} examples {told}, the first is {names[0]}")


def _same_answers(suite: Named, rows: Mapping[str, Row], baseline: Baseline) -> None:
    """What a judge compared must be the answers of this baseline. Raises NotComparable."""
    for name, before in baseline.answers.items():
        if name in rows and rows[name].error is None and rows[name].output["other"] != before:
            raise NotComparable(
                f"{suite.name}: the answers of {name} were compared with those of another baseline; run it again"
            )


def _coverage(suite: Named, rows: Mapping[str, Row], baseline: Baseline, names: Sequence[str]) -> Finding:
    now = np.array([float(rows[name].error is None) for name in names])
    before = np.array([float(bool(baseline.scores[name])) for name in names])
    metric = Metric(score="answered", tolerance=COVERAGE_TOLERANCE)
    return _compared(suite, COVERAGE, metric, now, before, np.full(len(names), np.nan), None, None)


def _parts(suite: Named, name: str, metric: Metric) -> Iterator[tuple[str, frozenset[str]]]:
    """What a metric is computed of: its name, and the slices that an example must be in."""
    own = frozenset({metric.slice} if metric.slice else ())
    if not metric.by_collection:
        yield name, own
        return
    for collection in suite.suite.collections:
        yield f"{name} of {collection}", own | {collection}


def _findings(
    suite: Named, name: str, metric: Metric, part: frozenset[str], rows: Mapping[str, Row], baseline: Baseline,
    names: Sequence[str], trust: Trust | None, confirmed: bool | None,
) -> Iterator[Finding]:  # fmt: skip
    """One; none where no example of it was answered, which `coverage` tells. Raises NotComparable."""
    worst = tasks.task_of(suite).WORST.get(metric.score)
    now, before, labels = [], [], []
    for example in names:
        row = rows[example]
        if not part <= set(row.slices):
            continue
        scores = baseline.scores[example]
        there = scores.get(metric.score) if scores else worst
        here = row.scores.get(metric.score) if row.error is None else worst
        if there is None or here is None:
            continue  # a score without a worst value is of answers alone; `coverage` counts the rest
        now.append(round(here, DIGITS))  # as those of the baseline are: what is the same shows no change
        before.append(there)
        labels.append(row.scores.get("label", np.nan))
    if now:
        yield _compared(suite, name, metric, np.array(now), np.array(before), np.array(labels), trust, confirmed)
    elif not any(part <= set(rows[example].slices) and rows[example].error is not None for example in names):
        raise NotComparable(f"no example has the score '{metric.score}' for the metric '{name}'")


def _compared(
    suite: Named, name: str, metric: Metric, now: np.ndarray, before: np.ndarray, labels: np.ndarray,
    trust: Trust | None, confirmed: bool | None,
) -> Finding:  # fmt: skip
    aggregate = AGGREGATES[metric.aggregate]
    candidate, reference = aggregate(now, labels), aggregate(before, labels)
    change = paired(aggregate, now, before, labels)
    if metric.better == "lower" or (metric.better == "same" and change.difference > 0):
        change = Interval(-change.difference, -change.high, -change.low)
    tolerance = _tolerance(metric, reference)
    worse = change.high < -tolerance
    outcome, reason = _outcome(metric, worse, change, tolerance, trust, confirmed)
    smallest = _smallest(metric, before, tolerance)
    return Finding(
        suite.name, name, outcome, reference, candidate, change, tolerance, len(now), smallest, reason,
        kappa=trust.kappa if trust is not None and metric.tier == "judged" else None,
    )  # fmt: skip


def _tolerance(metric: Metric, reference: float) -> float:
    """In the metric's own unit, beside a baseline of `reference`."""
    return metric.tolerance * (abs(reference) if metric.relative else 1.0)


def _smallest(metric: Metric, before: np.ndarray, tolerance: float) -> float:
    """The smallest loss that is seen; NaN where that is not known, infinite where all that there is can be lost."""
    if metric.aggregate != "mean":
        return float("nan")
    mean = float(before.mean())
    room = {"higher": mean, "lower": 1 - mean, "same": max(mean, 1 - mean)}[metric.better]
    return smallest_effect(before, tolerance, room)


def _outcome(
    metric: Metric, worse: bool, change: Interval, tolerance: float, trust: Trust | None, confirmed: bool | None
) -> tuple[Outcome, str]:
    if np.isnan([change.difference, change.low, change.high]).any():
        return "block", "it cannot be computed from these examples"
    word = "other" if metric.better == "same" else "worse"
    if not worse:
        if change.difference < -tolerance:
            return "pass", f"{word} than tolerated, but that may be chance"
        return "pass", "better" if change.low > 0 else f"no {word} than tolerated"
    if metric.tier == "timing":
        return "warn", "slower; times never block"
    if metric.tier == "judged":
        if trust is not None and not trust.enough:
            return "warn", f"the judge agrees too little with known pairs (kappa {trust.kappa:.2f}): it may not block"
        if not confirmed:
            return "warn", "not confirmed by judging again" if confirmed is False else "not judged again yet"
        return "block", "worse, and confirmed by judging again"
    return "block", f"{word} than tolerated, beyond chance"


def _trust(suite: Named, rows: Mapping[str, Row]) -> Trust | None:
    judge = suite.suite.judge
    if judge is None:
        return None
    asked = [row for row in rows.values() if KNOWN in row.slices]
    known = [row for row in asked if row.error is None]
    if 2 * len(known) < len(asked):
        why = next(row.error for row in asked if row.error is not None)
        raise NotComparable(
            f"{suite.name}: the judge gave a verdict on {len(known)} of {len(asked)} known pairs only: {why}"
        )
    wanted = [row for row in rows.values() if SEEN in row.slices and row.failed != "stack"]
    silent = [row for row in wanted if row.failed == "judge"]
    if 2 * len(silent) > len(wanted):
        raise NotComparable(
            f"{suite.name}: the judge gave no verdict on {len(silent)} of {len(wanted)} answers of the release: "
            f"{silent[0].error}"
        )
    said: list[Choice] = [row.output["choice"] for row in known]
    right: list[Choice] = [row.output["known"] for row in known]
    seen = [row for row in rows.values() if SEEN in row.slices and row.error is None]
    wins = np.array([row.scores["preferred"] for row in seen])
    lengths = np.array([row.scores["length"] for row in seen])
    return Trust(kappa(said, right), len(known), judge.least_kappa, at_equal_length(wins, lengths))
