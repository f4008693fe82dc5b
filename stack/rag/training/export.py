"""From trained weights to what the service loads: an int8 ONNX file, and the proof that it scores like the original.

Weights are quantised when exported, a scale for each output channel; activations when they come up, by onnxruntime
(dynamic quantisation). The head stays in float32: it is small, and it compares.
"""

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from scipy.stats import kendalltau
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer
from torch import nn

from stack.rag.training.model import features

MODEL, TOKENIZER, CARD = "model.onnx", "tokenizer.json", "card.json"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET = 17


class _Graph(nn.Module):
    """The model as a function of three tensors int64[pairs, tokens], which is what an ONNX file can hold."""

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor):
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return self.model(inputs)["scores"]


def export(model: CrossEncoder, tokenizer: Path, out: Path) -> None:
    """Write MODEL, quantised, and a copy of the file `tokenizer` into the folder `out`, which is made if need be."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as work:
        whole, small = Path(work) / "float32.onnx", Path(work) / MODEL
        _to_onnx(model, whole)
        logging.getLogger().setLevel(logging.ERROR)  # the quantiser advises on a step that this graph does not need
        quantize_dynamic(whole, small, per_channel=True, weight_type=QuantType.QInt8)
        os.replace(small, out / MODEL)
    if not (out / TOKENIZER).exists() or not tokenizer.samefile(out / TOKENIZER):
        shutil.copyfile(tokenizer, out / TOKENIZER)


def _to_onnx(model: CrossEncoder, path: Path) -> None:
    """`model` in float32, for any number of pairs of any length."""
    model.eval()
    example = torch.ones(2, 9, dtype=torch.long)
    types = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 1]]).expand(2, 9).contiguous()
    free = {name: {0: "pairs", 1: "tokens"} for name in INPUTS} | {"logits": {0: "pairs"}}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of its own age, and of branches that this graph never takes
        torch.onnx.export(
            _Graph(model), (example, example, types), path, input_names=list(INPUTS), output_names=["logits"],
            dynamic_axes=free, opset_version=OPSET, dynamo=False,
        )  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """How the exported model scores next to the original, over lists of candidates."""

    mean_difference: float
    """Of the scores, absolute, in units of the standard deviation of the original's scores."""
    max_difference: float
    same_first: float
    """Share of the lists where both have the same passage first."""
    kendall_tau: float
    """Mean over the lists; 1 where the order is the same."""


def agreement(
    model: CrossEncoder, onnx: Path, tokenizer: Tokenizer, lists: Sequence[Sequence[tuple[str, str]]]
) -> Agreement:
    """Compare both on the same pairs, the original in float32."""
    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    model.eval()
    gaps, spread, first, tau = [], [], [], []
    for pairs in lists:
        inputs = features(tokenizer, pairs)
        with torch.inference_mode():
            original = model(dict(inputs))["scores"].squeeze(-1).numpy()
        (small,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        small = small.reshape(-1)
        gaps.append(np.abs(original - small))
        spread.append(original)
        first.append(original.argmax() == small.argmax())
        tau.append(kendalltau(original, small).statistic)
    unit = np.concatenate(spread).std()
    all_gaps = np.concatenate(gaps) / unit
    return Agreement(float(all_gaps.mean()), float(all_gaps.max()), float(np.mean(first)), float(np.mean(tau)))
