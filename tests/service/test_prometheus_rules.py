"""Configuration, rules and rule tests of Prometheus, checked by its own promtool."""

import re
import subprocess
from pathlib import Path
from typing import Any

import metric_names
import pytest
import yaml

from lab.paths import DASHBOARDS, ROOT, tool
from lab.promql import read
from lab.scrape import render_config, rule_files
from loadtests.metrics import SECONDS
from stack.gateway.config import GatewayConfig
from stack.llm.config import FIRST_TOKEN_SECONDS, TOKEN_SECONDS
from stack.settings import load
from stack.telemetry.metrics.moderation import SECONDS as MODERATION_SECONDS

RULES_DIR = DASHBOARDS / "rules"
PORTS = {"gateway": 20001, "llm": 20002, "llm-canary": 20003, "loadgen": 20004, "prometheus": 20005}
RULES = metric_names.rules(rule_files(RULES_DIR))
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = [rule for rule in RULES if "record" in rule]
TEST_FILES = sorted(RULES_DIR.glob("*_test.yml"))
TESTS = [test for file in TEST_FILES for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]]


def name_of(rule: dict[str, Any]) -> str:
    return rule.get("record") or rule["alert"]


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


# ── configuration ──


def test_promtool_takes_the_rendered_configuration(tmp_path: Path) -> None:
    path = tmp_path / "prometheus.yml"
    path.write_text(render_config(PORTS, rule_files(RULES_DIR)), encoding="utf-8")
    promtool("check", "config", path)


def test_every_job_is_scraped_on_loopback_at_its_own_port_and_has_no_label_but_job_and_instance() -> None:
    jobs = yaml.safe_load(render_config(PORTS, rule_files(RULES_DIR)))["scrape_configs"]
    found = {job["job_name"]: job["static_configs"] for job in jobs}
    assert found == {name: [{"targets": [f"127.0.0.1:{port}"]}] for name, port in PORTS.items()}


def test_the_rule_files_are_loaded_and_their_tests_are_not() -> None:
    files = yaml.safe_load(render_config(PORTS, rule_files(RULES_DIR)))["rule_files"]
    names = ("drift.yml", "gate.yml", "moderation.yml", "retrieval.yml", "serving.yml")
    assert files == [str(RULES_DIR / name) for name in names]


def test_the_series_that_would_replace_a_diagnosis_is_dropped_from_the_engines_job_alone() -> None:
    jobs = yaml.safe_load(render_config(PORTS, rule_files(RULES_DIR)))["scrape_configs"]
    dropped = {job["job_name"]: [rule["regex"] for rule in job.get("metric_relabel_configs", [])] for job in jobs}
    assert dropped == {name: ["vllm:cache_config_info"] if name == "llm" else [] for name in PORTS}


# ── rules ──


def test_promtool_takes_the_rules_and_their_tests_pass() -> None:
    promtool("check", "rules", *rule_files(RULES_DIR))
    promtool("test", "rules", *TEST_FILES)


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_every_alert_is_shown_to_fire_and_to_be_quiet_before_its_time(rule: dict[str, Any]) -> None:
    cases = [case for test in TESTS for case in test.get("alert_rule_test", [])]
    expected = [bool(case["exp_alerts"]) for case in cases if case["alertname"] == rule["alert"]]
    assert set(expected) == {True, False}


@pytest.mark.parametrize("rule", RECORDED, ids=name_of)
def test_every_recording_rule_has_an_expected_value(rule: dict[str, Any]) -> None:
    assert rule["record"] in {case["expr"] for test in TESTS for case in test.get("promql_expr_test", [])}


@pytest.mark.parametrize("rule", RECORDED, ids=name_of)
def test_every_recording_rule_keeps_the_label_job(rule: dict[str, Any]) -> None:
    """A recording of metrics picks series by job: a rule without one would be missing in it."""
    groupings = re.findall(r"\b(?:by|without)\b\s*\(([^)]*)\)", rule["expr"])
    aggregations = re.findall(r"\b(?:sum|min|max|avg|count|quantile)\b\s*(by|without|\()", rule["expr"])
    assert groupings
    assert set(aggregations) == {"by"}
    assert all("job" in grouping for grouping in groupings)


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_windows_and_delays_fit_a_drill_of_two_minutes(rule: dict[str, Any]) -> None:
    assert all(15 <= window <= 30 for window in read(rule["expr"]).windows)
    assert rule.get("for", "10s") in ("10s", "15s")


# ── names ──


@pytest.fixture(scope="module")
def known() -> frozenset[str]:
    return metric_names.known()


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_every_metric_of_a_rule_exists(rule: dict[str, Any], known: frozenset[str]) -> None:
    missing = metric_names.unknown(rule["expr"], known)
    assert not missing, f"{name_of(rule)} asks for {missing}, which nothing exposes"


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_every_metric_that_an_alert_points_to_exists(rule: dict[str, Any], known: frozenset[str]) -> None:
    words = re.findall(r"[a-z]+[:_][a-z0-9_:]*[a-z0-9]", rule["annotations"]["look_at"])
    missing = [word for word in words if not known & {word, f"{word}_bucket"}]
    assert not missing, f"{rule['alert']} points to {missing}, which nothing exposes"


@pytest.mark.parametrize(
    "name",
    [
        "vllm:num_preemptions",
        "vllm:cache_config_info",
        "vllm:gpu_cache_usage_perc",
        "gateway_requests",
        "uptime",
    ],
)
def test_a_metric_that_nothing_exposes_is_found_out(name: str, known: frozenset[str]) -> None:
    """Alerts in the field ask for a counter without `_total` or by an older name of vLLM, and never fire."""
    assert metric_names.unknown(f"sum(rate({name}[30s]))", known) == [name]


@pytest.mark.parametrize("name", ["up", "process_cpu_seconds_total", "prometheus_tsdb_head_series", "ALERTS"])
def test_what_prometheus_and_its_client_library_add_is_known(name: str, known: frozenset[str]) -> None:
    assert metric_names.unknown(name, known) == []


def test_without_the_engine_the_error_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lab/bootstrap\.py"):
        metric_names.of_engine(tmp_path)


# ── objectives ──

BOUNDARIES = {
    "gateway_time_to_first_token_seconds_bucket": "stack/config/gateway.yaml",
    "vllm:time_to_first_token_seconds_bucket": FIRST_TOKEN_SECONDS,
    "vllm:request_time_per_output_token_seconds_bucket": TOKEN_SECONDS,
    "moderation_request_seconds_bucket": MODERATION_SECONDS,
    "loadgen_time_to_first_token_seconds_bucket": SECONDS,
    "loadgen_time_per_output_token_seconds_bucket": SECONDS,
    "loadgen_schedule_lag_seconds_bucket": SECONDS,
}
OBJECTIVES = sorted({pair for rule in RULES for pair in re.findall(r'([a-z_:]+)\{[^}]*le="([^"]+)"', rule["expr"])})


def test_every_histogram_with_a_known_boundary_is_used_for_an_objective() -> None:
    assert {metric for metric, _ in OBJECTIVES} == set(BOUNDARIES)


@pytest.mark.parametrize(("metric", "bound"), OBJECTIVES)
def test_every_objective_is_a_boundary_of_its_histogram(metric: str, bound: str) -> None:
    """A share under a value between two boundaries would select no series at all."""
    boundaries = BOUNDARIES[metric]
    if isinstance(boundaries, str):
        boundaries = load(ROOT / boundaries, GatewayConfig).telemetry.latency_buckets
    assert float(bound) in [float(boundary) for boundary in boundaries]
    assert bound == str(float(bound)), "the label is written as the client library writes it"
