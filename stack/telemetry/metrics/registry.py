"""What the metrics of every service are made with."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector


class ServiceMetrics:
    """Metrics of one service in a registry of their own, with those of its process."""

    def __init__(self, buckets: Sequence[float] = Histogram.DEFAULT_BUCKETS) -> None:
        """`buckets`: upper bounds for histograms that name none, in seconds where they measure time."""
        self._buckets = buckets
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

    def _counter(self, name: str, help_: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, help_, labels, registry=self.registry)

    def _gauge(self, name: str, help_: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, help_, labels, registry=self.registry)

    def _histogram(self, name: str, help_: str, labels: Sequence[str] = (), buckets: Sequence[float] = ()) -> Histogram:
        return Histogram(name, help_, labels, registry=self.registry, buckets=buckets or self._buckets)
