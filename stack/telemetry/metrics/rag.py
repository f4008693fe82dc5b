"""The retrieval service's metrics. Collections and routes come from the configuration and the code.

Quality without labels: how near the best passage is, how far the tenth lies behind it, how many of a query's words the
index knows, how much both searches agree, how far the reranker reaches down. None of them says what is good, but each
moves when the stage before it changes.
"""

from stack.telemetry.metrics.registry import ServiceMetrics

_STAGE_SECONDS = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75,
    1, 1.5, 2, 3, 5, 8, 10, 15, 20, 30, 60,
)  # fmt: skip
_RATIOS = tuple(round(0.05 * step, 2) for step in range(21))
_TENTHS = tuple(round(0.1 * step, 1) for step in range(11))
_GAPS = (0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1)
_BM25 = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 26, 30, 40, 50, 75, 100)
_COUNTS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100)
_RANKS = (1, 2, 3, 5, 8, 10, 15, 20, 30, 50, 100, 200, 500, 1000)
_TOKENS = (0, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)


class RagMetrics(ServiceMetrics):
    """The metrics in a registry of their own."""

    def __init__(self) -> None:
        super().__init__(_STAGE_SECONDS)
        self._requests()
        self._search_quality()
        self._answers()
        self._indexes()

    def _requests(self) -> None:
        self.requests = self._counter("rag_requests_total", "Requests ended.", ["route", "status"])
        self.request_seconds = self._histogram(
            "rag_request_seconds", "From the request's head to the end of its answer.", ["route"]
        )
        self.stage_seconds = self._histogram(
            "rag_stage_seconds",
            "Time of one stage of one search or answer. wait: for a free worker; first_text: from the call of the "
            "engine to its first text; answer: to its end.",
            ["collection", "stage"],
        )
        self.searches_in_flight = self._gauge("rag_searches_in_flight", "Searches that run or wait for a worker.")
        self.asks_in_flight = self._gauge("rag_asks_in_flight", "Questions that are being answered.")
        self.engine_ready = self._gauge("rag_engine_ready", "1 while the engine says that it is ready, else 0.")

    def _search_quality(self) -> None:
        by = ["collection"]
        self.dense_top_score = self._histogram(
            "rag_dense_top_score", "Similarity of the query and the nearest passage: the cosine.", by, _RATIOS
        )
        self.dense_score_gap = self._histogram(
            "rag_dense_score_gap", "How much the tenth nearest passage is less similar than the nearest.", by, _GAPS
        )
        self.sparse_top_score = self._histogram(
            "rag_sparse_top_score", "BM25 score of the best passage; 0: no passage has a word of the query.", by, _BM25
        )
        self.terms_known = self._histogram(
            "rag_query_terms_known_ratio", "Share of a query's terms that the sparse index holds.", by, _TENTHS
        )
        self.legs_overlap = self._histogram(
            "rag_legs_overlap_ratio", "Share of the first ten that sparse and dense search have in common.", by, _TENTHS
        )
        self.fused_share = self._histogram(
            "rag_fused_share_ratio",
            "Share of the first ten after fusion that stand in the first ten of one leg: sparse or dense.",
            ["collection", "leg"],
            _TENTHS,
        )
        self.rerank_moved = self._histogram(
            "rag_rerank_moved_rank", "Rank before reranking of the passage that stands first after it.", by, _RANKS
        )
        self.rerank_fallbacks = self._counter(
            "rag_rerank_fallbacks_total", "Searches whose reranker ran out of time: the order before it was used.", by
        )
        self.results = self._histogram("rag_results", "Passages that a search gave.", by, _COUNTS)
        self.query_truncated = self._counter(
            "rag_query_truncated_total", "Queries that the encoder cut off at its limit of tokens.", by
        )
        self.access_violations = self._counter(
            "rag_access_violations_total", "Searches stopped: a stage brought up what the caller may not see.", by
        )
        self.canary_found = self._gauge(
            "rag_canary_found_ratio", "Share of the canary questions whose document a stage found.", [*by, "stage"]
        )

    def _answers(self) -> None:
        by = ["collection"]
        self.answers = self._counter(
            "rag_answers_total",
            "Questions ended. outcome: answered, no_evidence (refused without asking the engine), failed.",
            [*by, "outcome"],
        )
        self.no_evidence = self._counter("rag_no_evidence_total", "Questions for which nothing was found.", by)
        self.context_tokens = self._histogram(
            "rag_context_tokens", "Tokens of the passages in a prompt, in the engine's count.", by, _TOKENS
        )
        self.context_passages = self._histogram("rag_context_passages", "Passages in a prompt.", by, _COUNTS)
        self.context_dropped = self._counter(
            "rag_context_dropped_total", "Passages that were found and did not fit into the prompt.", by
        )
        self.citations = self._counter(
            "rag_citations_total",
            "Citations in answers. valid: true where the number is one of a passage in the prompt.",
            [*by, "valid"],
        )
        self.cited_answers = self._counter("rag_cited_answers_total", "Answers with at least one valid citation.", by)
        self.tokens = self._counter(
            "rag_tokens_total", "Tokens of answered questions, as the engine counted them.", [*by, "direction"]
        )

    def _indexes(self) -> None:
        by = ["collection"]
        self.collection_ready = self._gauge("rag_collection_ready", "1 while the collection can be searched.", by)
        self.index_passages = self._gauge("rag_index_passages", "Passages of the active index.", by)
        self.index_documents = self._gauge("rag_index_documents", "Documents of the active index.", by)
        self.index_age = self._gauge("rag_index_age_seconds", "Since the active index was built.", by)
        self.index_lag = self._gauge(
            "rag_index_lag_documents", "Documents that were added, changed or deleted since that index was built.", by
        )
        self.encoder_truncated = self._gauge(
            "rag_encoder_truncated_ratio", "Share of the index's passages that its encoder cut off.", by
        )
        self.ingest = self._counter(
            "rag_ingest_documents_total", "Documents written: added, changed, unchanged or deleted.", [*by, "outcome"]
        )
        self.builds = self._counter(
            "rag_index_builds_total", "Index builds ended. outcome: built, unchanged, failed.", [*by, "outcome"]
        )
        self.build_seconds = self._gauge("rag_index_build_seconds", "How long the last build took.", by)
        self.switches = self._counter("rag_index_switches_total", "Changes of the active index while running.", by)
        self.store_ready = self._gauge("rag_store_ready", "1 while the document store answers, else 0.")
