"""Ways of hiding what is written that moderation's classifier was not taught.

Beside those of `stack.moderation.training.obfuscate`, from which its training texts are made.
"""

import re
from collections.abc import Callable

_LETTERS = re.compile(r"[A-Za-z]{3,}")
_LONGER = re.compile(r"[A-Za-z]{4,}")
_VOWEL = re.compile(r"[aeiou]", re.IGNORECASE)
_BETWEEN = ".-_* "


def dotted(text: str) -> str:
    """A dot, or what does as well, between the letters of every word of three letters or more; the same in a text."""
    between = _BETWEEN[len(text) % len(_BETWEEN)]
    return _LETTERS.sub(lambda word: between.join(word.group()), text)


def stretched(text: str) -> str:
    """The first vowel of every word of three letters or more four times."""
    return _LETTERS.sub(lambda word: _VOWEL.sub(lambda vowel: 4 * vowel.group(), word.group(), count=1), text)


def masked(text: str) -> str:
    """A star for the first vowel of every word of four letters or more."""
    return _LONGER.sub(lambda word: _VOWEL.sub("*", word.group(), count=1), text)


UNTAUGHT: dict[str, Callable[[str], str]] = {"dotted": dotted, "stretched": stretched, "masked": masked}
