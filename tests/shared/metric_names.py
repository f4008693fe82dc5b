"""Which metrics exist: tests of rules, panels and scenarios ask, and a query for nothing fails the build."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from lab.paths import CACHE, DASHBOARDS
from lab.promql import metric_names
from lab.scrape import rule_files
from loadtests.metrics import Meters
from stack.telemetry.metrics import (
    CanaryMetrics,
    DriftMetrics,
    GateMetrics,
    GatewayMetrics,
    ModerationMetrics,
    RagMetrics,
)

_ENGINE_METRIC = re.compile(r'(?:_(counter|gauge|histogram)_cls\(\s*name=|\(\s*)"(vllm:[a-z0-9_]+)",')

# How a family's name continues in its series, by type; the others are exposed under their own name.
_SUFFIXES = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "summary": ("", "_sum", "_count", "_created"),
    "info": ("_info",),
}

# What Prometheus adds to each scrape or makes of rules, and what the client library exposes everywhere.
_OF_PROMETHEUS = re.compile(
    r"up|ALERTS|ALERTS_FOR_STATE|scrape_(duration_seconds|samples_(scraped|added|post_metric_relabeling))|"
    r"(process|python|prometheus)_[a-z0-9_]+"
)


def known() -> frozenset[str]:
    """Every series that a drill's Prometheus can have, besides those that Prometheus adds itself."""
    plain = (CanaryMetrics, RagMetrics, ModerationMetrics, DriftMetrics, GateMetrics)
    services = (GatewayMetrics((1.0,)), *(metrics() for metrics in plain))
    registries = (*(metrics.registry for metrics in services), Meters().registry)
    names = of_engine() | of_rules(rule_files(DASHBOARDS / "rules"))
    return names.union(*(of_registry(registry) for registry in registries))


def of_registry(registry: CollectorRegistry) -> frozenset[str]:
    """The series names that `registry` can expose, labelled metrics without a sample so far too."""
    return frozenset(name for family in registry.collect() for name in _series(family.name, family.type))


def _series(family: str, kind: str) -> list[str]:
    base = family.removesuffix("_total") if kind == "counter" else family
    return [base + suffix for suffix in _SUFFIXES.get(kind, ("",))]


def of_engine(environment: Path = CACHE / "engine") -> frozenset[str]:
    """The series names that vLLM can expose in a drill, read from its source in a virtual `environment`.

    `vllm:cache_config_info` is not among them: it is dropped at scrape time. Raises FileNotFoundError where
    vLLM is not installed.
    """
    files = sorted(environment.glob("lib/python3*/site-packages/vllm/v1/metrics/*.py"))
    files += sorted(environment.glob("lib/python3*/site-packages/vllm/v1/spec_decode/*.py"))
    if not files:
        raise FileNotFoundError(f"no vLLM in {environment}; `python3 lab/bootstrap.py` installs it")
    found = [match for file in files for match in _ENGINE_METRIC.findall(file.read_text(encoding="utf-8"))]
    # Without a class in front it stands in a list of (name, help) of counters, as speculative decoding's do.
    return frozenset(series for kind, name in found for series in _series(name, kind or "counter"))


def of_rules(files: Iterable[Path]) -> frozenset[str]:
    """The series that the recording rules in `files` make."""
    return frozenset(rule["record"] for rule in rules(files) if "record" in rule)


def rules(files: Iterable[Path]) -> list[dict[str, Any]]:
    """All rules of Prometheus rule `files`, recording and alerting, as written."""
    documents = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    return [rule for document in documents for group in document["groups"] for rule in group["rules"]]


def unknown(expression: str, known: frozenset[str]) -> list[str]:
    """The metrics of `expression` that neither `known` nor Prometheus has, sorted. Raises QueryError."""
    return sorted(name for name in metric_names(expression) if name not in known and not _OF_PROMETHEUS.fullmatch(name))
