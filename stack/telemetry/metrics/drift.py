"""The drift monitor's metrics. Detectors come from the configuration; reference is pinned or rolling."""

import math

from stack.telemetry.metrics.registry import ServiceMetrics


class DriftMetrics(ServiceMetrics):
    """The metrics in a registry of their own."""

    def __init__(self) -> None:
        super().__init__()
        by = ["detector", "reference"]
        self.requests = self._counter("drift_requests_total", "Requests ended.", ["route", "status"])
        self.request_seconds = self._histogram(
            "drift_request_seconds", "From the request's head to the end of its answer.", ["route"]
        )
        self.searches = self._counter(
            "drift_searches_total", "Searches read from the traffic log that can be compared.", ["collection"]
        )
        self.refused = self._counter(
            "drift_lines_refused_total", "Lines of the traffic log that cannot: no vector, or one of another length."
        )
        self.failures = self._counter("drift_failures_total", "Looks at the traffic log that failed.")
        self.windows = self._counter("drift_windows_total", "Windows compared.")
        self.window_end = self._gauge(
            "drift_last_window_timestamp_seconds", "When the last search of the last window ended."
        )
        self.measuring = self._gauge("drift_measuring", "1 while the nulls are measured: nothing is read meanwhile.")
        self.reference_searches = self._gauge("drift_reference_searches", "Searches of the pinned reference.")
        self.distance = self._gauge("drift_distance", "How far the last window is from a reference.", by)
        self.usual = self._gauge(
            "drift_usual_distance", "What that distance is without drift: the middle of its null.", by
        )
        self.limit = self._gauge("drift_limit", "What it must exceed to be beyond.", by)
        self.p_value = self._gauge("drift_p_value", "Share of windows without drift that are as far.", by)
        self.in_a_row = self._gauge(
            "drift_windows_beyond", "Windows in a row that were beyond, up to the last one.", by
        )
        self.detected = self._gauge("drift_detected", "1 while enough windows in a row were beyond, else 0.", by)
        self.no_answer = self._gauge(
            "drift_no_answer_ratio", "Share of the last window's searches that found no evidence."
        )
        self.no_answer_lasting = self._gauge(
            "drift_no_answer_lasting_ratio", "The least of that share in as many windows as drift must last for."
        )
        for unknown in (self.window_end, self.no_answer, self.no_answer_lasting):
            unknown.set(math.nan)  # before the first window: no value, neither a good nor a bad one
