"""One round of the gate: every candidate is asked the suite's questions, and compared with the release in service."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stack.evals.example import chosen
from stack.evals.statistics import mean, paired
from stack.gate.config import GateConfig, Release, Rule
from stack.rag import sources
from stack.rag.config.stages import EncoderSettings, SparseOnly
from stack.rag.encoders import EmbeddingCache, Encoder, open_encoder
from stack.rag.trial import Trial
from stack.settings import ConfigError, load

_BEST = 1.0  # of every measure


@dataclass(frozen=True)
class Verdict:
    """What the gate says of a candidate."""

    release: str
    score: float
    """Its mean."""
    perfect: float
    """Share of the questions with the best possible score."""
    difference: float
    """Mean less that of the release in service; below 0 is worse."""
    low: float
    high: float
    """The 95 % interval of that difference."""
    blocked: bool


@dataclass(frozen=True)
class Round:
    """All verdicts of a round."""

    questions: int
    in_service: float
    """Mean of the release in service."""
    perfect: float
    """Its share of questions with the best possible score."""
    verdicts: tuple[Verdict, ...]


def load_releases(folder: Path, in_service: str) -> dict[str, Release]:
    """The releases by name. Raises ConfigError: one is not valid, or that in service is not there."""
    found = {path.stem: load(path, Release) for path in sorted(folder.glob("*.yaml"))}
    if in_service not in found:
        names = ", ".join(found) or "none at all"
        problem = f"gate.yaml: storage.in_service: no release '{in_service}' in {folder}; there are: {names}"
        raise ConfigError("gate.yaml", [problem])
    return found


def fingerprint(folder: Path) -> str:
    """Another one when a file of `folder` has changed."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.yaml")):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


class Gate:
    """Evaluates releases on the suite of one configuration."""

    def __init__(self, config: GateConfig, folder: Path) -> None:
        """Paths of `config` count from `folder`. Raises RetrievalError: the suite's collection is missing."""
        storage = config.storage
        self._config = config
        self.folder = folder / storage.releases
        collection = sources.load(config.suite.source, folder / storage.data, folder / storage.manuals)
        queries = chosen(collection.queries, config.suite.questions, lambda query: query.id)
        self._trial = Trial.of(collection.of(queries), EmbeddingCache(folder / storage.vectors))
        self._encoders: dict[str, Encoder] = {}

    def round(self, releases: Mapping[str, Release]) -> Round:
        """Evaluate every release and compare. Raises RetrievalError."""
        scores = {name: self._scores(release) for name, release in releases.items()}
        before = scores.pop(self._config.storage.in_service)
        verdicts = tuple(verdict(name, now, before, self._config.rule) for name, now in scores.items())
        return Round(len(before), float(before.mean()), _perfect(before), verdicts)

    def _scores(self, release: Release) -> np.ndarray:
        """float64[questions]"""
        found = self._trial.sparse(release.sparse)
        if not isinstance(release.fusion, SparseOnly):
            passages = self._encoder(release.encoder)
            queries = self._encoder(release.query_encoder or release.encoder)
            vectors = self._trial.dense(release.dense, passages, queries)
            found = self._trial.fused(release.fusion, found, vectors)
        return self._trial.judged(found).values[self._config.suite.measure]

    def _encoder(self, settings: EncoderSettings) -> Encoder:
        key = settings.model_dump_json()
        if key not in self._encoders:
            self._encoders[key] = open_encoder("release", settings, self.folder)
        return self._encoders[key]


def verdict(release: str, now: np.ndarray, before: np.ndarray, rule: Rule) -> Verdict:
    """What `rule` says of a candidate; scores of the same questions, float64[n], 0 to 1, `before` in service."""
    change = paired(mean, now, before, np.full(len(now), np.nan))
    if rule.kind == "means":
        bound = change.difference
    else:
        bound = change.high if rule.blocks_when == "loss_is_shown" else change.low
    blocked = bound < -rule.tolerance
    return Verdict(release, float(now.mean()), _perfect(now), change.difference, change.low, change.high, blocked)


def _perfect(scores: np.ndarray) -> float:
    return float((scores >= _BEST).mean())
