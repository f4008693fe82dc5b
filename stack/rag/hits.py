"""What every stage of retrieval hands to the next: rows with scores. And the error that they all raise."""

from dataclasses import dataclass

import numpy as np


class RetrievalError(Exception):
    """Something that retrieval stands on is missing, damaged or does not fit; the message says what to do."""


@dataclass(frozen=True)
class Hits:
    """A ranked list: `rows` int64[k] are positions in the index, each once; `scores` float32[k], larger is better.

    Sorted by score, best first; equal scores by row, so that the same input gives the same list everywhere.
    """

    rows: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, depth: int) -> "Hits":
        """The best `depth` of them."""
        return Hits(self.rows[:depth], self.scores[:depth])


NONE = Hits(np.empty(0, np.int64), np.empty(0, np.float32))


def ranked(rows: np.ndarray, scores: np.ndarray, depth: int) -> Hits:
    """The best `depth` of `rows` by `scores`, as Hits. Rows must be unique; scores must be numbers."""
    rows = np.asarray(rows, np.int64)
    scores = np.asarray(scores, np.float32)
    if 0 < depth < len(rows):
        # Everything that ties with the last place takes part in the sort: who wins must not depend on the partition.
        worst = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        keep = scores >= worst
        rows, scores = rows[keep], scores[keep]
    order = np.lexsort((rows, -scores))[:depth]
    return Hits(rows[order], scores[order])


def min_max(scores: np.ndarray) -> np.ndarray:
    """`scores` on the scale 0 (least) to 1 (largest), float32. Where all are equal, all are 1."""
    scores = np.asarray(scores, np.float32)
    if not len(scores):
        return scores
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)
