"""What both sparse indexes have in common: analysis, the pre-filter, the ranking, the files."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from pydantic import ValidationError

from stack.rag.config.stages import SparseSettings
from stack.rag.hits import NONE, Hits, RetrievalError, ranked
from stack.rag.sparse.analysis import Analyser

SETTINGS = "settings.json"


@dataclass(frozen=True)
class KnownTerms:
    """How many of a query's terms the index has ever seen. Few: query and index are analysed differently."""

    known: int
    total: int

    @property
    def share(self) -> float:
        """0 to 1; 1 for a query without terms, which misses nothing."""
        return self.known / self.total if self.total else 1.0


class SparseIndex(ABC):
    """Passages by their terms, scored by BM25. Row i is the i-th text that it was built from."""

    kind: ClassVar[str]

    def __init__(self, settings: SparseSettings) -> None:
        self.settings = settings
        self._query_analyser = Analyser(settings.query_analyser or settings.analyser)

    @abstractmethod
    def __len__(self) -> int:
        """How many passages."""

    @abstractmethod
    def _scores(self, terms: list[str]) -> np.ndarray:
        """float[n]: the score of every passage; 0 for one that shares no term. `terms` are known and not empty."""

    @abstractmethod
    def _knows(self, term: str) -> bool:
        """Whether a passage holds `term`."""

    @classmethod
    @abstractmethod
    def _of_terms(cls, passages: list[list[str]], settings: SparseSettings) -> Self:
        """An index of passages given as terms; at least one of them has a term."""

    @abstractmethod
    def _write(self, folder: Path) -> None: ...

    @classmethod
    @abstractmethod
    def _read(cls, folder: Path, settings: SparseSettings) -> Self: ...

    def search(self, query: str, depth: int, allowed: np.ndarray | None = None) -> Hits:
        """The best `depth` of the allowed passages that share a term with `query`.

        `allowed`: bool[n], None allows all. It is applied before the ranking, so that what is not allowed takes no
        place of what is.
        """
        terms = self._known(self._query_analyser.terms(query))
        if not terms or depth < 1:
            return NONE
        scores = self._scores(terms)
        matched = scores > 0 if allowed is None else (scores > 0) & allowed
        rows = np.flatnonzero(matched)
        return ranked(rows, scores[rows], depth)

    def known_terms(self, query: str) -> KnownTerms:
        """How many terms of `query` are in the vocabulary of the index."""
        terms = self._query_analyser.terms(query)
        return KnownTerms(len(self._known(terms)), len(terms))

    def _known(self, terms: list[str]) -> list[str]:
        return [term for term in terms if self._knows(term)]

    def save(self, folder: Path) -> None:
        """Write the index into `folder`, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        self._write(folder)
        (folder / SETTINGS).write_text(self.settings.model_dump_json(indent=1), encoding="utf-8")


def settings_in(folder: Path) -> SparseSettings:
    """The settings that the index in `folder` was built with. Raises RetrievalError."""
    path = folder / SETTINGS
    try:
        return SparseSettings.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as problem:
        raise damaged(folder, problem) from problem


def damaged(folder: Path, problem: Exception | str) -> RetrievalError:
    """The error for an index that cannot be read."""
    text = " ".join(str(problem).split())
    return RetrievalError(f"{folder}: no usable sparse index ({text}); build the index again")


def read_json(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))


def analysed(texts: Sequence[str], settings: SparseSettings) -> list[list[str]]:
    """The terms of every text, as the index wants them. Raises RetrievalError where no text has any."""
    analyser = Analyser(settings.analyser)
    passages = [analyser.terms(text) for text in texts]
    if not any(passages):
        raise RetrievalError(
            f"a sparse index of {len(passages)} passages without a single term; "
            "is the collection empty, or the analyser wrong for it?"
        )
    return passages
