"""Text into the terms of a sparse index. The passages and the queries must go through the same steps to meet."""

import re
import threading

import Stemmer
from bm25s.stopwords import STOPWORDS_EN_PLUS

from stack.rag.config.stages import AnalyserSettings

STOPWORDS = frozenset(STOPWORDS_EN_PLUS)
"""English words that tell little about a passage: articles, pronouns, prepositions, question words, forms of "be"."""

_WORD = re.compile(r"\w+")
_stemmers = threading.local()  # a Snowball stemmer must not be used by two threads at once


class Analyser:
    """`terms` of a text, in order, repetitions kept; which steps it takes is up to `settings`."""

    def __init__(self, settings: AnalyserSettings) -> None:
        self.settings = settings

    def terms(self, text: str) -> list[str]:
        """The terms of `text`."""
        steps = self.settings
        if steps.lowercase:
            text = text.lower()
        words = _WORD.findall(text) if steps.pattern == "word" else text.split()
        if steps.stopwords == "english":
            words = [word for word in words if word not in STOPWORDS]
        return _stemmer().stemWords(words) if steps.stemmer == "english" else words


def _stemmer() -> Stemmer.Stemmer:
    if not hasattr(_stemmers, "english"):
        _stemmers.english = Stemmer.Stemmer("english")
    return _stemmers.english
