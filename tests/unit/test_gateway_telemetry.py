"""Request ids, trace context, log lines and metric names."""

import json
import logging
import re

import pytest

from stack.telemetry.ids import Ids, current_ids, ids_from_headers
from stack.telemetry.logs import configure_logs
from stack.telemetry.metrics import GatewayMetrics

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("header", [f"00-{TRACE}-{SPAN}-01", f"7f-{TRACE}-{SPAN}-01-more"])
def test_a_valid_traceparent_is_continued_with_a_span_of_our_own(header: str) -> None:
    ids = ids_from_headers(None, header)
    assert ids.trace_id == TRACE
    assert re.fullmatch(r"[0-9a-f]{16}", ids.span_id)
    assert ids.span_id != SPAN
    assert ids.traceparent == f"00-{TRACE}-{ids.span_id}-01"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_an_invalid_traceparent_starts_a_new_trace(header: str | None) -> None:
    ids = ids_from_headers(None, header)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", ids.traceparent)
    assert ids.trace_id != TRACE


def test_a_request_id_is_kept_when_well_formed_and_else_made() -> None:
    assert ids_from_headers("Run_1.a-9", None).request_id == "Run_1.a-9"
    for bad in (None, "", "a b", "a\n", "x" * 65, "é"):
        assert re.fullmatch(r"[0-9a-f]{32}", ids_from_headers(bad, None).request_id)


def test_a_log_line_is_one_json_object_with_the_ids_of_the_request(
    root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("gateway", "info")
    log = logging.getLogger("test")
    log.info("before")
    token = current_ids.set(Ids("r-1", TRACE, SPAN))
    log.warning("in a\nrequest", extra={"status": 200})
    log.debug("not shown")
    current_ids.reset(token)
    before, within = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "request_id" not in before
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", within.pop("time"))
    assert within == {
        "level": "WARNING",
        "logger": "test",
        "message": "in a\nrequest",
        "service": "gateway",
        "status": 200,
        "request_id": "r-1",
        "trace_id": TRACE,
        "span_id": SPAN,
    }


def test_the_gateways_metrics_have_base_units_and_the_configured_buckets() -> None:
    metrics = GatewayMetrics([0.5, 2])
    metrics.time_to_first_token.labels("desk").observe(1)
    families = {family.name: family for family in metrics.registry.collect() if family.name.startswith("gateway_")}
    assert set(families) == {
        "gateway_requests",
        "gateway_request_duration_seconds",
        "gateway_time_to_first_token_seconds",
        "gateway_upstream_duration_seconds",
        "gateway_overhead_seconds",
        "gateway_in_flight_requests",
        "gateway_rejections",
        "gateway_tokens",
        "gateway_upstream_ready",
        "gateway_circuit_state",
        "gateway_retries",
        "gateway_tenant_in_flight",
        "gateway_tenant_token_budget_used_ratio",
        "gateway_limits_degraded",
        "gateway_moderation",
        "gateway_moderation_degraded",
    }
    samples = families["gateway_time_to_first_token_seconds"].samples
    counts = {sample.labels["le"]: sample.value for sample in samples if sample.name.endswith("_bucket")}
    assert counts == {"0.5": 0, "2.0": 1, "+Inf": 1}
