"""How far two samples are apart: of vectors float32[n, dimensions], or of scores float64[n].

None of these numbers means anything by itself: two samples of the same traffic have a distance as well, and it depends
on their size. `null.py` measures how large it is by chance.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

Distance = Callable[[np.ndarray, np.ndarray], float]
"""Reference and current sample to a number; larger is farther."""

FOLDS = 4
BINS = 10
_LEAST_SHARE = 1e-4


def mmd(reference: np.ndarray, current: np.ndarray) -> float:
    """Squared maximum mean discrepancy, the unbiased estimate, with a Gaussian kernel as wide as the median distance.

    Gretton and others, "A Kernel Two-Sample Test", 2012, lemma 6 and section 8. About 0 without drift.
    """
    both = np.concatenate([reference, current]).astype(np.float64)
    squares = np.square(both).sum(axis=1)
    apart = np.maximum(squares[:, None] + squares[None, :] - 2 * both @ both.T, 0)
    upper = apart[np.triu_indices(len(both), 1)]
    width = np.median(upper[upper > 0]) if (upper > 0).any() else 1.0
    kernel = np.exp(-apart / width)
    n, m = len(reference), len(current)
    inside = (kernel[:n, :n].sum() - n) / (n * (n - 1)) + (kernel[n:, n:].sum() - m) / (m * (m - 1))
    return float(inside - 2 * kernel[:n, n:].mean())


def domain_auc(reference: np.ndarray, current: np.ndarray) -> float:
    """AUC of a classifier that tells the two samples apart, on examples that it has not seen. 0.5 without drift.

    Rabanser and others, "Failing Loudly", 2019: the detector that also tells which examples moved.
    """
    both = np.concatenate([reference, current]).astype(np.float64)
    labels = np.repeat([0, 1], [len(reference), len(current)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    model = LogisticRegression(C=1.0, max_iter=200)
    scores = cross_val_predict(model, both, labels, cv=folds, method="decision_function")
    return float(roc_auc_score(labels, scores))


def centroid(reference: np.ndarray, current: np.ndarray) -> float:
    """Cosine distance of the mean vectors: what a mean shift alone shows. About 0 without drift."""
    one, other = reference.mean(axis=0), current.mean(axis=0)
    return float(1 - one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def wasserstein_mean(reference: np.ndarray, current: np.ndarray) -> float:
    """Wasserstein distance of each dimension in the reference's standard deviations, on average over dimensions."""
    spread = reference.std(axis=0)
    return float(
        np.mean(
            [
                stats.wasserstein_distance(reference[:, place], current[:, place]) / (spread[place] or 1.0)
                for place in range(reference.shape[1])
            ]
        )
    )


def wasserstein(reference: np.ndarray, current: np.ndarray) -> float:
    """Wasserstein distance of two samples of scores, in the reference's standard deviations."""
    return float(stats.wasserstein_distance(reference, current) / (reference.std() or 1.0))


def psi(reference: np.ndarray, current: np.ndarray) -> float:
    """Population stability index over the reference's deciles. About 0 without drift.

    The usual 0.1 and 0.25 are for samples of thousands: by chance alone it is about (bins - 1) (1/n + 1/m).
    """
    inner = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    shares = [_shares(sample, inner) for sample in (reference, current)]
    expected, found = shares
    return float(((found - expected) * np.log(found / expected)).sum())


def _shares(sample: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Of the sample in each bin, never 0: a logarithm is taken of it."""
    counts = np.bincount(np.searchsorted(inner, sample, side="right"), minlength=len(inner) + 1)
    return np.maximum(counts / len(sample), _LEAST_SHARE)


VECTORS: dict[str, Distance] = {
    "mmd": mmd, "domain_auc": domain_auc, "centroid": centroid, "wasserstein": wasserstein_mean,
}  # fmt: skip
SCORES: dict[str, Distance] = {"wasserstein": wasserstein, "psi": psi}
