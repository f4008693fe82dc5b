"""One search: both legs, fusion, reranking, and what each stage found, with its time and its signs of quality."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from stack.rag.access import AccessViolation, Passage, View
from stack.rag.config.collections import Query
from stack.rag.config.stages import DenseOnly, NoRerank, SparseOnly
from stack.rag.encoders import Encoder
from stack.rag.fusion import fuse
from stack.rag.hits import NONE, Hits
from stack.rag.index.opened import OpenIndex
from stack.rag.rerank import KeepOrder, Reranker, RerankTimeout
from stack.telemetry.metrics import RagMetrics

log = logging.getLogger(__name__)

TOP = 10
"""How deep the legs are compared with each other and with their fusion."""


@dataclass(frozen=True)
class Found:
    """What the stages of one search gave, each best first; `final` is at most as long as was asked for."""

    sparse: Hits
    dense: Hits
    fused: Hits
    final: Hits
    passages: tuple[Passage, ...]
    """Those of `final`, in its order."""
    evidence: bool
    """False where nothing was found, or nothing near enough to count."""
    vector: np.ndarray | None = None
    """float32[dimensions] of the query, where a stage needed it."""
    nearest: float | None = None
    """Similarity of the nearest passage, as a cosine."""


class Pipeline:
    """The stages of one collection over one index. Thread-safe."""

    def __init__(
        self, collection: str, settings: Query, index: OpenIndex, encoder: Encoder | None,
        reranker: Reranker | KeepOrder, metrics: RagMetrics,
    ) -> None:  # fmt: skip
        """`encoder` is that of the queries, None where no stage needs their vectors."""
        self._collection = collection
        self._settings = settings
        self._index = index
        self._encoder = encoder
        self._reranker = reranker
        self._metrics = metrics
        self._sparse_wanted = not isinstance(settings.fusion, DenseOnly) and index.sparse is not None
        self._dense_wanted = not isinstance(settings.fusion, SparseOnly) and index.dense is not None

    def unobserved(self) -> "Pipeline":
        """The same, but nothing is measured."""
        other = copy.copy(self)
        other._metrics = RagMetrics()
        return other

    def search(self, query: str, view: View, limit: int) -> Found:
        """The best `limit` passages of what `view` allows. Raises RetrievalError, AccessViolation."""
        sparse = self._sparse(query, view) if self._sparse_wanted else NONE
        vector, dense = self._dense(query, view) if self._dense_wanted else (None, NONE)
        with self._stage("fuse"):
            pool = 0 if isinstance(self._settings.rerank, NoRerank) else self._settings.rerank.pool
            fused = fuse(self._settings.fusion, sparse, dense, max(limit, pool))
        try:
            final = self._rerank(query, fused, view).first(limit)
            passages = tuple(view.passages(final.rows))
        except AccessViolation:
            self._metrics.access_violations.labels(self._collection).inc()
            raise
        self._observe(query, sparse, dense, fused, final)
        nearest = float(self._cosines(dense.scores[:1])[0]) if len(dense) else None
        return Found(sparse, dense, fused, final, passages, self._is_evidence(nearest, final), vector, nearest)

    def _sparse(self, query: str, view: View) -> Hits:
        with self._stage("sparse"):
            return self._index.sparse.search(query, self._settings.sparse_depth, view.allowed)

    def _dense(self, query: str, view: View) -> tuple[np.ndarray, Hits]:
        with self._stage("encode"):
            (vector,) = self._encoder.encode_queries([query])
        with self._stage("dense"):
            return vector, self._index.dense.search(vector, self._settings.dense_depth, view.allowed)

    def _rerank(self, query: str, fused: Hits, view: View) -> Hits:
        if isinstance(self._reranker, KeepOrder) or not len(fused):
            return fused
        with self._stage("rerank"):
            texts = [passage.text for passage in view.passages(fused.rows)]
            try:
                return self._reranker.rerank(query, fused, texts)
            except RerankTimeout:
                self._metrics.rerank_fallbacks.labels(self._collection).inc()
                log.warning("reranker out of time", extra={"collection": self._collection, "pool": len(fused)})
                return fused

    def _is_evidence(self, nearest: float | None, final: Hits) -> bool:
        least = self._settings.no_evidence_below
        near = least is None or not self._dense_wanted or (nearest is not None and nearest >= least)
        return len(final) > 0 and near

    def _cosines(self, scores: np.ndarray) -> np.ndarray:
        """Scores of the index of vectors as cosines, which they are for vectors of length 1."""
        return scores if self._index.dense.settings.metric == "inner_product" else 1 + scores / 2

    def _is_cut_off(self, query: str) -> bool:
        settings = self._encoder.settings
        if len(settings.query_prefix) + len(query) + 2 <= settings.max_tokens:
            return False  # a token has at least one character: most queries need no counting
        return self._encoder.count_tokens([query], "query")[0] > settings.max_tokens

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        since = perf_counter()
        yield
        self._metrics.stage_seconds.labels(self._collection, name).observe(perf_counter() - since)

    def _observe(self, query: str, sparse: Hits, dense: Hits, fused: Hits, final: Hits) -> None:
        metrics, name = self._metrics, self._collection
        metrics.results.labels(name).observe(len(final))
        if self._sparse_wanted:
            metrics.sparse_top_score.labels(name).observe(sparse.scores[0] if len(sparse) else 0.0)
            metrics.terms_known.labels(name).observe(self._index.sparse.known_terms(query).share)
        if self._dense_wanted and len(dense):
            near = self._cosines(dense.first(TOP).scores)
            metrics.dense_top_score.labels(name).observe(near[0])
            metrics.dense_score_gap.labels(name).observe(near[0] - near[-1])
            if self._is_cut_off(query):
                metrics.query_truncated.labels(name).inc()
        if self._sparse_wanted and self._dense_wanted and len(sparse) and len(dense):
            self._observe_agreement(sparse, dense, fused)
        if not isinstance(self._reranker, KeepOrder) and len(final):
            moved = int(np.flatnonzero(fused.rows == final.rows[0])[0]) + 1
            metrics.rerank_moved.labels(name).observe(moved)

    def _observe_agreement(self, sparse: Hits, dense: Hits, fused: Hits) -> None:
        metrics, name = self._metrics, self._collection
        tops = {"sparse": set(sparse.first(TOP).rows), "dense": set(dense.first(TOP).rows)}
        least = min(len(rows) for rows in tops.values())
        metrics.legs_overlap.labels(name).observe(len(tops["sparse"] & tops["dense"]) / least)
        best = fused.first(TOP).rows
        for leg, rows in tops.items():
            metrics.fused_share.labels(name, leg).observe(sum(row in rows for row in best) / len(best))
