"""Turns what a load run left behind (rows, metrics) into the numbers that checks compare."""

import math
import time
from collections.abc import Sequence
from string import Template
from typing import Any

from lab.prometheus import Prometheus, PrometheusUnreachable
from lab.promql import QueryError
from lab.run import Run
from lab.scenario import Cost, Level, Objectives, Public
from loadtests.rows import Row

SCRAPE_SECONDS = 1
SCRAPED_SHARE = 0.9  # of the expected scrapes, below which metrics prove nothing


def good(row: Row, objectives: Objectives) -> bool:
    """Whether one request met every objective. An answer of fewer than two tokens has no time per output token."""
    if row.outcome != "ok" or row.latency is None:
        return False
    if not row.streamed:
        return _within(row.latency, objectives.whole_seconds)
    return (
        row.ttft is not None
        and bool(row.completion_tokens)
        and _within(row.ttft, objectives.first_token_seconds)
        and _within(row.latency, objectives.latency_seconds)
        and (row.tpot is None or _within(row.tpot, objectives.time_per_output_token_seconds))
    )


def _within(seconds: float, limit: float | None) -> bool:
    return limit is None or seconds <= limit


def goodput(rows: Sequence[Row], planned: int, objectives: Objectives, cut_at: float | None = None) -> float:
    """Good requests as a share of all planned ones: what was never sent, refused or unfinished is a miss.

    Where we cut the load short after `cut_at` seconds, only certain misses count, and this is an upper bound.
    """
    if cut_at is not None:
        return 1 - sum(certain_miss(row, cut_at, objectives) for row in rows) / planned
    return sum(good(row, objectives) for row in rows) / planned


def certain_miss(row: Row, now: float, objectives: Objectives) -> bool:
    """Whether a request has missed an objective for good, `now` seconds into the run."""
    if row.outcome != "unfinished":
        return not good(row, objectives)
    waited = now - row.intended
    if not row.streamed:
        return not _within(waited, objectives.whole_seconds)
    late_start = row.first_token is None and not _within(waited, objectives.first_token_seconds)
    return late_start or not _within(waited, objectives.latency_seconds)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank quantile; None of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def load_figures(
    rows: Sequence[Row], planned: int, objectives: Objectives, cut_at: float | None = None
) -> dict[str, float | None]:
    """What the rows say: goodput, quantiles in seconds, mean tokens per streamed answer, outcomes as shares."""
    answered = [row for row in rows if row.outcome == "ok"]
    ttft = [row.ttft for row in answered if row.ttft is not None]
    tpot = [row.tpot for row in answered if row.tpot is not None]
    streamed = [row for row in answered if row.streamed]
    whole = [row.latency for row in answered if not row.streamed and row.latency is not None]
    return {
        "goodput": goodput(rows, planned, objectives, cut_at),
        "answered_share": len(answered) / planned,
        "ttft_p50": quantile(ttft, 0.5),
        "ttft_p95": quantile(ttft, 0.95),
        "tpot_p50": quantile(tpot, 0.5),
        "tpot_p95": quantile(tpot, 0.95),
        "whole_p50": quantile(whole, 0.5),
        "whole_p95": quantile(whole, 0.95),
        "prompt_tokens": mean([row.prompt_tokens or 0 for row in streamed]),
        "completion_tokens": mean([row.completion_tokens or 0 for row in streamed]),
    }


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def metric_figures(run: Run, public: Public, start: float, end: float) -> dict[str, Any]:
    """The queries of the checks over the window (unix seconds), and whether Prometheus scraped all through it.

    A query that has no answer, several, or NaN gives None: the grade decides what that means.
    """
    window = max(1, math.ceil(end - start))
    found: dict[str, Any] = {"window_seconds": window, "problem": None, "costs": {}, "levels": {}, "services_up": {}}
    asked = [(check, "costs" if isinstance(check, Cost) else "levels") for check in public.checks
             if isinstance(check, Cost | Level)]  # fmt: skip
    try:
        with Prometheus(run.prometheus_url) as prometheus:
            scrapes = _value(prometheus, f'count_over_time(up{{job="prometheus"}}[{window}s])', end)
            for job in public.services:
                found["services_up"][job] = _value(prometheus, f'avg_over_time(up{{job="{job}"}}[{window}s])', end)
            for check, kind in asked:
                query = Template(check.query).substitute(window=f"{window}s")
                found[kind][check.id] = _value(prometheus, query, end)
    except (PrometheusUnreachable, QueryError) as problem:
        for check, kind in asked:
            found[kind][check.id] = None
        return found | {"problem": str(problem)}
    if (scrapes or 0) < SCRAPED_SHARE * window / SCRAPE_SECONDS:
        found["problem"] = f"Prometheus has {scrapes or 0:.0f} of {window} scrapes of the graded window"
    return found


def _value(prometheus: Prometheus, query: str, at: float) -> float | None:
    samples = prometheus.query(query, time=at)
    if len(samples) != 1 or not math.isfinite(samples[0].value):
        return None
    return samples[0].value


def wait_scraped(seconds: float = 2 * SCRAPE_SECONDS) -> None:
    """Until Prometheus has scraped what happened just now."""
    time.sleep(seconds)
