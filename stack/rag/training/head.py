"""The cross-encoder's last step: late interaction between the two halves of one joint reading.

The encoder was trained to make sentence vectors, not to say "relevant" at its first token, and teaching that from zero
takes more pairs than a CPU can read in an hour. Its token vectors, however, already find their like: the mean over the
query's tokens of each one's best match in the passage (ColBERT's MaxSim, SIGIR 2020, equation 3) ranks well before any
training. So the head starts there, and training has to add only what reading both together makes visible.
"""

import math

import torch
from sentence_transformers.base.modules import Module
from torch import nn

SCALE = 20.0
"""At the start, what turns a similarity of at most 1 into a logit; sentence encoders are trained with this one."""

_NEVER = -1e4


class _Head(Module):
    """What both heads have in common: their files."""

    def save(self, output_path: str, *args: object, safe_serialization: bool = True, **kwargs: object) -> None:
        """Configuration and weights into the folder `output_path`."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: object) -> "_Head":
        """What `save` wrote."""
        head = cls(**cls.load_config(model_name_or_path, subfolder=subfolder))
        return cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=head)


class LateInteractionHead(_Head):
    """Token vectors of a pair in, one score out.

    score = scale * sum over query tokens of weight * best cosine with a passage token + linear(first token).
    The weights are a softmax over the query's tokens and equal at the start; the linear part starts at zero.
    """

    config_keys = ["dimension", "special"]  # noqa: RUF012 (the library's way to say what belongs in a saved model)

    def __init__(self, dimension: int, special: list[int]) -> None:
        """`dimension` of a token vector; `special`: numbers of the tokens that stand for no word."""
        super().__init__()
        self.dimension, self.special = dimension, list(special)
        self.scale = nn.Parameter(torch.tensor(math.log(SCALE)))
        self.weight = nn.Linear(dimension, 1)
        self.first = nn.Linear(dimension, 1)
        for layer in (self.weight, self.first):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: dict[str, torch.Tensor], **kwargs: object) -> dict[str, torch.Tensor]:
        """Adds `scores` float[pairs, 1]; reads token_embeddings, input_ids, attention_mask, token_type_ids."""
        states = features["token_embeddings"].float()
        numbers, passage = features["input_ids"], features["token_type_ids"] == 1
        word = features["attention_mask"] == 1
        for number in self.special:
            word = word & (numbers != number)
        unit = nn.functional.normalize(states, dim=-1)
        similar = unit @ unit.transpose(1, 2)
        best = similar.masked_fill(~(word & passage)[:, None, :], -1.0).max(dim=-1).values
        weight = self.weight(states).squeeze(-1).masked_fill(~(word & ~passage), _NEVER).softmax(dim=-1)
        interaction = (weight * best).sum(dim=-1, keepdim=True)
        features["scores"] = self.scale.exp() * interaction + self.first(states[:, 0])
        return features


class FirstTokenHead(_Head):
    """The usual head of a cross-encoder: a new linear layer on the first token, which knows nothing at the start."""

    config_keys = ["dimension"]  # noqa: RUF012

    def __init__(self, dimension: int) -> None:
        """`dimension` of a token vector."""
        super().__init__()
        self.dimension = dimension
        self.inner, self.outer = nn.Linear(dimension, dimension), nn.Linear(dimension, 1)

    def forward(self, features: dict[str, torch.Tensor], **kwargs: object) -> dict[str, torch.Tensor]:
        """Adds `scores` float[pairs, 1]; reads token_embeddings."""
        features["scores"] = self.outer(self.inner(features["token_embeddings"][:, 0].float()).tanh())
        return features
