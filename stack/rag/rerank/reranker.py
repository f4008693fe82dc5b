"""What a reranker does: the first hits of a search, sorted again by a model that looks closer."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from stack.rag.config.stages import CrossEncoder, LateInteraction
from stack.rag.hits import Hits, RetrievalError, min_max, ranked


class RerankTimeout(RetrievalError):
    """The reranker did not get done in time; the first stage's hits stand."""


class Deadline:
    """A point in time that work has to look at, because nothing stops it from outside."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        """Raises RerankTimeout once it has passed."""
        if time.monotonic() > self._end:
            raise RerankTimeout(f"not done within {self._seconds:g} s")


class Reranker(ABC):
    """Scores pairs of query and passage; the mixing with the first stage is the same for all."""

    def __init__(self, settings: LateInteraction | CrossEncoder) -> None:
        self.settings = settings

    @abstractmethod
    def _scores(self, query: str, rows: np.ndarray, texts: Sequence[str], deadline: Deadline) -> np.ndarray:
        """float[k]: a score for each of `rows`, whose texts are `texts`."""

    def rerank(self, query: str, first: Hits, texts: Sequence[str]) -> Hits:
        """`first` in a better order; `texts` are those of its rows, in its order. The same rows, each once.

        Within the pool the score is the mix of both scores, each on the scale 0 to 1. Below the pool the first stage's
        order stays, with its distances, under the last of the pool. Raises RerankTimeout.
        """
        pool = min(self.settings.pool, len(first))
        if pool == 0:
            return first
        deadline = Deadline(self.settings.timeout_seconds)
        scores = self._scores(query, first.rows[:pool], texts[:pool], deadline)
        weight = self.settings.first_stage_weight
        mixed = weight * min_max(first.scores[:pool]) + (1 - weight) * min_max(scores)
        best = ranked(first.rows[:pool], mixed, pool)
        below = best.scores[-1] - (first.scores[pool - 1] - first.scores[pool:])
        return Hits(np.concatenate([best.rows, first.rows[pool:]]), np.concatenate([best.scores, below]))


class KeepOrder:
    """The reranker `none`: gives back what it gets."""

    def rerank(self, query: str, first: Hits, texts: Sequence[str]) -> Hits:
        """`first`."""
        return first
