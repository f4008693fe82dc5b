"""Grades what a learner says is wrong: a component, a mechanism, and a PromQL query as evidence."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lab.evidence import RUNS, compare, grows_alike, is_share, no_sizes, of_shares, of_symptoms, refusals
from lab.paths import SCENARIOS
from lab.prometheus import Sample
from lab.promql import QueryError, read
from lab.recording import Recording, loaded_ms
from lab.recording import load as load_recording
from lab.replay import Replay
from stack.settings import Settings, load, nearest

EXPLANATION_POINTS, QUERY_POINTS = 2 / 3, 1 / 3
MOMENTS = 5
TIMES = (1.2, 1.5)
"""Samples so many times as large tell a quantity: of x - 0.6 one could be found that grows as x² does."""
SYMPTOM = "But it gives the symptom: it tells that something is wrong, and other causes make it so as well."
LINE = (
    "it sets a quantity against a number, which makes all or nothing of any difference: give the quantity itself (of a "
    "share of 1, what is left to 1 is looked at as well)"
)


class Vocabulary(Settings):
    """`scenarios/vocabulary.yaml`: the words of a diagnosis with their meanings."""

    schema_: Literal[1] = Field(alias="schema")
    components: dict[str, str]
    mechanisms: dict[str, str]

    def problems(self, components: Iterable[str], mechanisms: Iterable[str]) -> list[str]:
        """The words that are not in the vocabulary, each with the nearest that is."""
        asked = (("component", components, self.components), ("mechanism", mechanisms, self.mechanisms))
        return [
            f"unknown {kind} '{word}'; {nearest(word, known)}"
            for kind, words, known in asked
            for word in words
            if word not in known
        ]


class Accepted(Settings):
    """An explanation that is right, or right in part."""

    component: str
    mechanism: str
    score: float = Field(1.0, gt=0, le=1)
    """share of the points for the explanation"""


class Recordings(Settings):
    """Files written by `lab.recording.record`."""

    broken: Path
    healthy: Path
    decoy: Path
    """the same symptom from another cause"""


class Truth(Settings):
    """What is wrong in a scenario, and what a query must tell apart to show it."""

    accepted: tuple[Accepted, ...] = Field(min_length=1)
    query: str | None = None
    """a query that tells the recordings apart, shown in the debrief"""
    recordings: Recordings
    symptoms: tuple[str, ...] = ()
    """patterns of further metrics that tell that something is wrong and not what, however far the decoy is from the
    broken run; latencies, queues and throughput of gateway and engine always do"""
    separation: float = Field(2.0, ge=1.5)
    """how many times the broken value must be the others, or the others it"""


class Diagnosis(BaseModel):
    """A learner's answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    component: str
    mechanism: str
    query: str = ""


class DiagnosisResult(BaseModel):
    """Points from 0 to 1, the query's value in each recording (None without one), and why."""

    model_config = ConfigDict(frozen=True)

    points: float
    explanation_points: float
    query_points: float
    values: dict[str, float | None]
    sentences: tuple[str, ...]


def load_vocabulary(path: Path = SCENARIOS / "vocabulary.yaml") -> Vocabulary:
    """The closed vocabulary. Raises ConfigError."""
    return load(path, Vocabulary)


def grade(answer: Diagnosis, truth: Truth, folder: Path = Path()) -> DiagnosisResult:
    """The points for `answer` and why; relative paths of recordings count from `folder`.

    There is no grade when QueryError is raised, for a query that cannot be evidence whatever its values, or
    RecordingError, PrometheusUnreachable or lab.paths.ToolMissing.
    """
    share, explained = _explanation(answer, truth)
    separates, values, why = _evidence(answer.query, truth, folder)
    explanation_points, query_points = EXPLANATION_POINTS * share, QUERY_POINTS * separates
    return DiagnosisResult(
        points=explanation_points + query_points,
        explanation_points=explanation_points,
        query_points=query_points,
        values=values,
        sentences=(explained, *why),
    )


def _explanation(answer: Diagnosis, truth: Truth) -> tuple[float, str]:
    """The share of the explanation's points, and a sentence."""
    said = f"{answer.component} with {answer.mechanism}"
    scores = [
        one.score for one in truth.accepted if (one.component, one.mechanism) == (answer.component, answer.mechanism)
    ]
    if not scores:
        return 0.0, f"{said} does not explain this incident."
    if max(scores) < 1:
        return max(scores), f"{said} explains part of this incident: {max(scores):.0%} of the points."
    return 1.0, f"{said} explains this incident."


def _evidence(query: str, truth: Truth, folder: Path) -> tuple[bool, dict[str, float | None], list[str]]:
    """Whether the query tells the recordings apart, its value in each, and sentences. Raises QueryError."""
    if not query.strip():
        return False, dict.fromkeys(RUNS), ["There is no query as evidence."]
    recordings = {run: load_recording(folder / file) for run, file in truth.recordings}
    seconds = min(recording.seconds for recording in recordings.values())
    if refused := refusals(query, recordings["broken"].metrics, seconds):
        raise QueryError("; ".join(refused))
    values = _values(query, recordings)
    comparison = compare(values, truth.separation, of_shares(query))
    if comparison.separates and read(query).constants and not _is_quantity(query, values, recordings):
        raise QueryError(LINE)
    if comparison.separates and of_symptoms(query, truth.symptoms):
        return False, values, [comparison.sentence, SYMPTOM]
    return comparison.separates, values, [comparison.sentence]


def _values(query: str, recordings: Mapping[str, Recording]) -> dict[str, float]:
    """The query's median over the later part of each recording's load, when the incident is there in full: a gauge is
    back at 0 when the recording ends. Raises QueryError, also where there is not one number at a time."""
    with Replay(recordings, metrics=read(query).metrics) as replay:
        found = {
            run: middle([_only(run, replay.query(run, query, before)) for before in moments(recording)])
            for run, recording in recordings.items()
        }
    if problems := no_sizes(found):
        raise QueryError(f"it cannot be compared: {'; '.join(problems)}")
    return {run: value for run, value in found.items() if value is not None}


def _is_quantity(query: str, values: Mapping[str, float], recordings: Mapping[str, Recording]) -> bool:
    """Whether the query gives what it reads, and sets it against no number. Of shares of 1 it may give the rest."""

    def grows(way: Callable[[str, float, float], float], times: float) -> bool:
        other = {run: _changed(one, way, times) for run, one in recordings.items()}
        return grows_alike(values, _values(query, other), times)

    ways = [_grown, _rest_grown] if any(map(is_share, read(query).metrics)) else [_grown]
    return any(all(grows(way, times) for times in TIMES) for way in ways)


def _grown(_: str, value: float, times: float) -> float:
    return times * value


def _rest_grown(metric: str, value: float, times: float) -> float:
    return 1 - times * (1 - value) if is_share(metric) else times * value


def _changed(recording: Recording, change: Callable[[str, float, float], float], times: float) -> Recording:
    """The same with other values: `change` gets the name of a metric, a value of it, and `times`."""
    changed = [
        (labels, tuple((when, change(labels["__name__"], value, times)) for when, value in points))
        for labels, points in recording.series
    ]
    return replace(recording, series=tuple(changed))


def moments(recording: Recording) -> list[int]:
    """MOMENTS in the second half of the loaded part, in milliseconds before the recording's end."""
    first, last = loaded_ms(recording)
    return [round(last + (first - last) * i / (2 * MOMENTS)) for i in range(MOMENTS)]


def middle(values: Sequence[float | None]) -> float | None:
    """The median of the numbers, where most are; else what there is instead of a number."""
    numbers = [value for value in values if value is not None and math.isfinite(value)]
    if 2 * len(numbers) > len(values):
        return median(numbers)
    return next((value for value in values if value is not None and not math.isfinite(value)), None)


def _only(run: str, samples: list[Sample]) -> float | None:
    if len(samples) > 1:
        raise QueryError(
            f"{run}: it gives {len(samples)} values, and evidence is one; aggregate, for example with sum(…)"
        )
    return samples[0].value if samples else None
