"""The gateway's metrics. Tenants and assistants come from the configuration; what is not in it is "unknown"."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

_OWN_TIME_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class GatewayMetrics:
    """The gateway's metrics in a registry of their own; `latency_buckets` are upper bounds in seconds."""

    def __init__(self, latency_buckets: Sequence[float]) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)

        def counter(name: str, help_: str, labels: Sequence[str]) -> Counter:
            return Counter(name, help_, labels, registry=registry)

        def histogram(
            name: str, help_: str, labels: Sequence[str] = (), buckets: Sequence[float] = latency_buckets
        ) -> Histogram:
            return Histogram(name, help_, labels, registry=registry, buckets=buckets)

        self.requests = counter(
            "gateway_requests_total",
            "Requests ended. A stream that broke after its first byte has the status its error stands for; "
            "499: the caller left.",
            ["route", "tenant", "assistant", "status"],
        )
        self.request_duration = histogram(
            "gateway_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ["route", "assistant"],
        )
        self.time_to_first_token = histogram(
            "gateway_time_to_first_token_seconds",
            "From the request's head to the first text of a streamed answer.",
            ["assistant"],
        )
        self.upstream_duration = histogram(
            "gateway_upstream_duration_seconds",
            "From the call of the engine to the end of its answer; outcome: ok, or the code of the error.",
            ["assistant", "outcome"],
        )
        self.overhead = histogram(
            "gateway_overhead_seconds",
            "Own time per chat request passed to the engine: duration less the waits for caller and engine.",
            buckets=_OWN_TIME_BUCKETS,
        )
        self.in_flight = Gauge("gateway_in_flight_requests", "Chat requests in progress.", registry=registry)
        self.rejections = counter(
            "gateway_rejections_total",
            "Requests that the gateway refused by itself, by error code.",
            ["reason", "tenant"],
        )
        self.tokens = counter(
            "gateway_tokens_total",
            "Tokens of answered requests, as the engine counted them.",
            ["tenant", "assistant", "direction"],
        )
        self.upstream_ready = Gauge(
            "gateway_upstream_ready", "1 while the engine says that it is ready, else 0.", registry=registry
        )
