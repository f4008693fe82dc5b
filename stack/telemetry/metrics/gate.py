"""The release gate's metrics. Releases come from the configuration; the release in service is one of them."""

from stack.telemetry.metrics.registry import ServiceMetrics


class GateMetrics(ServiceMetrics):
    """The metrics in a registry of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = self._counter("gate_requests_total", "Requests ended.", ["route", "status"])
        self.request_seconds = self._histogram(
            "gate_request_seconds", "From the request's head to the end of its answer.", ["route"]
        )
        self.rounds = self._counter("gate_rounds_total", "Rounds over all candidates.")
        self.round_seconds = self._gauge("gate_round_seconds", "How long the last round took.")
        self.questions = self._gauge("gate_questions", "Questions that each release is asked.")
        self.score = self._gauge("gate_score", "Mean over the questions, 0 to 1.", ["release"])
        self.perfect = self._gauge(
            "gate_perfect_ratio", "Share of the questions with the best possible score.", ["release"]
        )
        self.difference = self._gauge("gate_difference", "Mean less that of the release in service.", ["release"])
        self.low = self._gauge("gate_difference_low", "Lower end of the interval of that difference.", ["release"])
        self.high = self._gauge("gate_difference_high", "Upper end of the interval of that difference.", ["release"])
        self.blocked = self._gauge("gate_blocked", "1 where the release may not ship, else 0.", ["release"])
