"""Encoders: models that turn texts into vectors, and what keeps the vectors that are already known."""

from pathlib import Path

from stack.rag.config.stages import EncoderSettings, OnnxEncoder
from stack.rag.encoders.cache import EmbeddingCache
from stack.rag.encoders.encoder import Encoded, Encoder, Role, Truncation

__all__ = ["EmbeddingCache", "Encoded", "Encoder", "Role", "Truncation", "open_encoder"]


def open_encoder(alias: str, settings: EncoderSettings, folder: Path) -> Encoder:
    """The encoder that `settings` describe; their paths count from `folder`. Raises RetrievalError."""
    if isinstance(settings, OnnxEncoder):
        from stack.rag.encoders.onnx import OnnxRuntimeEncoder

        return OnnxRuntimeEncoder(alias, settings, folder)
    from stack.rag.encoders.sentences import TorchEncoder

    return TorchEncoder(alias, settings, folder)
