"""The ways in which abuse is written so that a word list or a classifier does not see it."""

import hashlib
import re
from collections.abc import Callable

_LEET = str.maketrans("aeiostAEIOST", "431057431057")
_CYRILLIC = str.maketrans("aceopxyijsABCEHIJKMOPSTXY", "асеорхуіјѕАВСЕНІЈКМОРЅТХУ")
_LETTERS = re.compile(r"[A-Za-z]+")


def leetspeak(text: str) -> str:
    """Digits for the letters that look like them."""
    return text.translate(_LEET)


def zero_width(text: str) -> str:
    """A zero-width space between the letters of every word."""
    return _LETTERS.sub(lambda word: "\u200b".join(word.group()), text)


def full_width(text: str) -> str:
    """The full-width forms of ASCII."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def cyrillic(text: str) -> str:
    """Cyrillic letters for the Latin ones that look the same."""
    return text.translate(_CYRILLIC)


FAMILIES: dict[str, Callable[[str], str]] = {
    "leetspeak": leetspeak,
    "zero-width": zero_width,
    "full-width": full_width,
    "cyrillic": cyrillic,
}


def mixed(text: str) -> str:
    """Another family from word to word; the same text is always changed in the same way."""
    names = [name for name in FAMILIES if name != "mixed"]

    def change(word: re.Match[str]) -> str:
        digest = hashlib.sha256(f"{word.start()} {text}".encode()).digest()
        return FAMILIES[names[digest[0] % len(names)]](word.group())

    return _LETTERS.sub(change, text)


FAMILIES["mixed"] = mixed
