"""The drift monitor's metrics. Detectors come from the configuration; reference is pinned or rolling."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector


class DriftMetrics:
    """The metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        by = ["detector", "reference"]

        def gauge(name: str, help_: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(name, help_, labels, registry=registry)

        self.requests = Counter("drift_requests_total", "Requests ended.", ["route", "status"], registry=registry)
        self.request_seconds = Histogram(
            "drift_request_seconds", "From the request's head to the end of its answer.", ["route"], registry=registry
        )
        self.searches = Counter("drift_searches_total", "Searches read from the traffic log.", registry=registry)
        self.windows = Counter("drift_windows_total", "Windows compared.", registry=registry)
        self.window_end = gauge("drift_last_window_timestamp_seconds", "When the last search of the last window ended.")
        self.reference_searches = gauge("drift_reference_searches", "Searches of the pinned reference.")
        self.distance = gauge("drift_distance", "How far the last window is from a reference.", by)
        self.usual = gauge("drift_usual_distance", "What that distance is without drift: the middle of its null.", by)
        self.limit = gauge("drift_limit", "What it must exceed to be beyond.", by)
        self.p_value = gauge("drift_p_value", "Share of windows without drift that are as far.", by)
        self.in_a_row = gauge("drift_windows_beyond", "Windows in a row that were beyond, up to the last one.", by)
        self.detected = gauge("drift_detected", "1 while enough windows in a row were beyond, else 0.", by)
        self.no_answer = gauge("drift_no_answer_ratio", "Share of the last window's searches that found no evidence.")
