"""A suite: which examples are asked, what is scored, and how much worse a release may be. One YAML file each."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stack.settings import ConfigError, Settings, load, nearest

SUITES = Path(__file__).parent / "suites"
Mode = Literal["quick", "full"]

COVERAGE, AT_ONCE = "coverage", "at once"
"""Metrics of every suite: the share of the examples that was answered, and that at the first time of asking."""
ASK_ONE = {"guard", "preference"}
ASK_COLLECTIONS = ASK_ONE | {"retrieval", "answers", "refusal"}
"""Tasks whose examples are about one collection, or about any."""

MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9@_ -]{0,47}$")]


class Metric(Settings):
    """One number of a suite, and what the gate does when it gets worse."""

    score: str
    """The score of an example that it is made of."""
    aggregate: Literal["mean", "auc", "calibration_error", "p95"] = "mean"
    """How the scores of all examples become one number."""
    slice: str | None = None
    """Only the examples of this slice; null takes all."""
    by_collection: bool = False
    """Each collection of the suite counts by itself: what only one of them loses is hidden in the average of all."""
    better: Literal["higher", "lower", "same"] = "higher"
    """Which direction is an improvement; same: none, and a change in either direction is a loss."""
    tolerance: float = Field(ge=0)
    """How much worse, or other, it may be, in its own unit, or as a share of the baseline's value where `relative`."""
    relative: bool = False
    """The tolerance is a share of the baseline's value."""
    tier: Literal["deterministic", "judged", "timing"] = "deterministic"
    """deterministic blocks; judged warns, and blocks only when it is confirmed and the judge agrees with the labels;
    timing warns: the machine is not always the same."""


class Judge(Settings):
    """A language model that compares two answers."""

    labelled: int = Field(ge=10, le=1000)
    """Pairs whose better answer is known, which say how far the judge can be trusted."""
    least_kappa: float = Field(0.4, ge=0, le=1)
    """Agreement with them (Cohen's kappa) under which the judge may warn and never block."""
    attempts: int = Field(3, ge=1, le=9)
    """How often a call is tried that fails or gives no verdict."""
    rounds: int = Field(3, ge=1, le=9)
    """How often a regression is judged again before it counts as confirmed ..."""
    needed: int = Field(2, ge=1, le=9)
    """... and in how many of these rounds it must be seen."""

    @model_validator(mode="after")
    def _possible(self) -> "Judge":
        if self.needed > self.rounds:
            raise ValueError(f"needed is {self.needed}, more than rounds ({self.rounds}): nothing could be confirmed")
        return self


class Suite(Settings):
    """`NAME.yaml`."""

    schema_version: Literal[1] = Field(alias="schema")
    """Version of this format."""
    about: str = Field(min_length=10)
    """What it looks after, in a sentence for the one who reads the verdict."""
    task: Literal["retrieval", "answers", "refusal", "guard", "moderation", "judge_down", "conversation", "preference"]
    """How an example is asked and scored."""
    services: tuple[Literal["llm", "rag", "moderation", "gateway"], ...] = Field(min_length=1)
    """What has to run."""
    collections: tuple[str, ...] = ()
    """Collections that its examples are about."""
    examples: dict[Mode, int]
    """How many are asked, of each collection or slice; the quick ones are among the full ones."""
    concurrency: int = Field(8, ge=1, le=64)
    """Examples in progress at the same time."""
    judge: Judge | None = None
    """For the task `preference`."""
    metrics: dict[MetricName, Metric] = Field(min_length=1)
    """What the gate looks at, `coverage` and `at once` besides."""

    @model_validator(mode="after")
    def _whole(self) -> "Suite":
        if missing := {"quick", "full"} - self.examples.keys():
            raise ValueError(f"examples: no size for {', '.join(sorted(missing))}")
        if not 1 <= self.examples["quick"] <= self.examples["full"]:
            raise ValueError("examples: 1 <= quick <= full must hold")
        if not self.collections and any(metric.by_collection for metric in self.metrics.values()):
            raise ValueError("by_collection: the suite has no collections")
        if self.task in ASK_COLLECTIONS and not self.collections:
            raise ValueError(f"collections: the task {self.task} asks at least one")
        if self.task in ASK_ONE and len(self.collections) > 1:
            raise ValueError(f"collections: the task {self.task} asks one, and here are {len(self.collections)}")
        if taken := {COVERAGE, AT_ONCE} & self.metrics.keys():
            raise ValueError(f"metrics: '{min(taken)}' is always looked at; give this one another name")
        if (self.task == "preference") != (self.judge is not None):
            raise ValueError("judge: a suite of the task preference needs it, others have none")
        return self


class Named:
    """A suite with the name of its file and the hash of its content."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError."""
        self.name = path.stem
        self.suite = load(path, Suite)
        self.hash = hashlib.sha256(self.suite.model_dump_json().encode()).hexdigest()

    def size(self, mode: Mode) -> int:
        """Examples of each collection or slice."""
        return self.suite.examples[mode]


def load_suites(names: Iterable[str] | None = None, folder: Path = SUITES) -> list[Named]:
    """The suites of `folder`, or those of them that are named, by name. Raises ConfigError."""
    paths = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if not paths:
        raise ConfigError(str(folder), ["no suite in this folder"])
    chosen = list(paths) if names is None else list(dict.fromkeys(names))
    for name in chosen:
        if name not in paths:
            raise ConfigError("suites", [f"unknown suite '{name}'; {nearest(name, paths)}"])
    return [Named(paths[name]) for name in chosen]
