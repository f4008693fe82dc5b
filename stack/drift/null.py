"""How large a distance is by chance: what it is between samples of one and the same reference.

A fixed threshold alarms for ever or never: what chance makes of a distance depends on the size of the window and of
the reference. So each distance gets its own null: windows drawn from the reference are measured against the rest.

Single searches are drawn, as if any order of them were as likely. Traffic with a time of day is not like that: a window
of one hour differs from a mixture of all hours without any drift, and it takes a `least_effect` larger than the day's
own changes, or a reference for each part of the day.
"""

from dataclasses import dataclass

import numpy as np

from stack.drift.distances import Distance


@dataclass(frozen=True)
class Null:
    """Distances of windows without drift, float64[draws], in ascending order."""

    values: np.ndarray

    @property
    def middle(self) -> float:
        """What is to be expected without drift."""
        return float(np.median(self.values))

    def quantile(self, share: float) -> float:
        """What only 1 - `share` of the windows without drift exceed."""
        return float(np.quantile(self.values, share, method="higher"))

    def p_value(self, distance: float) -> float:
        """Share of windows without drift that are as far as `distance`, itself counted among them."""
        return float((1 + (self.values >= distance).sum()) / (1 + len(self.values)))


def resample(
    reference: np.ndarray, window: int, distance: Distance, draws: int, compared: int, seed: int = 0
) -> Null:  # fmt: skip
    """Windows of `window` rows against `compared` others of the reference, `draws` times, without putting back.

    Raises ValueError: the reference is too small for that.
    """
    if len(reference) < window + compared:
        raise ValueError(
            f"the reference has {len(reference)} rows; windows of {window} against {compared} others need "
            f"{window + compared}"
        )
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        rows = rng.permutation(len(reference))[: window + compared]
        values.append(distance(reference[rows[window:]], reference[rows[:window]]))
    return Null(np.sort(np.array(values)))
