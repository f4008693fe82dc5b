"""From a classifier's score to a probability: calibrations as plain numbers, how they are fitted, how good they are.

Platt: p = 1 / (1 + exp(-(slope * logit(score) + offset))). Isotonic: linear between points, flat outside.
"""

from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from stack.settings import Settings

EDGE = 1e-6  # scores are kept this far from 0 and 1, where the logit is infinite


class NoCalibration(Settings):
    """The score is taken for the probability."""

    kind: Literal["none"]


class Platt(Settings):
    """A logistic curve over the score's log-odds."""

    kind: Literal["platt"]
    slope: float = Field(gt=0, le=100)
    """1 leaves the score as it is (with offset 0); below 1 pulls scores to the middle"""
    offset: float = Field(0.0, ge=-100, le=100)
    """added to the log-odds"""


class Isotonic(Settings):
    """A rising line through points."""

    kind: Literal["isotonic"]
    x: list[float] = Field(min_length=2, max_length=100)
    """scores, rising"""
    y: list[float] = Field(min_length=2, max_length=100)
    """probabilities at these scores, never falling"""

    @model_validator(mode="after")
    def _rises(self) -> "Isotonic":
        if len(self.x) != len(self.y):
            raise ValueError(f"x has {len(self.x)} points and y {len(self.y)}; give one y for each x")
        if any(b <= a for a, b in zip(self.x, self.x[1:], strict=False)):
            raise ValueError("x must rise from point to point")
        if any(b < a for a, b in zip(self.y, self.y[1:], strict=False)):
            raise ValueError("y must not fall: a higher score is never less likely")
        if any(not 0 <= value <= 1 for value in self.x + self.y):
            raise ValueError("x and y are scores and probabilities, from 0 to 1")
        return self


Calibration = Annotated[NoCalibration | Platt | Isotonic, Field(discriminator="kind")]


def calibrate(calibration: NoCalibration | Platt | Isotonic, scores: np.ndarray) -> np.ndarray:
    """Probabilities for `scores` (n, from 0 to 1)."""
    scores = np.asarray(scores, dtype=np.float64)
    if isinstance(calibration, Platt):
        return 1 / (1 + np.exp(-(calibration.slope * logit(scores) + calibration.offset)))
    if isinstance(calibration, Isotonic):
        return np.interp(scores, calibration.x, calibration.y)
    return scores


def logit(scores: np.ndarray) -> np.ndarray:
    """Log-odds of scores, kept finite."""
    scores = np.clip(scores, EDGE, 1 - EDGE)
    return np.log(scores / (1 - scores))


def fit_platt(scores: np.ndarray, labels: np.ndarray) -> Platt:
    """Platt scaling by Newton's method: scores [n] from 0 to 1, labels [n] true for what breaks the rules.

    Targets are drawn in by one text of each label, as Platt (1999) does, so that few texts give no infinite slope.
    """
    x, labels = logit(np.asarray(scores, dtype=np.float64)), np.asarray(labels, dtype=bool)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        raise ValueError("calibration needs texts of both labels")
    target = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.column_stack([x, np.ones_like(x)])
    theta = np.array([1.0, 0.0])
    for _ in range(100):
        p = 1 / (1 + np.exp(-design @ theta))
        gradient = design.T @ (p - target)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        step *= min(1.0, 2.0 / np.abs(step).max()) if step.any() else 1.0
        theta = theta - step
        if np.abs(step).max() < 1e-9:
            break
    if theta[0] <= 0:
        raise ValueError(f"the scores fall where texts break the rules (slope {theta[0]:.3f}): nothing to calibrate")
    return Platt(kind="platt", slope=round(float(theta[0]), 4), offset=round(float(theta[1]), 4))


def fit_isotonic(scores: np.ndarray, labels: np.ndarray) -> Isotonic:
    """The rising line nearest to the labels (pool adjacent violators), one point for the middle of each level."""
    order = np.argsort(scores, kind="stable")
    blocks: list[tuple[float, float, int]] = []  # sum of scores, sum of labels, texts
    for score, label in zip(np.asarray(scores)[order], np.asarray(labels)[order], strict=True):
        blocks.append((float(score), float(label), 1))
        while len(blocks) > 1 and blocks[-2][1] / blocks[-2][2] >= blocks[-1][1] / blocks[-1][2]:
            last, before = blocks.pop(), blocks.pop()
            blocks.append((before[0] + last[0], before[1] + last[1], before[2] + last[2]))
    points: dict[float, float] = {}
    for total, broken, count in blocks:
        points[round(total / count, 4)] = round(broken / count, 4)
    if len(points) < 2:
        raise ValueError("the scores do not tell the labels apart: one level only")
    return Isotonic(kind="isotonic", x=list(points), y=list(points.values()))


class Bin(NamedTuple):
    """A row of a reliability table."""

    texts: int
    mean_probability: float
    share_abusive: float


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> list[Bin]:
    """What was predicted and what was found, in `bins` bins that hold the same number of texts each."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [Bin(len(p), float(np.mean(probabilities[p])), float(np.mean(labels[p]))) for p in parts]


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Mean distance of predicted and found over equal-mass bins, weighted by their texts."""
    table = reliability(np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64), bins)
    total = sum(row.texts for row in table)
    return sum(row.texts * abs(row.mean_probability - row.share_abusive) for row in table) / total
