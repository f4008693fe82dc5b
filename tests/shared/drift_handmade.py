"""Traffic made by hand: vectors around a centre, with scores."""

import base64
import json
from pathlib import Path

import numpy as np

from stack.drift.config import DriftConfig
from stack.drift.traffic import Searches

DIMENSIONS = 16


def searches(count: int, seed: int, shifted: float = 0.0, share: float = 1.0) -> Searches:
    """`share` of them are `shifted` along the first direction, and find less near passages."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 1, (count, DIMENSIONS)).astype(np.float32)
    moved = rng.uniform(0, 1, count) < share
    vectors[moved, 0] += shifted
    dense = rng.normal(0.6, 0.1, count) - 0.1 * shifted * moved
    at = 1e6 * seed + np.arange(count, dtype=float)
    return Searches(at, vectors, dense, rng.gamma(4, 2, count), np.ones(count, bool))


def config(window: int = 100, reference: int = 400, **changes: object) -> DriftConfig:
    threshold = {"kind": "null", "share": 0.99}
    detectors = {
        "mmd": {"signal": "queries", "distance": "mmd", "threshold": threshold},
        "domain": {"signal": "queries", "distance": "domain_auc", "threshold": threshold},
        "nearest": {"signal": "dense", "distance": "wasserstein", "threshold": threshold},
    }
    fields = {
        "schema": 1, "listen": {"port": 8107}, "traffic": "searches.jsonl", "collection": "books",
        "window": {"searches": window}, "reference": {"file": "reference.npz", "searches": reference},
        "draws": 99, "detectors": detectors, **changes,
    }  # fmt: skip
    return DriftConfig.model_validate(fields)


def without_classifier() -> DriftConfig:
    """Whose null takes a fraction of a second."""
    made = config()
    return made.model_copy(update={"detectors": {k: v for k, v in made.detectors.items() if k != "domain"}})


def lines(of: Searches, collection: str = "books") -> bytes:
    found = []
    for row in range(len(of)):
        line = {
            "schema": 1,
            "at": of.at[row],
            "collection": collection,
            "tenant": "t",
            "vector": base64.b64encode(of.vectors[row].astype(np.float16).tobytes()).decode(),
            "dense": of.dense[row],
            "sparse": of.sparse[row],
            "evidence": bool(of.evidence[row]),
        }
        found.append(json.dumps(line) + "\n")
    return "".join(found).encode()


def log_of(path: Path, of: Searches) -> None:
    with path.open("ab") as file:
        file.write(lines(of))
