"""The sparse index of bm25s: scores are computed when the index is built, a search adds columns of a matrix."""

from pathlib import Path
from typing import Self

import bm25s
import numpy as np

from stack.rag.config.stages import SparseSettings
from stack.rag.sparse.index import SparseIndex, damaged


class MatrixIndex(SparseIndex):
    """BM25 with Lucene's idf, which is never negative."""

    kind = "bm25s"

    def __init__(self, model: bm25s.BM25, settings: SparseSettings) -> None:
        super().__init__(settings)
        self._model = model

    @classmethod
    def _of_terms(cls, passages: list[list[str]], settings: SparseSettings) -> Self:
        model = bm25s.BM25(k1=settings.k1, b=settings.b, method="lucene", backend="numpy")
        # A vocabulary in order of appearance: bm25s' own is a set, whose order changes from run to run.
        vocabulary: dict[str, int] = {}
        numbers = [[vocabulary.setdefault(term, len(vocabulary)) for term in terms] for terms in passages]
        model.index((numbers, vocabulary), create_empty_token=False, show_progress=False)
        return cls(model, settings)

    def __len__(self) -> int:
        return int(self._model.scores["num_docs"])

    def _knows(self, term: str) -> bool:
        return term in self._model.vocab_dict

    def _scores(self, terms: list[str]) -> np.ndarray:
        return self._model.get_scores(terms)

    def _write(self, folder: Path) -> None:
        self._model.save(folder, show_progress=False)

    @classmethod
    def _read(cls, folder: Path, settings: SparseSettings) -> Self:
        try:
            model = bm25s.BM25.load(folder, show_progress=False)
            matrix = model.scores
            whole = len(matrix["data"]) == len(matrix["indices"]) == matrix["indptr"][-1]
            if not whole or len(matrix["indptr"]) != len(model.vocab_dict) + 1:
                raise ValueError("its files do not belong together")
        except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError) as problem:
            raise damaged(folder, problem) from problem
        return cls(model, settings)
