"""Tier 2: classifiers of toxic text behind one interface; a score is from 0 to 1 and calibrated elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from stack.settings import Settings

Kind = Literal["linear", "minilm", "hatesonar", "mean"]


class Classifier(Protocol):
    """What every classifier does."""

    name: str

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """One score from 0 to 1 for each text, float64[n]; a higher one is more toxic. Blocking, CPU only."""


class ClassifierError(Exception):
    """A classifier cannot be loaded; the message says which file and what to do."""


class ClassifierConfig(Settings):
    """Which classifier is tier 2."""

    kind: Kind = "linear"
    """linear: alt-profanity-check; minilm: the project's own on MiniLM vectors; hatesonar; mean of the first two"""
    data: Path = Path("../../.cache/data")
    """folder of the installed data packages; relative to the configuration file"""


class Linear:
    """The linear support-vector machine of alt-profanity-check over words, 0.03 ms a text."""

    name = "linear"

    def __init__(self) -> None:
        import profanity_check  # loads its weights on import

        self._predict = profanity_check.predict_prob

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(self._predict(list(texts)), dtype=np.float64) if texts else np.zeros(0)


def build_classifier(config: ClassifierConfig, folder: Path) -> Classifier:
    """The configured classifier, loaded. Relative paths count from `folder`. Raises ClassifierError."""
    if config.kind == "linear":
        return Linear()
    raise ClassifierError(f"classifier '{config.kind}' is not there yet; use linear")
