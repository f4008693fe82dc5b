"""How sure a difference is: paired bootstrap intervals, and the smallest effect that a suite can see."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score

RESAMPLES = 2000
CONFIDENCE = 0.95
POWER = 0.80
BINS = 10

Aggregate = Callable[[np.ndarray, np.ndarray], float]
"""Scores float64[n] and labels float64[n] (NaN where there are none) to one number."""


@dataclass(frozen=True)
class Interval:
    """A difference, candidate less baseline, with the bounds of its confidence interval."""

    difference: float
    low: float
    high: float


def mean(scores: np.ndarray, labels: np.ndarray) -> float:
    """The average; labels do not matter."""
    return float(scores.mean())


def p95(scores: np.ndarray, labels: np.ndarray) -> float:
    """What 95 of 100 stay below."""
    return float(np.quantile(scores, 0.95))


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Probability that a positive example scores above a negative one; NaN where one kind is missing."""
    known = ~np.isnan(labels)
    kinds = np.unique(labels[known])
    return float(roc_auc_score(labels[known], scores[known])) if len(kinds) == 2 else float("nan")


def calibration_error(scores: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error over ten bins of equal mass: |mean score - share of positives|, on average; NaN
    without labels."""
    known = ~np.isnan(labels)
    if not known.any():
        return float("nan")
    order = np.argsort(scores[known], kind="stable")
    said, were = scores[known][order], labels[known][order]
    bins = [part for part in np.array_split(np.arange(len(order)), BINS) if len(part)]
    return float(sum(len(part) * abs(said[part].mean() - were[part].mean()) for part in bins) / len(order))


AGGREGATES: dict[str, Aggregate] = {"mean": mean, "p95": p95, "auc": auc, "calibration_error": calibration_error}


def paired(
    aggregate: Aggregate, candidate: np.ndarray, baseline: np.ndarray, labels: np.ndarray, seed: int = 0
) -> Interval:
    """The difference of `aggregate` on the same examples, with its percentile bootstrap interval.

    Examples are drawn with replacement and keep their pair, so what both find equally hard cancels out (Efron and
    Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8 and 13). All arrays are float64[n].
    """
    if candidate.shape != baseline.shape or candidate.shape != labels.shape:
        raise ValueError("candidate, baseline and labels must be of the same examples")
    difference = aggregate(candidate, labels) - aggregate(baseline, labels)
    if len(candidate) < 2 or np.array_equal(candidate, baseline):
        return Interval(difference, difference, difference)
    found = stats.bootstrap(
        (candidate, baseline, labels),
        lambda one, other, known: aggregate(one, known) - aggregate(other, known),
        paired=True,
        vectorized=False,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(difference), float(found.low), float(found.high))


def smallest_effect(scores: np.ndarray, tolerance: float, room: float = 1.0) -> float:
    """How much worse the mean of `scores` must really be to be blocked with 80 % power.

    The interval of the difference has to lie beyond `tolerance`: tolerance + (z(.975) + z(.80)) standard errors of the
    paired difference, which is taken to vary as much as the scores do (a correlation of one half). Scores that hardly
    vary, such as those of a baseline without an error, would then promise too much: of those between 0 and 1 a share
    falls from 1 to 0, and so many have to fall that this would be seen. The larger of both counts; infinite where that
    is more than the `room` that scores between 0 and 1 have to get worse.
    """
    if len(scores) < 2:
        return float("inf")
    factor = stats.norm.ppf(0.5 + CONFIDENCE / 2) + stats.norm.ppf(POWER)
    spread = tolerance + float(factor * scores.std(ddof=1) / np.sqrt(len(scores)))
    if scores.min() < 0 or scores.max() > 1:
        return spread
    effect = max(spread, _share_that_falls(len(scores), tolerance))
    return effect if effect <= room else float("inf")


def _share_that_falls(examples: int, tolerance: float) -> float:
    """Each of `examples` falls from 1 to 0 with this probability: then the loss is blocked with 80 % power.

    k of n falls are blocked where the bootstrap's interval of their share, quantiles of Binomial(n, k / n), lies beyond
    `tolerance`. As many fall with probability p where p is the Beta(k, n - k + 1) distribution's quantile (Clopper and
    Pearson, 1934).
    """
    falls = np.arange(1, examples + 1)
    seen = falls[stats.binom.ppf(0.5 - CONFIDENCE / 2, examples, falls / examples) > tolerance * examples]
    return float(stats.beta.ppf(POWER, seen[0], examples - seen[0] + 1)) if len(seen) else float("inf")
