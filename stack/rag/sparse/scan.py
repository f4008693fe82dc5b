"""The sparse index of rank-bm25: each search goes through all passages in Python, so it slows down as they grow."""

import json
import math
from pathlib import Path
from typing import Self

import numpy as np
from rank_bm25 import BM25Okapi

from stack.rag.config.stages import SparseSettings
from stack.rag.sparse.index import SparseIndex, damaged, read_json

PASSAGES = "passages.json"


class ScanIndex(SparseIndex):
    """BM25 with the same formula as `MatrixIndex`: the same scores but for rounding, later."""

    kind = "rank-bm25"

    def __init__(self, passages: list[list[str]], settings: SparseSettings) -> None:
        super().__init__(settings)
        self._passages = passages
        self._model = _Okapi(passages, k1=settings.k1, b=settings.b)

    @classmethod
    def _of_terms(cls, passages: list[list[str]], settings: SparseSettings) -> Self:
        return cls(passages, settings)

    def __len__(self) -> int:
        return len(self._passages)

    def _knows(self, term: str) -> bool:
        return term in self._model.idf

    def _scores(self, terms: list[str]) -> np.ndarray:
        return self._model.get_scores(terms) / (self.settings.k1 + 1)  # a factor that Lucene's formula leaves out

    def _write(self, folder: Path) -> None:
        # The library has no format of its own. Its state follows from the terms within seconds; a pickle would run
        # whatever somebody put into the file.
        (folder / PASSAGES).write_text(json.dumps(self._passages), encoding="utf-8")

    @classmethod
    def _read(cls, folder: Path, settings: SparseSettings) -> Self:
        try:
            passages = read_json(folder / PASSAGES)
            if not isinstance(passages, list) or not any(passages):
                raise ValueError("no list of passages")
            return cls(passages, settings)
        except (OSError, ValueError, TypeError) as problem:
            raise damaged(folder, problem) from problem


class _Okapi(BM25Okapi):
    """rank-bm25's own idf is negative for a term that most passages hold, and can be 0 in a small collection."""

    def _calc_idf(self, nd: dict[str, int]) -> None:
        """Lucene's idf. `nd`: term -> how many passages hold it."""
        self.idf = {term: math.log(1 + (self.corpus_size - n + 0.5) / (n + 0.5)) for term, n in nd.items()}
