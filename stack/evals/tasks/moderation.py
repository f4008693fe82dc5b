"""Whether abuse is stopped however it is written, danger is seen, and harmless texts are not stopped; with the judge
and without it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from stack.evals.example import Example, chosen
from stack.evals.spellings import UNTAUGHT
from stack.evals.stack_client import Places, Stack
from stack.evals.suite import Mode, Named
from stack.moderation.training.data import Sample, load_samples
from stack.moderation.training.obfuscate import FAMILIES

CLEAN = {"clean": ("rtp", "pairs"), "identity": ("bbq",), "ordinary": ("xsum", "imdb", "boolq", "nq", "fiqa")}
"""Slices of harmless texts, and the sources of each: those of the abuse itself, groups of people, anything."""
DANGER = "danger"
PLAIN = "plain"
PART = "grading"
_DANGERS = Path(__file__).parent / "dangers.yaml"
_SPELLINGS = FAMILIES | UNTAUGHT


class Moderation:
    """right: abuse was blocked or held for people, or a harmless text let through. probability: of the last tier that
    gave one. label: 1 for abuse. escalated: the language model or people had to look; reviewed: people. named: a text
    of danger was stopped, and for that. harassment: it was stopped as that, and not as hate or something sexual."""

    SCORES: ClassVar[frozenset[str]] = frozenset(
        {"right", "probability", "label", "escalated", "reviewed", "degraded", "named", "harassment"}
    )
    WORST: ClassVar[Mapping[str, float]] = {"right": 0.0, "degraded": 1.0, "named": 0.0}

    def examples(self, suite: Named, mode: Mode, places: Places) -> list[Example]:
        size = suite.size(mode)
        spelled = [*_abuse(size, places, (PLAIN, *FAMILIES)), *_abuse(size // 2, places, tuple(UNTAUGHT))]
        return [*spelled, *_slurs(size // 2, places), *_harmless(size, places), *dangers()]

    async def ask(self, example: Example, stack: Stack) -> dict[str, Any]:
        return _kept(await stack.moderate(example.ask["text"]))

    def score(self, example: Example, output: dict[str, Any]) -> dict[str, float]:
        stopped = output["decision"] != "allow"
        if DANGER in example.slices:
            return {"named": float(stopped and example.expected["category"] in output["categories"])}
        abusive = example.expected["abusive"]
        return {
            "right": float(stopped is abusive),
            "probability": output["score"],
            "label": float(abusive),
            "escalated": float(output["tier"] in (3, "review")),
            "reviewed": float(output["tier"] == "review"),
            "harassment": float("harassment" in output["categories"]),
            "degraded": float(output["degraded"]),
        }


class JudgeDown(Moderation):
    """The same while the language model cannot be reached: what is uncertain must not appear unseen."""

    def examples(self, suite: Named, mode: Mode, places: Places) -> list[Example]:
        size = suite.size(mode)
        return [*_abuse(size, places, (PLAIN,)), *_harmless(size, places), *dangers()]

    async def ask(self, example: Example, stack: Stack) -> dict[str, Any]:
        return _kept(await stack.moderate_without_judge(example.ask["text"]))


def _kept(result: dict[str, Any]) -> dict[str, Any]:
    categories = [name for name, found in result["categories"].items() if found]
    return {name: result[name] for name in ("decision", "tier", "score", "degraded")} | {"categories": categories}


def _abuse(size: int, places: Places, families: Sequence[str]) -> Iterator[Example]:
    """The same texts, written in each way."""
    texts = abusive_texts(size, places)
    for family in families:
        for text in texts:
            yield _example(_SPELLINGS.get(family, str)(text), True, family)


def abusive_texts(size: int, places: Places, source: str = "rtp") -> list[str]:
    """At most so many held-out texts that break the rules, as they were written."""
    found = chosen((s for s in _samples(places) if s.abusive and s.source == source), size, lambda sample: sample.text)
    return [sample.text for sample in found]


def _slurs(size: int, places: Places) -> Iterator[Example]:
    """A slur at the end of a harmless beginning: what the lists of hateful terms are for."""
    for text in abusive_texts(size, places, "slurs"):
        yield _example(text, True, "slurs")


def _harmless(size: int, places: Places) -> Iterator[Example]:
    for name, origins in CLEAN.items():
        clean = (s for s in _samples(places) if not s.abusive and s.source in origins)
        for sample in chosen(clean, size, lambda sample: sample.text):
            yield _example(sample.text, False, name)


def dangers() -> Iterator[Example]:
    """Texts for which each category stands that no list of words and no classifier of abuse knows.

    At least four of each: so many can be told from chance when all of them are lost.
    """
    for category, texts in yaml.safe_load(_DANGERS.read_text(encoding="utf-8")).items():
        for number, text in enumerate(texts):
            yield Example(f"{DANGER}-{category}-{number}", {"text": text}, {"category": category}, (DANGER,))


def _samples(places: Places) -> list[Sample]:
    return [sample for sample in load_samples(places.data) if sample.part == PART]


def _example(text: str, abusive: bool, slice_: str) -> Example:
    """`as written`: not changed to hide anything, so that no text counts twice in a number over all; without slurs, for
    which lists are there, and no classifier."""
    as_written = ("as written",) if slice_ in (PLAIN, *CLEAN) else ()
    slices = (slice_, "abusive" if abusive else "harmless", *as_written)
    made = Example("", {"text": text}, {"abusive": abusive}, slices)
    return Example(f"{slice_}-{made.digest[:12]}", made.ask, made.expected, made.slices)
