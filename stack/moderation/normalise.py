"""Text as a reader sees it: what lists and classifiers are given instead of what was typed.

Every step takes and gives text, in time linear in its length, and the length is bounded before and after.
The normalised text is for matching only: it is never shown and never sent on.
"""

import re
import unicodedata
from collections.abc import Container
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from confusable_homoglyphs import confusables

Step = Literal["nfkc", "format", "confusables", "spacing", "leet", "repeats"]
STEPS: tuple[Step, ...] = get_args(Step)
MAX_CHARACTERS = 20_000


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
    vocabulary: Container[str] = frozenset(),
    max_characters: int = MAX_CHARACTERS,
) -> Normalised:
    """`text` after `steps`, which run in the order of STEPS whatever order they are given in.

    vocabulary: words (lower case) that are looked for; where a spelling has several readings, one of these is taken.
    """
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


def nfkc(text: str, _: Container[str] = ()) -> str:
    """Unicode's compatibility composition: full-width, circled and mathematical letters become plain ones."""
    return unicodedata.normalize("NFKC", text)


def format_characters(text: str, _: Container[str] = ()) -> str:
    """Without what takes no space on the screen: category Cf (zero width, direction, tags), variation selectors,
    and marks that are left on a Latin letter after composition (crossed out, underlined, stacked)."""
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


_WORD = re.compile(r"\S+")


def confusable_letters(text: str, _: Container[str] = ()) -> str:
    """Letters of other scripts that look like Latin ones (Unicode's confusables, UTS 39), as Latin ones.

    Only in words that mix Latin with another script, and in words of another script inside a text that is mostly
    Latin, when every letter of the word looks Latin: Russian and Greek stay as they are.
    """
    if text.isascii():
        return text
    latin = sum(1 for c in text if c.isalpha() and _is_latin(c))
    mostly_latin = latin * 2 > sum(1 for c in text if c.isalpha())
    return _WORD.sub(lambda word: _fold_word(word.group(), mostly_latin), text)


def _fold_word(word: str, mostly_latin: bool) -> str:
    if word.isascii():
        return word
    letters = [c for c in word if c.isalpha()]
    foreign = [c for c in letters if not _is_latin(c)]
    mixed = len(foreign) < len(letters)
    if foreign and not mixed and not (mostly_latin and all(_as_latin(c) for c in foreign)):
        return word
    return "".join(_as_latin(c) or c for c in word)


@lru_cache(maxsize=1 << 16)
def _is_latin(character: str) -> bool:
    return character.isascii() or unicodedata.name(character, "").startswith("LATIN")


@lru_cache(maxsize=1 << 16)
def _as_latin(character: str) -> str | None:
    """The ASCII letter that a letter looks like, in its own case, or None. Accents of Latin letters are dropped."""
    if character.isascii():
        return None
    base = unicodedata.normalize("NFD", character)[0]
    if base.isascii() and base.isalpha():
        return base
    for found in confusables.confusables_data.get(base, ()):
        if len(found["c"]) == 1 and found["c"].isascii() and found["c"].isalpha():
            return found["c"]
    lower = character.lower()
    return _as_latin(lower) if lower != character else None


_SPACED = re.compile(r"(?<![^\W_])(?:[^\W_]([ .\-_*,/|]{1,2}))(?:[^\W_]\1)+[^\W_](?![^\W_])")


def spacing(text: str, _: Container[str] = ()) -> str:
    """Three or more single letters with one and the same separator between them, joined: `f u c k`, `f.u.c.k`."""
    return _SPACED.sub(lambda found: found.group().replace(found.group(1), ""), text)


_LEET = str.maketrans({"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i"})
_QUANTITY = re.compile(r"[$]?\d[\d.,:]*(?:st|nd|rd|th|s|k|m|b|am|pm|x|d|h|g|kg|km|cm|mm|ml|mg|mb|gb|tb|ft|min|%|p)?$")


def leet(text: str, _: Container[str] = ()) -> str:
    """Digits and signs that stand for letters, inside words that have letters too; quantities stay."""
    return _WORD.sub(lambda word: _unleet(word.group()), text)


def _unleet(word: str) -> str:
    core = word.strip(".,;:!?()[]{}\"'")
    if not any(c.isalpha() for c in core) or core.isalpha() or _QUANTITY.match(core.lower()):
        return word
    start = word.index(core)
    return word[:start] + core.translate(_LEET) + word[start + len(core) :]


_RUN = re.compile(r"([^\W\d_])\1{2,}", re.IGNORECASE)


def repeats(text: str, _: Container[str] = ()) -> str:
    """No letter more than twice in a row."""
    return _RUN.sub(r"\1\1", text)


_FUNCTIONS = {
    "nfkc": nfkc,
    "format": format_characters,
    "confusables": confusable_letters,
    "spacing": spacing,
    "leet": leet,
    "repeats": repeats,
}
