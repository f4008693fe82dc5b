"""Which weights a collection wants: chosen on half of its queries, reported for the other half.

`python -m stack.rag.tune` tries each weight of the dense list in the fusion with each weight of the first stage in the
reranked score; it prints the best pair, what that gives on queries that it was not chosen on, and all the others.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stack.rag import sources
from stack.rag.bench import DATA, DOCUMENTS, HEALTHY, VECTORS
from stack.rag.config.stages import FlatIndex, SparseSettings, WeightedFusion
from stack.rag.encoders import EmbeddingCache, Encoder, open_encoder
from stack.rag.evaluate import Figures, difference
from stack.rag.golden import MINILM
from stack.rag.hits import Hits, min_max, ranked
from stack.rag.rerank.late import max_sim
from stack.rag.trial import Trial

DENSE_WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FIRST_STAGE_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
POOL = 50


@dataclass(frozen=True)
class Pair:
    """A choice: of the dense list in the fusion, and of the first stage in the reranked score."""

    dense: float
    first_stage: float


def grid(trial: Trial, encoder: Encoder) -> tuple[dict[Pair, Figures], Figures, Figures]:
    """Figures of every pair; then those of sparse and of dense alone."""
    by_words = trial.sparse(SparseSettings())
    by_vectors = trial.dense(FlatIndex(kind="flat"), encoder)
    fused = {
        weight: trial.fused(WeightedFusion(kind="weighted", dense_weight=weight), by_words, by_vectors, POOL)
        for weight in DENSE_WEIGHTS
    }
    similar = _similarities(trial, encoder, list(zip(*fused.values(), strict=True)))
    found = {}
    for dense, hits in fused.items():
        for first in FIRST_STAGE_WEIGHTS:
            mixed = [_mixed(one, scores, first) for one, scores in zip(hits, similar, strict=True)]
            found[Pair(dense, first)] = trial.judged(mixed)
    return found, trial.judged(by_words), trial.judged(by_vectors)


def _similarities(trial: Trial, encoder: Encoder, pools: Sequence[Sequence[Hits]]) -> list[dict[int, float]]:
    """For each query, late interaction's score of every row that one of its pools has."""
    passages = trial.cache.tokens(encoder, trial.passages, "passage")
    found = []
    for tokens, hits in zip(trial.cache.tokens(encoder, trial.questions, "query"), pools, strict=True):
        rows = np.unique(np.concatenate([one.rows for one in hits]))
        scores = max_sim(tokens, [passages[row] for row in rows]) if len(rows) else []
        found.append(dict(zip(rows.tolist(), scores, strict=True)))
    return found


def _mixed(hits: Hits, similar: dict[int, float], first: float) -> Hits:
    late = np.array([similar[row] for row in hits.rows.tolist()])
    return ranked(hits.rows, first * min_max(hits.scores) + (1 - first) * min_max(late), POOL)


def report(trial: Trial, encoder: Encoder) -> list[str]:
    """The lines for one collection."""
    found, words, vectors = grid(trial, encoder)
    choose, unseen = (tuple(query.id for query in trial.collection.half(which).queries) for which in (0, 1))
    means = {pair: figures.of(choose).mean("ndcg@10") for pair, figures in found.items()}
    best = max(means, key=lambda pair: _around(means, pair))
    only_fused = max((pair for pair in means if pair.first_stage == 1), key=means.__getitem__)
    single = max((words, vectors), key=lambda figures: figures.of(choose).mean("ndcg@10")).of(unseen)
    lines = [
        f"{trial.collection.name}: chosen on {len(choose):,} queries, reported for {len(unseen):,}",
        f"  the better single stage                                   {single.mean('ndcg@10'):.4f}",
    ]
    for name, pair in (("fused", only_fused), ("fused and reranked", best)):
        figures = found[pair].of(unseen)
        gain = difference(figures, single, "ndcg@10")
        lines.append(
            f"  {name:18} dense {pair.dense:.1f}  first stage {pair.first_stage:.1f}     {figures.mean('ndcg@10'):.4f}"
            f"   {gain.mean:+.4f} ± {gain.standard_error:.4f}"
        )
    lines.append("  all queries; down: dense, across: first stage")
    lines.append("      " + "".join(f"{first:7.1f}" for first in FIRST_STAGE_WEIGHTS))
    for dense in DENSE_WEIGHTS:
        row = (found[Pair(dense, first)].mean("ndcg@10") for first in FIRST_STAGE_WEIGHTS)
        lines.append(f"  {dense:4.1f}" + "".join(f"{mean:7.4f}" for mean in row))
    return lines


def _around(means: dict[Pair, float], pair: Pair) -> float:
    """The mean of a pair and its neighbours in the grid: the top is flat, and its middle is a safer choice than the
    point that chance put highest."""
    near = [
        mean
        for other, mean in means.items()
        if abs(other.dense - pair.dense) < 0.15 and abs(other.first_stage - pair.first_stage) < 0.15
    ]
    return float(np.mean(near))


def main() -> int:
    """The command."""
    encoder, cache = open_encoder("minilm", MINILM, DATA), EmbeddingCache(VECTORS)
    for name in sys.argv[1:] or HEALTHY:
        trial = Trial.of(sources.load(name, DATA, DOCUMENTS), cache, HEALTHY[name].chunk, encoder)
        print("\n".join(report(trial, encoder)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
