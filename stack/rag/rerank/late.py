"""Late interaction: each token of the query finds its nearest token of the passage, and the similarities add up.

The score is MaxSim of "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over BERT",
SIGIR 2020, equation 3, here over the token vectors of a sentence encoder that was not trained for it.
"""

from collections.abc import Sequence

import numpy as np

from stack.rag.config.stages import LateInteraction
from stack.rag.encoders import Encoder
from stack.rag.hits import RetrievalError
from stack.rag.rerank.reranker import Deadline, Reranker
from stack.rag.rerank.tokens import TokenVectors

_ONE_THREAD = 1 << 18
"""Multiplications up to which OpenBLAS, which numpy multiplies with, takes one thread. Its threads wait for each other
without sleeping: where other programs have the cores, a product just above this took ten times as long."""


class LateInteractionReranker(Reranker):
    """Compares the query's token vectors with kept ones of the passages; one short forward pass a query."""

    def __init__(self, settings: LateInteraction, encoder: Encoder, tokens: TokenVectors) -> None:
        """`encoder` makes the query's vectors. That it made `tokens` too is for the caller to see to: only another
        dimension is refused here. Raises RetrievalError.
        """
        super().__init__(settings)
        if len(tokens) and tokens.dimension != encoder.dimension:
            raise RetrievalError(
                f"late interaction: encoder '{encoder.alias}' makes vectors of {encoder.dimension} numbers, "
                f"the index has {tokens.dimension}; use the encoder that the index was built with"
            )
        self._encoder = encoder
        self._tokens = tokens

    def _scores(self, query: str, rows: np.ndarray, texts: Sequence[str], deadline: Deadline) -> np.ndarray:
        (tokens,) = self._encoder.encode_tokens([query], "query")
        deadline.check()
        return max_sim(tokens, [self._tokens[row] for row in rows])


def max_sim(query: np.ndarray, passages: Sequence[np.ndarray]) -> np.ndarray:
    """float32[k]: for each passage the mean over the query's tokens of the largest cosine with a token of the passage.

    `query`: float16[q, dimension]; `passages`: k arrays float16[tokens, dimension], none empty; rows of length 1.
    """
    turned = np.ascontiguousarray(query.astype(np.float32).T)
    rows = max(1, _ONE_THREAD // turned.size)
    return np.array([_nearest(passage, turned, rows) for passage in passages], np.float32).mean(axis=1)


def _nearest(passage: np.ndarray, turned: np.ndarray, rows: int) -> np.ndarray:
    """float32[q]: for each token of the query its largest cosine in one passage, computed so many rows at a time."""
    whole = passage.astype(np.float32)
    return np.max([(whole[at : at + rows] @ turned).max(axis=0) for at in range(0, len(whole), rows)], axis=0)
