"""The drift monitor's configuration file, every key of it."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from stack.service.config import Listen, Logs, Name
from stack.settings import Protected, Settings

Signal = Literal["queries", "dense", "sparse"]
VectorDistance = Literal["mmd", "domain_auc", "centroid", "wasserstein"]
ScoreDistance = Literal["wasserstein", "psi"]


class Window(Settings):
    searches: int = Field(300, ge=20, le=2_500)
    """Searches that are compared at a time; each search is in one window."""


class Reference(Settings):
    file: Path = Protected()
    """The pinned reference: searches from a time when all was well. Where it is missing the first ones become it, as if
    all were well now; `python -m stack.drift.replay` makes it from questions. Relative to this file."""
    searches: int = Field(1200, ge=40, le=5_000)
    """How many make a reference that is collected. Windows are compared with what is left of it when as many as make a
    window are taken out, so it must hold two of them."""
    rolling_windows: int = Field(4, ge=1, le=1000)
    """The rolling reference is the last so many windows before the current one: it sees what changes at once and
    forgets what changes slowly, so the pinned one stays."""


class Threshold(Settings):
    """When one window is beyond: either how far chance goes, or a number."""

    kind: Literal["null", "fixed"]
    """null: the distance is compared with those of windows drawn from the reference. fixed: with `value`."""
    share: float = Field(0.99, gt=0.5, lt=1)
    """For null: the share of windows without drift that stay below."""
    least_effect: float = Field(0.0, ge=0)
    """For null: how far the distance must lie above what is usual without drift."""
    value: float | None = None
    """For fixed."""

    @model_validator(mode="after")
    def _has_a_value(self) -> "Threshold":
        if (self.kind == "fixed") != (self.value is not None):
            raise ValueError("value: is for kind fixed, which needs it")
        return self


class Detector(Settings):
    signal: Signal
    """queries: the vectors of the queries; dense, sparse: the score of the best passage of each search."""
    distance: VectorDistance | ScoreDistance
    """How it is compared. For scores: wasserstein or psi."""
    threshold: Threshold
    """When a window counts as beyond."""

    @model_validator(mode="after")
    def _fits(self) -> "Detector":
        if self.signal != "queries" and self.distance not in ("wasserstein", "psi"):
            raise ValueError(f"distance: {self.distance} is for vectors; scores have wasserstein and psi")
        if self.signal == "queries" and self.distance == "psi":
            raise ValueError("distance: psi is for scores; queries have mmd, domain_auc, centroid and wasserstein")
        return self


class DriftConfig(Settings):
    """`drift.yaml`."""

    schema_version: Literal[1] = Field(alias="schema")
    """Version of this format."""
    listen: Listen = Protected()
    """Where metrics and readiness are."""
    telemetry: Logs = Logs()
    """Its log."""
    traffic: Path = Protected()
    """What retrieval writes with `traffic.file`. Relative to this file."""
    collection: Name = Protected()
    """The collection whose searches are looked at."""
    window: Window = Window()
    """What is compared at a time."""
    reference: Reference
    """What it is compared with."""
    draws: int = Field(200, ge=20, le=10_000)
    """Windows without drift that are drawn from the reference to learn how far chance goes."""
    consecutive: int = Field(2, ge=1, le=100)
    """Windows in a row that must be beyond before it counts as drift."""
    detectors: dict[Name, Detector] = Field(min_length=1, max_length=32)
    """What is looked at, by name."""
    every_seconds: float = Field(1.0, gt=0, le=3600)
    """How often new searches are read."""

    @model_validator(mode="after")
    def _two_windows_fit(self) -> "DriftConfig":
        if self.reference.searches < 2 * self.window.searches:
            raise ValueError(
                f"reference.searches: {self.reference.searches} cannot carry windows of {self.window.searches}: "
                "at least twice as many are needed"
            )
        return self

    @model_validator(mode="after")
    def _draws_show_the_share(self) -> "DriftConfig":
        for name, detector in self.detectors.items():
            share = detector.threshold.share
            if detector.threshold.kind == "null" and (self.draws + 1) * (1 - share) < 1 - 1e-9:
                raise ValueError(
                    f"draws: {self.draws} windows cannot show what a share of {share:g} stays below ({name}); at least "
                    f"{round(1 / (1 - share)) - 1} are needed"
                )
        return self
