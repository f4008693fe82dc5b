"""From a classifier's score to a probability: calibrations as plain numbers, how they are fitted, how good they are.

Platt: p = 1 / (1 + exp(-(slope * logit(score) + offset))). Isotonic: linear between points, flat outside.
"""

from typing import Annotated, Literal

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
