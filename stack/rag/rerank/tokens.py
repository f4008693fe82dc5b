"""The token vectors of a collection: what late interaction compares a query's tokens with."""

from collections.abc import Sequence

import numpy as np


class TokenVectors:
    """float16[tokens, dimension] for each row of an index, at least one token each; as the embedding cache gives them.

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
    def dimension(self) -> int:
        """Numbers in a vector; 0 where there is no passage."""
        return self._passages[0].shape[1] if len(self._passages) else 0

    @property
    def bytes(self) -> int:
        """What all of them take on disk, and in memory once they have been read."""
        return sum(passage.nbytes for passage in self._passages)
