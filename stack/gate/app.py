"""The gate as a service: rounds in the background, verdicts over HTTP and for Prometheus."""

import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel

from stack.gate.config import GateConfig
from stack.gate.round import Gate, Round, Verdict, fingerprint, load_releases
from stack.rag.hits import RetrievalError
from stack.service.app import create_service
from stack.service.background import Background
from stack.settings import ConfigError
from stack.telemetry.metrics import GateMetrics

log = logging.getLogger(__name__)

_NICENESS = 5  # it shares the machine with what serves


@dataclass(frozen=True)
class Candidate(Verdict):
    """A verdict with what the release's author says of it."""

    about: str


class Verdicts(BaseModel):
    round: int
    questions: int
    in_service: float
    candidates: list[Candidate]


class Rounds:
    """Goes over all releases in the background, and again when one of them has changed."""

    def __init__(self, config: GateConfig, folder: Path, metrics: GateMetrics) -> None:
        """Raises ConfigError."""
        self._config = config
        self._metrics = metrics
        try:
            self._gate = Gate(config, folder)
        except RetrievalError as problem:
            raise ConfigError("gate.yaml", [f"gate.yaml: {problem}"]) from problem
        self.releases = load_releases(self._gate.folder, config.storage.in_service)
        self.number = 0
        self.last: Round | None = None
        self._seen = ""
        self._problem: str | None = None
        self.background = Background("rounds", self._work, config.every_seconds, _NICENESS)

    @property
    def reasons(self) -> list[str]:
        """Why there is no verdict yet."""
        if self.last is not None:
            return []
        return [self._problem or "the first round is not over"]

    def _work(self) -> None:
        try:
            self.look()
        except Exception as problem:
            self._problem = f"the round failed: {problem}"
            raise

    def look(self) -> None:
        """Another round if a release has changed. Raises ConfigError, RetrievalError; the last verdicts stay then."""
        seen = fingerprint(self._gate.folder)
        if seen == self._seen:
            return
        self._seen = seen
        begun = time.perf_counter()
        releases = load_releases(self._gate.folder, self._config.storage.in_service)
        found = self._gate.round(releases)
        self._forget(self.releases.keys() - releases.keys())
        self.releases, self.last = releases, found
        self.number += 1
        self._tell(found, time.perf_counter() - begun)

    def _forget(self, gone: Iterable[str]) -> None:
        metrics = self._metrics
        for gauge in (metrics.score, metrics.perfect, metrics.difference, metrics.low, metrics.high, metrics.blocked):
            for release in gone:
                gauge.remove(release)

    def _tell(self, found: Round, seconds: float) -> None:
        metrics, in_service = self._metrics, self._config.storage.in_service
        metrics.rounds.inc()
        metrics.round_seconds.set(seconds)
        metrics.questions.set(found.questions)
        metrics.score.labels(in_service).set(found.in_service)
        metrics.perfect.labels(in_service).set(found.perfect)
        for one in found.verdicts:
            metrics.score.labels(one.release).set(one.score)
            metrics.perfect.labels(one.release).set(one.perfect)
            metrics.difference.labels(one.release).set(one.difference)
            metrics.low.labels(one.release).set(one.low)
            metrics.high.labels(one.release).set(one.high)
            metrics.blocked.labels(one.release).set(one.blocked)
        blocked = [one.release for one in found.verdicts if one.blocked]
        log.info("round", extra={"number": self.number, "questions": found.questions, "blocked": blocked})


def build(config: GateConfig, folder: Path) -> FastAPI:
    """The application; relative paths of the configuration count from `folder`. Raises ConfigError."""
    metrics = GateMetrics()
    rounds = Rounds(config, folder, metrics)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        with rounds.background.running():
            yield

    app = create_service(
        title="Release gate",
        version="1",
        body_bytes=1024,
        metrics=metrics,
        registry=metrics.registry,
        ready=lambda: rounds.reasons,
        lifespan=running,
    )

    @app.get("/v1/verdicts")
    async def verdicts() -> Verdicts:
        """The verdicts of the last round; none before the first is over."""
        found = rounds.last or Round(0, 0.0, 0.0, ())
        candidates = [Candidate(**vars(one), about=rounds.releases[one.release].about) for one in found.verdicts]
        return Verdicts(
            round=rounds.number, questions=found.questions, in_service=found.in_service, candidates=candidates
        )

    return app
