"""The generator's own metrics, so that what clients saw and what servers say stand on one graph."""

import math
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from loadtests import LoadError
from loadtests.labelled import Expected
from loadtests.rows import Row

# Every objective of a scenario must be one of these: the share under it is then exact.
SECONDS = (.01, .025, .05, .1, .15, .2, .3, .5, .75, 1, 1.5, 2, 3, 5, 8, 10, 15, 20, 30, 60)  # fmt: skip
RANKS = (1, 2, 3, 5, 10)
DECISIONS = frozenset({"allow", "block", "review"})


class Meters:
    """The series of one process; `user` is the name in the plan's header.

    The histograms of answers hold complete answers only: a quick refusal must not improve them. The share of
    the *offered* requests that met an objective is bucket / `loadgen_offered_total`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, ["user"], buckets=SECONDS, registry=self.registry)

        self._offered = Counter("loadgen_offered", "Requests that came due.", ["user"], registry=self.registry)
        self._ended = Counter("loadgen_requests", "Requests that ended.", ["user", "outcome"], registry=self.registry)
        self._in_flight = Gauge(
            "loadgen_in_flight_requests",
            "Requests sent and not ended.",
            ["user"],
            registry=self.registry,
        )
        self._lag = histogram("loadgen_schedule_lag_seconds", "How late requests were sent.")
        self._ttft = histogram("loadgen_time_to_first_token_seconds", "From the intended moment.")
        self._tpot = histogram("loadgen_time_per_output_token_seconds", "After the first token.")
        self._duration = histogram("loadgen_request_duration_seconds", "From the intended moment to the end.")
        self._rank = Histogram(
            "loadgen_right_document_rank",
            "Of questions whose document is known: its place among what was found; above all buckets when it was not.",
            ["user"],
            buckets=RANKS,
            registry=self.registry,
        )
        self._decisions = Counter(
            "loadgen_decisions",
            "Decisions on texts whose label is known (violating, clean).",
            ["user", "label", "decision"],
            registry=self.registry,
        )

    def serve(self, port: int) -> None:
        """Answers `GET /metrics` on the loopback interface. Raises LoadError."""
        try:
            start_http_server(port, addr="127.0.0.1", registry=self.registry)
        except (OSError, OverflowError) as problem:
            raise LoadError(f"metrics port {port}: cannot listen on it ({problem}); choose another") from problem

    def sent(self, user: str, lag: float) -> None:
        """A request came due and is sent `lag` seconds after that."""
        self._offered.labels(user).inc()
        self._in_flight.labels(user).inc()
        self._lag.labels(user).observe(lag)

    def ended(self, user: str, row: Row, expected: Expected | None = None) -> None:
        """A request that was `sent` is over; `expected` is what a right answer would have been."""
        self._in_flight.labels(user).dec()
        self._ended.labels(user, row.outcome).inc()
        if row.outcome != "ok":
            return
        for histogram, seconds in (
            (self._ttft, row.ttft),
            (self._tpot, row.tpot),
            (self._duration, row.latency),
        ):
            if seconds is not None:
                histogram.labels(user).observe(seconds)
        if expected is not None and expected.document is not None:
            self._rank.labels(user).observe(rank(row.documents or (), expected.document) or math.inf)
        if expected is not None and expected.violating is not None:
            label = "violating" if expected.violating else "clean"
            decision = row.decision if row.decision in DECISIONS else "none"
            self._decisions.labels(user, label, decision).inc()


def rank(documents: Sequence[str], wanted: str) -> int | None:
    """The place of `wanted`, from 1; None when it is not there."""
    return documents.index(wanted) + 1 if wanted in documents else None
