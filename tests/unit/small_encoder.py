"""A very small encoder in files as real ones have them: each word that it knows has a vector, whatever is beside it."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from stack.rag.config.stages import OnnxEncoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS += ["cat", "dog", "mat", "ran", "sat", "the", "storm", "query", "passage", ":", "."]
DIMENSION = 8


def small_encoder(folder: Path, seed: int = 1, **settings) -> OnnxEncoder:
    """Writes the encoder's files into `folder`; `seed` makes other vectors. Its settings, with paths from `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.random.default_rng(seed).normal(size=(len(WORDS), DIMENSION)).astype(np.float32)
    _write_model(vectors, folder / "model.onnx")
    _write_tokenizer(folder / "tokenizer.json")
    return OnnxEncoder(kind="onnx", model=Path("model.onnx"), tokenizer=Path("tokenizer.json"), **settings)


def _write_model(vectors: np.ndarray, path: Path) -> None:
    numbers = [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "t"]) for n in ("input_ids", "attention_mask")]
    hidden = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "t", DIMENSION])
    flat = helper.make_tensor_value_info("flat", TensorProto.INT64, ["b", "t"])
    nodes = [
        helper.make_node("Gather", ["vectors", "input_ids"], ["last_hidden_state"]),
        helper.make_node("Identity", ["attention_mask"], ["flat"]),
    ]
    graph = helper.make_graph(nodes, "small", numbers, [hidden, flat], [numpy_helper.from_array(vectors, "vectors")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def _write_tokenizer(path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # What a tokenizer brings along must not decide: settings do.
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=12)
    tokenizer.save(str(path))
