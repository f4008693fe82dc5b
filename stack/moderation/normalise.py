"""Text as a reader sees it: what lists and classifiers are given instead of what was typed.

Every step takes and gives text, in time linear in its length, and the length is bounded before and after.
The normalised text is for matching only: it is never shown and never sent on.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

from stack.moderation.confusables import as_latin, is_latin

Step = Literal["nfkc", "format", "confusables", "spacing", "leet", "repeats"]
STEPS: tuple[Step, ...] = get_args(Step)
MAX_CHARACTERS = 20_000
_LONGEST_NUMBER = 6  # digits that are read as a word where everything is leet
_LONGEST_MASKED = 16  # characters of a word whose hidden letters are guessed


class Vocabulary(frozenset[str]):
    """Words that are looked for, in lower case: where a spelling has several readings, one of these is taken."""

    def __new__(cls, words: Iterable[str] = ()) -> "Vocabulary":
        self = super().__new__(cls, words)
        self._by_shape = {}
        for word in sorted(self):
            self._by_shape.setdefault((len(word), word[0]), []).append(word)
        return self

    def unmask(self, masked: str) -> str | None:
        """The word that `masked` (lower case, `*` for a hidden letter) can be; None for no word or several.

        Of several, `fuck` and what begins with it come first: that is what people hide most.
        """
        pattern = re.compile(re.escape(masked).replace(r"\*", "[a-z]"))
        found = [w for w in self._by_shape.get((len(masked), masked[0]), ()) if pattern.fullmatch(w)]
        likely = [w for w in found if w.startswith(("fuck", "shit", "bitch", "cunt"))]
        found = likely or found
        return found[0] if len(found) == 1 else None


NO_WORDS = Vocabulary()


class Normalised(NamedTuple):
    """A text after normalisation."""

    text: str
    applied: tuple[Step, ...]
    """the steps that changed something, in their order"""
    truncated: bool
    """longer than was looked at"""


def normalise(
    text: str,
    steps: tuple[Step, ...] = STEPS,
    vocabulary: Vocabulary = NO_WORDS,
    max_characters: int = MAX_CHARACTERS,
) -> Normalised:
    """`text` after `steps`, which run in the order of STEPS whatever order they are given in."""
    truncated = len(text) > max_characters
    text = text[:max_characters]
    applied: list[Step] = []
    for step in STEPS:
        if step not in steps:
            continue
        changed = _FUNCTIONS[step](text, vocabulary)
        if changed != text:
            applied.append(step)
            truncated = truncated or len(changed) > max_characters
            text = changed[:max_characters]
    return Normalised(text, tuple(applied), truncated)


def nfkc(text: str, _: Vocabulary = NO_WORDS) -> str:
    """Unicode's compatibility composition: full-width, circled and mathematical letters become plain ones."""
    return unicodedata.normalize("NFKC", text)


def format_characters(text: str, _: Vocabulary = NO_WORDS) -> str:
    """Without what takes no space on the screen: category Cf (zero width, direction, tags), variation selectors, and
    marks that are left on a Latin letter after composition (crossed out, stacked)."""
    if text.isascii():
        return text
    kept: list[str] = []
    for character in text:
        category = unicodedata.category(character)
        if category == "Cf" or "\ufe00" <= character <= "\ufe0f":
            continue
        if category in ("Mn", "Me") and kept and kept[-1].isascii():
            continue
        kept.append(character)
    return "".join(kept)


_LETTERS = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"\S+")


def confusable_letters(text: str, vocabulary: Vocabulary = NO_WORDS) -> str:
    """Letters of other scripts that look like Latin ones, as Latin ones; and accents off where that makes a word of
    `vocabulary`, unless every third word has some, as in Vietnamese.

    Folded are words that mix Latin with another script; and, in a text that has such words or is mostly Latin, words
    of another script whose every letter looks Latin. Russian, Greek and Turkish stay as they are.
    """
    if text.isascii():
        return text
    every = _LETTERS.findall(text)
    words = {word for word in every if not word.isascii()}
    mixed = {word for word in words if _mixes_scripts(word)}
    letters = [c for c in text if c.isalpha()]
    wholly = any(_looks_latin(word) for word in mixed) or sum(map(is_latin, letters)) * 2 > len(letters)

    accented = {word for word in words if all(map(is_latin, word))}
    if sum(map(accented.__contains__, every)) * 3 > len(every):
        words, accented = words - accented, set()

    def fold(found: re.Match[str]) -> str:
        word = found.group()
        if word not in words:
            return word
        folded = "".join(as_latin(c) or c for c in word)
        if word in accented:
            return folded if folded.lower() in vocabulary else word
        return folded if word in mixed or (wholly and _looks_latin(word)) else word

    return _LETTERS.sub(fold, text)


def _mixes_scripts(word: str) -> bool:
    latin = sum(map(is_latin, word))
    return 0 < latin < len(word)


def _looks_latin(word: str) -> bool:
    return all(is_latin(c) or as_latin(c) for c in word)


_SPACED = re.compile(r"(?<![^\W_])[^\W\d_](?P<gap>[ .\-_*,/|~+]{1,2})(?:[^\W\d_](?P=gap))+[^\W\d_](?![^\W_])")


def spacing(text: str, vocabulary: Vocabulary = NO_WORDS) -> str:
    """Three or more single letters with one and the same separator between them, joined: `f u c k`, `f.u.c.k`.

    What was joined is cut again around the longest word of `vocabulary` in it, since `y o u f u c k` is two words.
    """
    return _SPACED.sub(lambda found: _around_known(found.group().replace(found["gap"], ""), vocabulary), text)


def _around_known(joined: str, vocabulary: Vocabulary) -> str:
    lower = joined.lower()
    longest = min(len(lower), _LONGEST_MASKED)
    for length in range(longest, 3, -1):
        for start in range(len(lower) - length + 1):
            if lower[start : start + length] in vocabulary:
                parts = (joined[:start], joined[start : start + length], joined[start + length :])
                return " ".join(part for part in parts if part)
    return joined


_LEET = {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g", "@": "a", "$": "s", "!": "i"}
_LEET |= {"€": "e", "£": "l", "+": "t", "|": "i"}
_TABLES = tuple(str.maketrans(_LEET | {"1": one, "|": one, "!": one}) for one in "il")
_QUANTITY = re.compile(
    r"\d*(?:1st|2nd|3rd|\dth)$|"
    r"[$€£]?\d[\d.,:/-]*(?:s|k|m|b|bn|am|pm|x|d|h|g|kg|km|cm|mm|ml|mg|mb|gb|tb|ft|min|mph|%|p)?$",
    re.I,
)
_EDGES = ".,;:!?()[]{}<>\"'“”‘’…"
_MASK = re.compile(r"(?<=[a-z])[*#%@$!-]+(?=[a-z]|$)")


def leet(text: str, vocabulary: Vocabulary = NO_WORDS) -> str:
    """Digits and signs that stand for letters (`1d10t`) or hide them (`f**k`), inside words that have letters too.

    Quantities, links and mentions stay. Numbers are read as letters only where every
    third word is leet.
    """
    folded = _WORD.sub(lambda word: _unleet(word.group(), vocabulary), text)
    words, before = folded.split(), text.split()
    leetspoken = sum(1 for old, new in zip(before, words, strict=True) if old != new and any(map(str.isdigit, old)))
    if leetspoken < 2 or leetspoken * 3 < len(words):
        return folded
    return _WORD.sub(lambda word: _all_letters(word.group()), folded)


def _all_letters(word: str) -> str:
    """A word of a text that is leet throughout: short numbers and quantities are words too, `15` is `is`."""
    core = word.strip(_EDGES)
    letters = core.replace("'", "").replace("’", "")
    return word.translate(_TABLES[0]) if letters.isalnum() and len(core) <= _LONGEST_NUMBER else word


def _unleet(word: str, vocabulary: Vocabulary) -> str:
    core = word.strip(_EDGES)
    if not core or core.isalpha() or not any(map(str.isalpha, core)) or _stands(core, vocabulary):
        return word
    start = word.index(core)
    return word[:start] + _reading(core, vocabulary) + word[start + len(core) :]


def _stands(core: str, vocabulary: Vocabulary) -> bool:
    """A link, an address, or a mention that hides nothing."""
    if "://" in core or core.startswith("www.") or ("@" in core[1:] and "." in core):
        return True
    return core[0] == "@" and not any(core.translate(table).lower() in vocabulary for table in _TABLES)


def _reading(core: str, vocabulary: Vocabulary) -> str:
    lower = core.lower()
    if len(core) <= _LONGEST_MASKED and "*" in (masked := _MASK.sub(lambda m: "*" * len(m.group()), lower)):
        hidden = masked.translate(_TABLES[0])
        if hidden.replace("*", "").isalpha() and (word := vocabulary.unmask(hidden)):
            return word
    return _SEGMENT.sub(lambda found: _spelt(found.group(), vocabulary), core)


_SEGMENT = re.compile(r"[^\-/()\[\]{}:;,.\"'_=&*#]+")


def _spelt(segment: str, vocabulary: Vocabulary) -> str:
    """A part of a word between hyphens and brackets, with letters for digits and signs if it has letters too."""
    if segment.isalpha() or not any(map(str.isalpha, segment)) or _QUANTITY.match(segment):
        return segment
    for table in _TABLES:
        if (reading := segment.translate(table)).lower() in vocabulary:
            return reading
    return segment.translate(_TABLES[0])


_RUN = re.compile(r"([^\W\d_])\1{2,}", re.IGNORECASE)


def repeats(text: str, vocabulary: Vocabulary = NO_WORDS) -> str:
    """No letter more than twice in a row; once where that makes a word of `vocabulary`."""
    if not _RUN.search(text):
        return text

    def shorten(found: re.Match[str]) -> str:
        word = found.group()
        if not _RUN.search(word):
            return word
        once = _RUN.sub(r"\1", word)
        return once if once.lower() in vocabulary else _RUN.sub(r"\1\1", word)

    return _LETTERS.sub(shorten, text)


_FUNCTIONS = {
    "nfkc": nfkc,
    "format": format_characters,
    "confusables": confusable_letters,
    "spacing": spacing,
    "leet": leet,
    "repeats": repeats,
}
