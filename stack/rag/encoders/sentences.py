"""An encoder in the format of the sentence-transformers library, run by torch."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from stack.rag.config.stages import SentenceTransformersEncoder
from stack.rag.encoders.encoder import Encoder, file_hash, padded
from stack.rag.hits import RetrievalError


class TorchEncoder(Encoder):
    """Pools as the model's own folder says."""

    def __init__(self, alias: str, settings: SentenceTransformersEncoder, folder: Path) -> None:
        """The path of `settings` counts from `folder`. Raises RetrievalError."""
        path = folder / settings.model
        if not (path / "modules.json").is_file():
            raise RetrievalError(f"{path}: no model of the sentence-transformers library (it has no modules.json)")
        import torch  # takes seconds, and a stack with ONNX encoders never needs it
        from sentence_transformers import SentenceTransformer

        parts = sorted(p for p in path.rglob("*") if p.suffix in {".json", ".safetensors", ".txt"} and p.is_file())
        weights = file_hash(*parts)
        torch.set_num_threads(settings.threads)
        try:
            self._model = SentenceTransformer(str(path), device="cpu", local_files_only=True)
            tokenizer = Tokenizer.from_str(self._model.tokenizer.backend_tokenizer.to_str())
        except Exception as problem:
            raise RetrievalError(f"{path}: cannot be loaded by sentence-transformers ({problem})") from problem
        self._model.max_seq_length = settings.max_tokens
        super().__init__(alias, tokenizer, settings, weights, self._model.get_embedding_dimension())

    def _forward(self, numbers: list[list[int]]) -> tuple[np.ndarray, list[np.ndarray]]:
        import torch

        ids, mask = padded(numbers)
        with torch.inference_mode():
            features = self._model(
                {
                    "input_ids": torch.from_numpy(ids),
                    "attention_mask": torch.from_numpy(mask),
                    "token_type_ids": torch.zeros(ids.shape, dtype=torch.int64),
                }
            )
        hidden = features["token_embeddings"].numpy()
        pooled = features["sentence_embedding"].numpy().astype(np.float32)
        return pooled, [hidden[place, : len(row)] for place, row in enumerate(numbers)]
