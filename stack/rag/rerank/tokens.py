"""The token vectors of a collection: what late interaction compares a query's tokens with."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from stack.rag.hits import RetrievalError

VECTORS, STARTS, ORIGIN = "tokens.npy", "starts.npy", "tokens.json"


class TokenVectors:
    """float16[tokens, dimension] for each row of an index; mapped into memory when it was loaded from a folder.

    `fingerprint` is that of the encoder which made them.
    """

    def __init__(self, passages: Sequence[np.ndarray], fingerprint: str) -> None:
        self._passages = passages
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        return len(self._passages)

    def __getitem__(self, row: int) -> np.ndarray:
        return self._passages[row]

    @property
    def bytes(self) -> int:
        """What all of them take, in memory when they have been read, and on disk."""
        return sum(passage.nbytes for passage in self._passages)

    def save(self, folder: Path) -> None:
        """Write them into `folder`, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        lengths = [len(passage) for passage in self._passages]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        shape = (int(starts[-1]), self._passages[0].shape[1] if lengths else 0)
        vectors = np.lib.format.open_memmap(folder / VECTORS, "w+", np.float16, shape)
        for start, passage in zip(starts, self._passages, strict=False):
            vectors[start : start + len(passage)] = passage
        vectors.flush()
        np.save(folder / STARTS, starts, allow_pickle=False)
        (folder / ORIGIN).write_text(json.dumps({"fingerprint": self.fingerprint}), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "TokenVectors":
        """What `save` wrote. Raises RetrievalError when it is missing or damaged."""
        try:
            vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
            starts = np.load(folder / STARTS, allow_pickle=False)
            fingerprint = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["fingerprint"]
            if vectors.ndim != 2 or starts.ndim != 1 or (np.diff(starts) < 0).any() or starts[-1] != len(vectors):
                raise ValueError("its files do not belong together")
        except (OSError, ValueError, EOFError, KeyError, IndexError, TypeError) as problem:
            text = " ".join(str(problem).split())
            raise RetrievalError(f"{folder}: no usable token vectors ({text}); build the index again") from problem
        passages = [vectors[start:end] for start, end in pairwise(starts)]
        return cls(passages, fingerprint)
