"""nDCG@10 of one question that a single passage answers."""

import math

import numpy as np

DEPTH = 10


def reciprocal_gain(scores: np.ndarray, right: np.ndarray) -> float:
    """nDCG@10 where `right` (bool[k]) marks the one passage that answers: 1 / log2(1 + its place), 0 below DEPTH.

    0 as well where it is not among the candidates. Of equal scores the earlier candidate comes first.
    """
    places = np.flatnonzero(right)
    if not len(places):
        return 0.0
    before = np.arange(len(scores)) < places[0]
    place = 1 + int((scores > scores[places[0]]).sum() + ((scores == scores[places[0]]) & before).sum())
    return 1 / math.log2(1 + place) if place <= DEPTH else 0.0
