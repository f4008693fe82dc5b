"""The moderation service's metrics. Every label is one of a closed list, but for `policy`, which is configured."""

from collections.abc import Iterable

from stack.telemetry.metrics.registry import ServiceMetrics

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 10, 15, 20, 30, 60)
WAIT_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_SCORE_STEPS = tuple(round(0.05 * step, 2) for step in range(1, 21))


class ModerationMetrics(ServiceMetrics):
    """The service's metrics in a registry of their own; `band_edges` become boundaries of the score histogram."""

    def __init__(self, band_edges: Iterable[float] = ()) -> None:
        super().__init__(SECONDS)
        scores = sorted({*_SCORE_STEPS, *(edge for edge in band_edges if edge > 0)})

        self.requests = self._counter("moderation_requests_total", "Requests answered.", ["route", "status"])
        self.request_seconds = self._histogram(
            "moderation_request_seconds", "From the request's head to the end of its answer.", ["route"]
        )
        self.in_flight = self._gauge("moderation_in_flight_texts", "Texts in progress.")
        self.decisions = self._counter(
            "moderation_decisions_total",
            "Texts decided, by the tier that ended it; category: none where a text was allowed for lack of any.",
            ["tier", "decision", "category", "policy"],
        )
        self.tier_seconds = self._histogram(
            "moderation_tier_seconds", "Of one text in one tier, waits included.", ["tier"]
        )
        self.escalations = self._counter(
            "moderation_escalations_total", "Texts that a tier passed on undecided.", ["from", "to"]
        )
        self.score = self._histogram(
            "moderation_score", "Calibrated scores of tier 2, scores of the judge in tier 3.", ["tier"], scores
        )
        self.degraded = self._counter(
            "moderation_degraded_total",
            "Texts decided without a tier that should have seen them; mode: open, closed or review.",
            ["tier", "reason", "mode"],
        )
        self.batch_texts = self._histogram(
            "moderation_batch_texts", "Texts that tier 2 scored in one go.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
        )
        self.judge_in_flight = self._gauge("moderation_judge_in_flight", "Calls of the judge in progress.")
        self.judge_waiting = self._gauge("moderation_judge_waiting", "Texts that wait for a call of the judge.")
        self.judge_seconds = self._histogram(
            "moderation_judge_seconds", "Of one call of the judge, its wait not included."
        )
        self.judge_tokens = self._counter(
            "moderation_judge_tokens_total", "Tokens of judged texts, as the engine counted."
        )
        self.queue_depth = self._gauge("moderation_queue_depth", "Undecided review items.", ["priority"])
        self.queue_oldest_age = self._gauge(
            "moderation_queue_oldest_age_seconds", "Age of the oldest undecided item; 0 where none is.", ["priority"]
        )
        self.queue_wait = self._histogram(
            "moderation_queue_wait_seconds",
            "From a review item's arrival to its first lease.",
            ["priority"],
            WAIT_SECONDS,
        )
        self.queue_up = self._gauge("moderation_queue_up", "1 while the review queue's database answers, else 0.")
        self.leases_expired = self._counter("moderation_leases_expired_total", "Leases that ran out undecided.")
        self.review_decisions = self._counter(
            "moderation_review_decisions_total", "Decisions of reviewers.", ["outcome"]
        )
        self.overturned = self._counter(
            "moderation_overturned_total", "Decisions of reviewers against what the last score leaned to."
        )
