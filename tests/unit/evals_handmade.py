"""Suites, rows and baselines made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from stack.evals.baseline import SCHEMA, Baseline, digest_of
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
    return {
        f"e{place:03}": Row(
            "texts", f"e{place:03}", "k", slices, {}, {"text": ""}, {name: float(score), "at_once": 1.0, **more}, 0.1
        )
        for place, score in enumerate(scores)
    }


def failed(row: Row, error: str = "gateway answered 500", what: Failure = "stack") -> Row:
    return replace(row, output={}, scores={}, error=error, failed=what)


def baseline(of: Named, before: dict[str, Row], mode: str = "quick", quick: list[str] | None = None) -> Baseline:
    return Baseline(
        SCHEMA, of.name, of.hash, mode, {}, "a machine", 0.0,
        {name: row.scores for name, row in before.items()},
        {},
        {name: digest_of(row) for name, row in before.items()},
        sorted(before if quick is None else quick),
    )  # fmt: skip
