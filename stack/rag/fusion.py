"""Two ranked lists into one: by ranks, by scores, or one of them alone.

Reciprocal rank fusion: "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods", SIGIR
2009, equation 1.
"""

import numpy as np

from stack.rag.config.stages import DenseOnly, FusionSettings, RrfFusion, SparseOnly, WeightedFusion
from stack.rag.hits import NONE, Hits, min_max, ranked


def fuse(settings: FusionSettings, sparse: Hits, dense: Hits, depth: int) -> Hits:
    """The best `depth` rows of both lists together.

    A row that one list lacks gets nothing from it: no reciprocal rank, or 0, which for `min_max` is what the last
    of the list gets.
    """
    match settings:
        case SparseOnly():
            return sparse.first(depth)
        case DenseOnly():
            return dense.first(depth)
        case RrfFusion(k=k):
            return _summed(sparse, _reciprocal(sparse, k), dense, _reciprocal(dense, k), depth)
        case WeightedFusion(dense_weight=weight, normalise=normalise):
            scaled = min_max if normalise == "min_max" else np.asarray
            return _summed(sparse, (1 - weight) * scaled(sparse.scores), dense, weight * scaled(dense.scores), depth)


def _reciprocal(hits: Hits, k: float) -> np.ndarray:
    return 1 / (k + np.arange(1, len(hits) + 1))


def _summed(sparse: Hits, from_sparse: np.ndarray, dense: Hits, from_dense: np.ndarray, depth: int) -> Hits:
    rows, place = np.unique(np.concatenate([sparse.rows, dense.rows]), return_inverse=True)
    if not len(rows):
        return NONE
    total = np.bincount(place, weights=np.concatenate([from_sparse, from_dense]), minlength=len(rows))
    return ranked(rows, total, depth)
