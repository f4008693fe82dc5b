"""How right the answers of a load were, where the right answer is known; paired with the healthy stack's on the same
texts.

Each measure gives a labelled request a score from 0 to 1. A request that was refused, failed or unfinished has got no
right answer: it scores 0.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from loadtests.labelled import Expected
from loadtests.metrics import rank
from loadtests.plan import Arrival
from loadtests.rows import Row
from loadtests.users import text_of

DEPTH = 10  # documents that are looked at
STOPPED = ("block", "review")

Scores = dict[str, float]


def _ranking(row: Row | None, expected: Expected) -> float | None:
    """nDCG@10 of a search with one relevant document: 1 / log2(1 + its place), 0 where it was not found.

    Järvelin and Kekäläinen, 2002.
    """
    if expected.document is None:
        return None
    place = rank((row.documents or ())[:DEPTH], expected.document) if row and row.outcome == "ok" else None
    return 1 / math.log2(1 + place) if place else 0.0


def _abuse_stopped(row: Row | None, expected: Expected) -> float | None:
    if not expected.violating:
        return None
    return float(row is not None and row.outcome == "ok" and row.decision in STOPPED)


def _clean_passed(row: Row | None, expected: Expected) -> float | None:
    if expected.violating is not False:
        return None
    return float(row is not None and row.outcome == "ok" and row.decision == "allow")


MEASURES: dict[str, Callable[[Row | None, Expected], float | None]] = {
    "ranking": _ranking,
    "abuse_stopped": _abuse_stopped,
    "clean_passed": _clean_passed,
}


def key(text: str) -> str:
    """Names a text in files that need not hold it."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def scores(measure: str, arrivals: Iterable[Arrival], rows: Iterable[Row], *, only_ended: bool = False) -> Scores:
    """The score of each labelled text of `measure`, by its key; the mean where it was sent several times.

    Streamed answers are left out: they cite what they used, which is less than what was found. With `only_ended`, what
    was not sent or not answered yet is left out too, where a load was cut short.
    """
    by_arrival = {row.i: row for row in rows}
    found: dict[str, list[float]] = defaultdict(list)
    for arrival in arrivals:
        row = by_arrival.get(arrival.i)
        unended = row is None or row.outcome == "unfinished"
        if arrival.expected is None or arrival.body.get("stream") or (only_ended and unended):
            continue
        score = MEASURES[measure](row, arrival.expected)
        if score is not None:
            found[key(text_of(arrival.body))].append(score)
    return {text: fmean(values) for text, values in found.items()}


@dataclass(frozen=True)
class Paired:
    """`value` and `healthy` are means over the same `n` texts; `distance` is how far value lies above ratio × healthy,
    and `error` its standard error."""

    n: int
    value: float
    healthy: float
    distance: float
    error: float

    @property
    def standard_errors(self) -> float | None:
        """The distance in standard errors; None where it has no spread."""
        return abs(self.distance) / self.error if self.error > 0 else None


def paired(found: Scores, healthy: Mapping[str, float], ratio: float) -> Paired | None:
    """`found` beside the `healthy` scores of the same texts; None of fewer than two. Raises KeyError: a text that the
    healthy stack was not asked."""
    if len(found) < 2:
        return None
    pairs = [(score, healthy[text]) for text, score in found.items()]
    differences = [score - ratio * other for score, other in pairs]
    return Paired(
        n=len(pairs),
        value=fmean(score for score, _ in pairs),
        healthy=fmean(other for _, other in pairs),
        distance=fmean(differences),
        error=stdev(differences) / math.sqrt(len(pairs)),
    )


def means(arrivals: Sequence[Arrival], rows: Sequence[Row]) -> dict[str, float]:
    """The mean of every measure that the labels of the ended requests allow."""
    found = {measure: scores(measure, arrivals, rows, only_ended=True) for measure in MEASURES}
    return {measure: fmean(values.values()) for measure, values in found.items() if values}
