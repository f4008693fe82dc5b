"""Rerankers: models that look closer at the first hits of a search and sort them again."""

from pathlib import Path

from stack.rag.config.stages import LateInteraction, NoRerank, RerankSettings
from stack.rag.encoders import Encoder
from stack.rag.hits import RetrievalError
from stack.rag.rerank.late import LateInteractionReranker
from stack.rag.rerank.reranker import KeepOrder, Reranker, RerankTimeout
from stack.rag.rerank.tokens import TokenVectors

__all__ = ["KeepOrder", "RerankTimeout", "Reranker", "TokenVectors", "open_reranker"]


def open_reranker(
    settings: RerankSettings, folder: Path, encoder: Encoder | None = None, tokens: TokenVectors | None = None
) -> Reranker | KeepOrder:
    """The reranker that `settings` describe; their paths count from `folder`.

    Late interaction needs `encoder`, the one that its settings name, and the index's `tokens`. Raises RetrievalError.
    """
    if isinstance(settings, NoRerank):
        return KeepOrder()
    if isinstance(settings, LateInteraction):
        if encoder is None or tokens is None:
            raise RetrievalError("late interaction needs an encoder and an index that was built with token vectors")
        return LateInteractionReranker(settings, encoder, tokens)
    from stack.rag.rerank.cross import CrossEncoderReranker

    return CrossEncoderReranker(settings, folder)
