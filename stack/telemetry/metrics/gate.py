"""The release gate's metrics. Releases come from the configuration; the release in service is one of them."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector


class GateMetrics:
    """The metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def gauge(name: str, help_: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(name, help_, labels, registry=registry)

        self.requests = Counter("gate_requests_total", "Requests ended.", ["route", "status"], registry=registry)
        self.request_seconds = Histogram(
            "gate_request_seconds", "From the request's head to the end of its answer.", ["route"], registry=registry
        )
        self.rounds = Counter("gate_rounds_total", "Rounds over all candidates.", registry=registry)
        self.round_seconds = gauge("gate_round_seconds", "How long the last round took.")
        self.questions = gauge("gate_questions", "Questions that each release is asked.")
        self.score = gauge("gate_score", "Mean over the questions, 0 to 1.", ["release"])
        self.perfect = gauge("gate_perfect_ratio", "Share of the questions with the best possible score.", ["release"])
        self.difference = gauge("gate_difference", "Mean less that of the release in service.", ["release"])
        self.low = gauge("gate_difference_low", "Lower end of the interval of that difference.", ["release"])
        self.high = gauge("gate_difference_high", "Upper end of the interval of that difference.", ["release"])
        self.blocked = gauge("gate_blocked", "1 where the release may not ship, else 0.", ["release"])
