"""Recordings made by hand, and what a query gives of some, for tests."""

from collections.abc import Callable, Mapping
from pathlib import Path

from lab.prometheus import Sample
from lab.promql import read
from lab.recording import Recording, load
from lab.replay import Replay


def evaluate(recordings: Mapping[str, Path], expression: str) -> dict[str, list[Sample]]:
    """The value of `expression` at the end of each recording."""
    parts = read(expression)
    named = all(selector.metric for selector in parts.selectors)
    with Replay({name: load(path) for name, path in recordings.items()}, parts.metrics if named else None) as replay:
        return {name: replay.query(name, expression) for name in recordings}


def a_recording(metrics: dict[str, Callable[[int], float]], seconds: int = 60) -> Recording:
    """A scrape a second of each metric of the job `llm`; a function gives its value at a second.

    The keys are names of metrics, or such with one label as in `http_requests_total{code="200"}`.
    """
    return Recording(
        start_ms=5_000_000,
        end_ms=5_000_000 + seconds * 1000,
        series=tuple(
            (
                _labels(name),
                tuple((5_000_123 + second * 1000, float(value(second))) for second in range(seconds)),
            )
            for name, value in metrics.items()
        ),
    )


def _labels(name: str) -> dict[str, str]:
    metric, _, matcher = name.partition("{")
    label, _, text = matcher.rstrip("}").partition("=")
    return {"__name__": metric, "job": "llm"} | ({label: text.strip('"')} if label else {})
