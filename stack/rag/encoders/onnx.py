"""An encoder that is an ONNX file."""

from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from stack.rag.config.stages import OnnxEncoder
from stack.rag.encoders.encoder import Encoder, file_hash, padded
from stack.rag.hits import RetrievalError


class OnnxRuntimeEncoder(Encoder):
    """Runs a BERT-like model: token numbers in, one vector a token out, pooled here."""

    def __init__(self, alias: str, settings: OnnxEncoder, folder: Path) -> None:
        """Paths of `settings` count from `folder`. Raises RetrievalError."""
        model, tokenizer = folder / settings.model, folder / settings.tokenizer
        weights = file_hash(model, tokenizer)
        self._session = session(model, settings.threads)
        self._inputs = {tensor.name for tensor in self._session.get_inputs()}
        shapes = {tensor.name: tensor.shape for tensor in self._session.get_outputs()}
        shape = shapes.get(settings.output)
        if shape is None or len(shape) != 3 or not isinstance(shape[2], int):
            known = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise RetrievalError(
                f"{model}: output '{settings.output}' does not give one vector a token; outputs of this model: {known}"
            )
        super().__init__(alias, read_tokenizer(tokenizer), settings, weights, shape[2])

    def _forward(self, numbers: list[list[int]]) -> tuple[np.ndarray, list[np.ndarray]]:
        ids, mask = padded(numbers)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = self._session.run(
            [self.settings.output], {name: value for name, value in feeds.items() if name in self._inputs}
        )
        pooled = (hidden * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return pooled.astype(np.float32), [hidden[place, : len(row)] for place, row in enumerate(numbers)]


def session(model: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session of the ONNX file on the CPU. Raises RetrievalError."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A thread that spins while it waits for the next request takes a core from the engine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime's errors have no public base class
        raise RetrievalError(f"{model}: cannot be run as an ONNX model ({problem})") from problem


def read_tokenizer(path: Path) -> Tokenizer:
    """A `tokenizer.json`. Raises RetrievalError."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as problem:  # the library raises plain Exception
        raise RetrievalError(f"{path}: no usable tokenizer ({problem})") from problem
