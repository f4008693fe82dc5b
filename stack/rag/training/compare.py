"""Which reranker is worth its time: both on the same candidates of held-out questions, quality next to milliseconds.

The weight of the mix is chosen on one half of the held-out questions, the figures are those of the other half.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stack.rag.config.stages import CrossEncoder, LateInteraction
from stack.rag.encoders import EmbeddingCache, Encoder
from stack.rag.hits import Hits, min_max, ranked
from stack.rag.rerank.cross import CrossEncoderReranker
from stack.rag.rerank.late import LateInteractionReranker
from stack.rag.rerank.reranker import Reranker
from stack.rag.rerank.tokens import TokenVectors
from stack.rag.sources.collection import Collection
from stack.rag.training.metrics import reciprocal_gain

WEIGHTS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the first stage in the mix, as `first_stage_weight` of a reranker; 0 is the reranker alone, 1 the first stage."""

_PATIENCE = 60.0
"""Seconds a question may take here: a busy machine is no reason to leave one out."""


@dataclass(frozen=True)
class Scored:
    """The candidates of one question: `right` bool[k], the first stage's scores and each reranker's, float32[k].

    `seconds`: processor time of each reranker, on one thread.
    """

    right: np.ndarray
    first: np.ndarray
    scores: dict[str, np.ndarray]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Result:
    """nDCG@10 of one reranker on the reported half."""

    alone: float
    weight: float
    """Chosen on the other half."""
    mixed: float
    gain: float
    """Of the mix over the first stage, mean of paired differences."""
    standard_error: float
    """Of `gain`."""
    milliseconds: float
    """Processor time a question, mean."""
    by_weight: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """One collection. `chosen_on`, `questions`: how many questions chose the weight, and were reported."""

    chosen_on: int
    questions: int
    first_stage: float
    recall: float
    """Share of the questions whose passage is among the candidates: no reranker can get above."""
    results: dict[str, Result]


def compare(
    collection: Collection, encoder: Encoder, cache: EmbeddingCache, model: Path, depth: int, most: int | None
) -> Comparison:
    """Rerank the dense retriever's best `depth` for at most `most` questions of each half of `collection`.

    `model` is the cross-encoder's folder; late interaction is over the vectors of `encoder`.
    """
    texts = [document.text for document in collection.documents]
    tokens = TokenVectors(cache.tokens(encoder, texts, "passage"), encoder.fingerprint)
    alone = {"pool": depth, "first_stage_weight": 0.0, "timeout_seconds": _PATIENCE}
    late = LateInteraction(kind="late-interaction", encoder=encoder.alias, **alone)
    cross = CrossEncoder(kind="cross-encoder", model=model, **alone)
    rerankers = {
        "late-interaction": LateInteractionReranker(late, encoder, tokens),
        "cross-encoder": CrossEncoderReranker(cross, Path()),
    }
    vectors = cache.vectors(encoder, texts, "passage")
    choose, report = (
        [
            _scored(collection, query.id, query.text, _nearest(vectors, encoder, query.text, depth), rerankers)
            for query in collection.half(which).queries[:most]
        ]
        for which in (0, 1)
    )
    results = {}
    for name in rerankers:
        weight = max(WEIGHTS, key=lambda weight: _gains(choose, name, weight).mean())
        first, mixed = _gains(report, name, 1.0), _gains(report, name, weight)
        results[name] = Result(
            alone=float(_gains(report, name, 0.0).mean()),
            weight=weight,
            mixed=float(mixed.mean()),
            gain=float((mixed - first).mean()),
            standard_error=float((mixed - first).std(ddof=1) / len(report) ** 0.5),
            milliseconds=1e3 * float(np.mean([one.seconds[name] for one in report])),
            by_weight={f"{weight:g}": float(_gains(report, name, weight).mean()) for weight in WEIGHTS},
        )
    recall = float(np.mean([one.right.any() for one in report]))
    first_stage = float(_gains(report, "late-interaction", 1.0).mean())
    return Comparison(len(choose), len(report), first_stage, recall, results)


def _gains(scored: Sequence[Scored], name: str, weight: float) -> np.ndarray:
    """float64[questions]: nDCG@10 of the mix."""
    return np.array(
        [
            reciprocal_gain(weight * min_max(one.first) + (1 - weight) * min_max(one.scores[name]), one.right)
            for one in scored
        ]
    )


def _nearest(vectors: np.ndarray, encoder: Encoder, query: str, depth: int) -> Hits:
    """The first stage: the passages with the largest cosine."""
    return ranked(np.arange(len(vectors)), vectors @ encoder.encode_queries([query])[0], depth)


def _scored(collection: Collection, query: str, text: str, hits: Hits, rerankers: Mapping[str, Reranker]) -> Scored:
    """What each reranker says of `hits`; processor time, so that other programs on the machine do not count."""
    documents = [collection.documents[row] for row in hits.rows]
    scores, seconds = {}, {}
    for name, reranker in rerankers.items():
        began = time.process_time()
        again = reranker.rerank(text, hits, [document.text for document in documents])
        seconds[name] = time.process_time() - began
        score = dict(zip(again.rows.tolist(), again.scores.tolist(), strict=True))
        scores[name] = np.array([score[row] for row in hits.rows.tolist()], np.float32)
    grades = collection.judgements[query]
    return Scored(np.array([document.id in grades for document in documents]), hits.scores, scores, seconds)
