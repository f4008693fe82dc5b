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
    # One passage after the other: a copy of the whole pool in float32 would leave the processor's cache.
    nearest = [(passage.astype(np.float32) @ turned).max(axis=0) for passage in passages]
    return np.array(nearest, np.float32).mean(axis=1)
