"""A cross-encoder: a model that reads query and passage together, slow and thorough."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer

from stack.rag.config.stages import CrossEncoder
from stack.rag.encoders.onnx import read_tokenizer, session
from stack.rag.hits import RetrievalError
from stack.rag.rerank.reranker import Deadline, Reranker


class PairModel(Protocol):
    """Scores pairs of texts."""

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """float[n], larger is more relevant."""


class CrossEncoderReranker(Reranker):
    """Reads each passage of the pool with the query; looks at the clock between batches."""

    def __init__(self, settings: CrossEncoder, folder: Path) -> None:
        """The path of `settings` counts from `folder`. Raises RetrievalError."""
        super().__init__(settings)
        self._model = open_pair_model(settings, folder)

    def _scores(self, query: str, rows: np.ndarray, texts: Sequence[str], deadline: Deadline) -> np.ndarray:
        found = []
        for start in range(0, len(texts), self.settings.batch):
            deadline.check()
            found.append(self._model.score(query, texts[start : start + self.settings.batch]))
        return np.concatenate(found)


def open_pair_model(settings: CrossEncoder, folder: Path) -> PairModel:
    """The model in the folder that `settings` name: an ONNX file if there is one, else by sentence-transformers."""
    path = folder / settings.model
    if not path.is_dir():
        raise RetrievalError(f"{path}: no folder of a cross-encoder")
    files = sorted(path.glob("*.onnx"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise RetrievalError(f"{path}: several ONNX files ({names}); leave the one that is meant")
    return OnnxPairs(files[0], settings) if files else TorchPairs(path, settings)


class OnnxPairs:
    """A cross-encoder as an ONNX file beside its `tokenizer.json`: logits float[n, 1] out."""

    def __init__(self, model: Path, settings: CrossEncoder) -> None:
        self._session = session(model, settings.threads)
        self._inputs = {tensor.name for tensor in self._session.get_inputs()}
        self._output = self._session.get_outputs()[0].name
        self._tokenizer: Tokenizer = read_tokenizer(model.parent / "tokenizer.json")
        self._tokenizer.enable_truncation(settings.max_tokens, strategy="longest_first")
        self._tokenizer.enable_padding()

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """float32[n]."""
        encodings = self._tokenizer.encode_batch([(query, text) for text in texts])
        feeds = {
            "input_ids": np.array([e.ids for e in encodings], np.int64),
            "attention_mask": np.array([e.attention_mask for e in encodings], np.int64),
            "token_type_ids": np.array([e.type_ids for e in encodings], np.int64),
        }
        (logits,) = self._session.run([self._output], {n: v for n, v in feeds.items() if n in self._inputs})
        return np.asarray(logits, np.float32).reshape(len(texts))


class TorchPairs:
    """Any cross-encoder of the sentence-transformers library, run by torch."""

    def __init__(self, path: Path, settings: CrossEncoder) -> None:
        import torch  # takes seconds, and a stack with ONNX models never needs it
        from sentence_transformers import CrossEncoder as Model

        torch.set_num_threads(settings.threads)
        try:
            self._model = Model(str(path), device="cpu", max_length=settings.max_tokens, local_files_only=True)
        except Exception as problem:
            raise RetrievalError(f"{path}: cannot be loaded by sentence-transformers ({problem})") from problem

    def score(self, query: str, texts: Sequence[str]) -> np.ndarray:
        """float32[n]."""
        scores = self._model.predict([(query, text) for text in texts], show_progress_bar=False)
        return np.asarray(scores, np.float32)
