"""Letters that look like Latin ones: Unicode's table (UTS 39), and a few that it leaves out."""

import unicodedata
from functools import lru_cache

from confusable_homoglyphs.confusables import confusables_data

# Small letters that look like small capitals, or close enough in most fonts, which UTS 39 does not have; and capitals
# that it has as a small l only.
_SIMILAR = dict(zip("кмнтвьгκετηχβωԁԛԝɡ", "kmhtbbrketnxbwdqwg", strict=True)) | {"І": "I", "Ӏ": "I"}


@lru_cache(maxsize=1 << 16)
def is_latin(character: str) -> bool:
    """Whether a letter belongs to the Latin script, with or without marks."""
    return character.isascii() or unicodedata.name(character, "").startswith("LATIN")


@lru_cache(maxsize=1 << 16)
def as_latin(character: str) -> str | None:
    """The ASCII letter that a letter of any script looks like, in its own case; None for none, and for ASCII.

    Marks are dropped: é looks like e.
    """
    if character.isascii():
        return None
    base = unicodedata.normalize("NFD", character)[0]
    if base.isascii():
        return base if base.isalpha() else None
    if base in _SIMILAR:
        return _SIMILAR[base]
    for found in confusables_data.get(base, ()):
        if len(found["c"]) == 1 and found["c"].isascii() and found["c"].isalpha():
            return found["c"]
    lower = base.lower()
    if lower != base and (small := as_latin(lower)):
        return small.upper()
    return None
