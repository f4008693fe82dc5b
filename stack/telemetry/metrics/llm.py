"""The metrics of the engine's launcher; the engine has its own."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class CanaryMetrics:
    """The engine launcher's metrics: whether the engine behind it was found to answer rightly."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.ready = Gauge("llm_canary_ready", "1 when the engine passed its canaries and runs.", registry=registry)
        self.mismatches = Counter(
            "llm_canary_mismatches_total", "Canary prompts that were answered wrongly.", registry=registry
        )
        self.start_seconds = Gauge("llm_start_seconds", "From the launcher's start to readiness.", registry=registry)
