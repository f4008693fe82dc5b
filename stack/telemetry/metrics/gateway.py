"""The gateway's metrics. Tenants and assistants come from the configuration; what is not in it is "unknown"."""

from collections.abc import Sequence

from stack.telemetry.metrics.registry import ServiceMetrics

_OWN_TIME_BUCKETS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class GatewayMetrics(ServiceMetrics):
    """The gateway's metrics in a registry of their own; `latency_buckets` are upper bounds in seconds."""

    def __init__(self, latency_buckets: Sequence[float]) -> None:
        super().__init__(latency_buckets)
        self.requests = self._counter(
            "gateway_requests_total",
            "Requests ended. A stream that broke after its first byte has the status its error stands for; "
            "499: the caller left.",
            ["route", "tenant", "assistant", "status"],
        )
        self.request_duration = self._histogram(
            "gateway_request_duration_seconds",
            "From the request's head to the end of its answer.",
            ["route", "assistant"],
        )
        self.time_to_first_token = self._histogram(
            "gateway_time_to_first_token_seconds",
            "From the request's head to the first text of a streamed answer.",
            ["assistant"],
        )
        self.upstream_duration = self._histogram(
            "gateway_upstream_duration_seconds",
            "From the call of a service behind the gateway to the end of its answer; outcome: ok, or the error's code.",
            ["upstream", "assistant", "outcome"],
        )
        self.overhead = self._histogram(
            "gateway_overhead_seconds",
            "Own time per request passed on: duration less the waits for the caller and for other services.",
            ["route"],
            buckets=_OWN_TIME_BUCKETS,
        )
        self.in_flight = self._gauge("gateway_in_flight_requests", "Requests in progress that other services serve.")
        self.tenant_in_flight = self._gauge("gateway_tenant_in_flight", "The same by tenant.", ["tenant"])
        self.token_budget_used = self._gauge(
            "gateway_tenant_token_budget_used_ratio",
            "Tokens of the last minute, reserved ones included, as a share of the tenant's limit.",
            ["tenant"],
        )
        self.rejections = self._counter(
            "gateway_rejections_total",
            "Requests that the gateway refused by itself, by error code.",
            ["reason", "tenant"],
        )
        self.tokens = self._counter(
            "gateway_tokens_total",
            "Tokens of answered requests, as the engine counted them.",
            ["tenant", "assistant", "direction"],
        )
        self.limits_degraded = self._counter(
            "gateway_limits_degraded_total",
            "Times that a tenant's rate was counted in this process alone, because the shared storage did not answer.",
        )
        self.upstream_ready = self._gauge(
            "gateway_upstream_ready", "1 while the service says that it is ready, else 0.", ["upstream"]
        )
        self.circuit_state = self._gauge(
            "gateway_circuit_state", "0 closed, 1 letting one request through to see, 2 open.", ["upstream"]
        )
        self.retries = self._counter(
            "gateway_retries_total",
            "Calls repeated, by what came of it; no_budget: not repeated, because too many were.",
            ["upstream", "outcome"],
        )
        self.moderation = self._counter(
            "gateway_moderation_total",
            "Checks by moderation; stage: input or output. A streamed answer has one a segment.",
            ["stage", "decision"],
        )
        self.moderation_degraded = self._counter(
            "gateway_moderation_degraded_total",
            "Texts that were to be checked and could not be; mode: block, or allow for those let through.",
            ["stage", "mode"],
        )
