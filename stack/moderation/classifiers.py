"""Tier 2: classifiers of toxic text behind one interface: scores from 0 to 1, which calibration makes probabilities."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from pydantic import Field

from stack.moderation.encoder import Encoder
from stack.settings import Protected, Settings

MODELS = Path(__file__).parent / "models"
MINILM, HATESONAR = MODELS / "minilm.npz", MODELS / "hatesonar.npz"

Kind = Literal["linear", "minilm", "mean", "hatesonar"]


class Classifier(Protocol):
    """What every classifier does."""

    name: str

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """One score from 0 to 1 for each text, float64[n]; a higher one is more toxic. Blocking, CPU only.

        Not for several threads at a time.
        """


class ClassifierError(Exception):
    """A classifier cannot be loaded; the message says which file and what to do."""


class ClassifierConfig(Settings):
    """Which classifier is tier 2. What each is good at, and what it costs, is in docs/moderation.md."""

    kind: Kind = "mean"
    """linear: alt-profanity-check; minilm: the project's own; mean: of these two; hatesonar: a third party's"""
    data: Path = Protected(Path("../../.cache/data"))
    """Folder of the installed data packages, which carry the encoder; relative to this file."""
    threads: int = Field(1, ge=1, le=64)
    """Threads of the encoder."""


class Linear:
    """The linear support-vector machine of alt-profanity-check, over words."""

    name = "linear"

    def __init__(self) -> None:
        import profanity_check  # loads its weights on import

        self._predict = profanity_check.predict_prob

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(self._predict(list(texts)), dtype=np.float64) if texts else np.zeros(0)


class MiniLM:
    """The project's own logistic regression over MiniLM vectors; `python -m stack.moderation.training minilm`."""

    name = "minilm"

    def __init__(self, encoder: Encoder, weights: np.ndarray, bias: float) -> None:
        """weights: float32 [384]."""
        self._encoder = encoder
        self._weights, self._bias = weights.astype(np.float64), float(bias)

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        if not texts:
            return np.zeros(0)
        return 1 / (1 + np.exp(-(self._encoder.vectors(texts) @ self._weights + self._bias)))


class Mean:
    """The mean of several classifiers' scores."""

    name = "mean"

    def __init__(self, parts: Sequence[Classifier]) -> None:
        self._parts = parts

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        return np.mean([part.scores(texts) for part in self._parts], axis=0)


class HateSonar:
    """Davidson's three classes (hate, offence, neither) over words, as the package hatesonar has them: the share of
    the first two. Its ONNX file asks for an American locale and cannot be loaded without, hence the numbers apart."""

    name = "hatesonar"
    _words = re.compile(r"[a-zA-Z0-9_]+")

    def __init__(self, vocabulary: Sequence[str], idf: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> None:
        """idf: [words]; weights: [3, words]; bias: [3]."""
        self._index = {word: place for place, word in enumerate(vocabulary)}
        self._idf, self._weights, self._bias = idf, weights, bias

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([self._score(text) for text in texts], dtype=np.float64)

    def _score(self, text: str) -> float:
        counts = Counter(self._index[w] for w in self._words.findall(text.lower()) if w in self._index)
        places = np.fromiter(counts, dtype=np.int64, count=len(counts))
        values = np.array([counts[p] for p in counts]) * self._idf[places]
        length = np.linalg.norm(values)
        odds = self._weights[:, places] @ (values / length) + self._bias if length else self._bias
        shares = np.exp(odds - odds.max())
        return float(1 - shares[2] / shares.sum())


def build_classifier(config: ClassifierConfig, folder: Path, encoder: Encoder | None = None) -> Classifier:
    """The configured classifier, loaded, over `encoder` where it needs one and this is given.

    Relative paths count from `folder`. Raises ClassifierError.
    """
    match config.kind:
        case "linear":
            return Linear()
        case "minilm":
            return load_minilm(folder / config.data, config.threads, encoder=encoder)
        case "mean":
            return Mean([Linear(), load_minilm(folder / config.data, config.threads, encoder=encoder)])
        case "hatesonar":
            return load_hatesonar()


def load_minilm(data: Path, threads: int = 1, path: Path = MINILM, encoder: Encoder | None = None) -> MiniLM:
    """The classifier of `path` over the encoder in `data`, which must be the one it was trained on.

    encoder: that encoder, where it is loaded already.
    """
    head = _arrays(path, {"weights", "bias", "encoder_sha256"})
    try:
        found = hashlib.sha256(Encoder.file(data).read_bytes()).hexdigest()
        encoder = encoder or Encoder(data, threads)
    except Exception as problem:  # onnxruntime's and tokenizers' errors have no public base class
        raise ClassifierError(
            f"the encoder below {data} cannot be loaded: {problem}; `make drill` installs it"
        ) from problem
    if found != str(head["encoder_sha256"]):
        raise ClassifierError(f"{path.name} was trained on another encoder than {Encoder.file(data)}; train it again")
    return MiniLM(encoder, head["weights"], head["bias"].item())


def load_hatesonar(path: Path = HATESONAR) -> HateSonar:
    """The classifier of `path`."""
    model = _arrays(path, {"vocabulary", "idf", "weights", "bias"})
    words = bytes(model["vocabulary"]).decode().split("\n")
    return HateSonar(words, model["idf"], model["weights"].astype(np.float64), model["bias"])


def _arrays(path: Path, names: set[str]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except (OSError, KeyError, ValueError) as problem:
        raise ClassifierError(f"{path}: not a classifier's weights ({problem}); check it out again") from problem
