"""What an encoder is: text into vectors, one a text or one a token, and a fingerprint that tells two encoders apart."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer

from stack.rag.hits import RetrievalError

Role = Literal["query", "passage"]
BATCH = 32
BATCH_TOKENS = 2048  # padding included; what a pass of the model takes in memory grows with them, and stays taken


@dataclass(frozen=True)
class Truncation:
    """What `max_tokens` takes away from a collection."""

    texts: float
    """Share of the texts that are longer."""
    tokens: float
    """Share of all tokens that no vector has seen."""


@dataclass(frozen=True)
class Encoded:
    """One text."""

    pooled: np.ndarray
    """float32[dimension]."""
    tokens: np.ndarray
    """float16[tokens, dimension], rows of length 1, special tokens among them."""


class Encoder(ABC):
    """A model with its tokenizer. Safe to be used by several threads.

    `alias`: its name in the configuration. `dimension`: numbers in a vector. `fingerprint`: hex; vectors of two
    encoders may be compared only where it is the same. `weights`: hex, of the model alone, whatever its settings.
    """

    def __init__(self, alias: str, tokenizer: Tokenizer, settings: Any, weights: str, dimension: int) -> None:
        """`weights`: a hash of the files that make the vectors, tokenizer included."""
        self.alias = alias
        self.settings = settings
        self.dimension = dimension
        self.weights = weights
        self.fingerprint = _fingerprint(weights, settings)
        self._counting = tokenizer
        self._counting.no_padding()
        self._counting.no_truncation()
        self._cutting = Tokenizer.from_str(tokenizer.to_str())
        self._cutting.enable_truncation(settings.max_tokens)

    @abstractmethod
    def _forward(self, numbers: list[list[int]]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Token numbers of some texts -> pooled float32[n, dimension], not normalised, and float32[tokens, dimension]
        for each of them."""

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, dimension]."""
        return self._pooled(texts, "query")

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray:
        """float32[n, dimension]."""
        return self._pooled(texts, "passage")

    def encode_tokens(self, texts: Sequence[str], role: Role) -> list[np.ndarray]:
        """float16[tokens, dimension] for each text: its tokens' vectors, each of length 1.

        The special tokens at both ends are among them: they carry the gist of the whole text, and late interaction on
        BoolQ lost .004 of nDCG without them.
        """
        return [one.tokens for one in self.encode(texts, role)]

    def encode(self, texts: Sequence[str], role: Role) -> list[Encoded]:
        """Both kinds of vectors from one pass of the model."""
        found: list[Encoded | None] = [None] * len(texts)
        for places, pooled, tokens in self._batches(texts, role):
            for place, one, rows in zip(places, pooled, tokens, strict=True):
                found[place] = Encoded(one, _unit(rows).astype(np.float16))
        return found

    def count_tokens(self, texts: Sequence[str], role: Role = "passage") -> np.ndarray:
        """int64[n]: tokens of each text, prefix and special tokens included, nothing cut off."""
        encodings = self._counting.encode_batch([self._prefix(role) + text for text in texts])
        return np.array([len(encoding.ids) for encoding in encodings], np.int64)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of `text` begins and ends, in characters; without prefix and special tokens."""
        return self._counting.encode(text, add_special_tokens=False).offsets

    def truncation(self, texts: Sequence[str], role: Role = "passage") -> Truncation:
        """How much of `texts` is lost because they are longer than `max_tokens`."""
        counts = self.count_tokens(texts, role)
        if not len(counts):
            return Truncation(0.0, 0.0)
        lost = np.maximum(counts - self.settings.max_tokens, 0)
        return Truncation(float((lost > 0).mean()), float(lost.sum() / counts.sum()))

    def _pooled(self, texts: Sequence[str], role: Role) -> np.ndarray:
        found = np.empty((len(texts), self.dimension), np.float32)
        for places, pooled, _ in self._batches(texts, role):
            found[places] = pooled
        return found

    def _batches(self, texts: Sequence[str], role: Role) -> Iterator[tuple[list[int], np.ndarray, list[np.ndarray]]]:
        """Batches of texts of similar length, which need little padding: places in `texts`, pooled, tokens."""
        prefix = self._prefix(role)
        numbers = [encoding.ids for encoding in self._cutting.encode_batch([prefix + text for text in texts])]
        order = sorted(range(len(texts)), key=lambda place: len(numbers[place]))
        for places in _batches(order, [len(numbers[place]) for place in order]):
            pooled, tokens = self._forward([numbers[place] for place in places])
            yield places, _unit(pooled) if self.settings.normalise else pooled, tokens

    def _prefix(self, role: Role) -> str:
        return self.settings.query_prefix if role == "query" else self.settings.passage_prefix


def _batches(order: list[int], lengths: list[int]) -> Iterator[list[int]]:
    """`order` in pieces of at most BATCH places and BATCH_TOKENS tokens; `lengths` grow."""
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and end - start < BATCH and (end + 1 - start) * lengths[end] <= BATCH_TOKENS:
            end += 1
        yield order[start:end]
        start = end


def padded(numbers: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Token numbers of some texts as int64[n, longest], with the mask that tells tokens (1) from padding (0)."""
    longest = max(len(row) for row in numbers)
    ids = np.zeros((len(numbers), longest), np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(numbers):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return ids, mask


def file_hash(*paths: Any) -> str:
    """SHA-256 in hex over the contents of `paths`, one after the other. Raises RetrievalError."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as problem:
            raise RetrievalError(f"{path}: cannot read this part of the encoder ({problem.strerror})") from problem
    return digest.hexdigest()


def _fingerprint(weights: str, settings: Any) -> str:
    """Everything that a vector depends on besides the text. Paths and threads are not: they may differ by machine."""
    parts = settings.model_dump(mode="json", exclude={"model", "tokenizer", "threads"})
    return hashlib.sha256(json.dumps([weights, parts], sort_keys=True).encode()).hexdigest()


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Each row at length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)
