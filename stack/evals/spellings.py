"""Ways of hiding what is written that moderation's classifier was not taught.

Beside those of `stack.moderation.training.obfuscate`, from which its training texts are made.
"""

import re
from collections.abc import Callable

_LETTERS = re.compile(r"[A-Za-z]{3,}")
_VOWEL = re.compile(r"[aeiou]", re.IGNORECASE)


def dotted(text: str) -> str:
    """A dot between the letters of every word of three letters or more."""
    return _LETTERS.sub(lambda word: ".".join(word.group()), text)


def stretched(text: str) -> str:
    """The first vowel of every word of three letters or more four times."""
    return _LETTERS.sub(lambda word: _VOWEL.sub(lambda vowel: 4 * vowel.group(), word.group(), count=1), text)


UNTAUGHT: dict[str, Callable[[str], str]] = {"dotted": dotted, "stretched": stretched}
