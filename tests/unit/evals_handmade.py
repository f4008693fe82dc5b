"""Suites, rows and baselines made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from stack.evals.baseline import SCHEMA, Baseline
from stack.evals.example import Failure, Row
from stack.evals.suite import Named

SUITE = {
    "schema": 1,
    "about": "Whether abuse is stopped however it is written.",
    "task": "moderation",
    "services": ["moderation", "gateway"],
    "examples": {"quick": 10, "full": 20},
    "metrics": {"right": {"score": "right", "tolerance": 0.05}},
}


def suite(folder: Path, name: str = "texts", **changes: object) -> Named:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(SUITE | changes))
    return Named(path)


def rows(
    scores: np.ndarray | list[float], name: str = "right", slices: tuple[str, ...] = (), **more: float
) -> dict[str, Row]:
    found = {}
    for place, score in enumerate(scores):
        all_scores = {name: float(score), "at_once": 1.0, **more}
        found[f"e{place:03}"] = Row("texts", f"e{place:03}", "k", "d", slices, {}, {"text": ""}, all_scores, 0.1)
    return found


def failed(row: Row, error: str = "gateway answered 500", what: Failure = "stack") -> Row:
    return replace(row, output={}, scores={}, error=error, failed=what)


def baseline(of: Named, before: dict[str, Row], mode: str = "quick", quick: list[str] | None = None) -> Baseline:
    return Baseline(
        SCHEMA, of.name, of.hash, mode, {}, "a machine", 0.0,
        {name: row.scores for name, row in before.items()},
        {},
        {name: row.digest for name, row in before.items()},
        sorted(before if quick is None else quick),
    )  # fmt: skip
