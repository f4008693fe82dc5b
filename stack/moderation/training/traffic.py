"""Labelled traffic that is heavy in the band: mild and hidden abuse, and harmless texts that sound like it."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stack.moderation.training.data import DATA, Part, Sample, load_samples
from stack.moderation.training.obfuscate import FAMILIES


@dataclass(frozen=True)
class Mix:
    """Shares from 0 to 1."""

    abusive: float = 0.4
    """of all texts"""
    milder_than: float = 0.9
    """of the abusive ones only those that a smaller share of readers calls toxic; 1.01 for all"""
    slurs: float = 0.0
    """of the abusive ones and of the hard clean ones: frames with a slur, and with an everyday word"""
    obfuscated: float = 0.3
    """of the abusive ones: written in one of the families, each as often"""
    hard: float = 0.55
    """of the clean ones: of the sources of the abusive texts (`rtp`, `pairs`, frames of `slurs`)"""
    ordinary: tuple[str, ...] = ("xsum", "imdb", "bbq", "boolq", "nq", "fiqa")
    """sources of the other clean ones, each as often"""


@dataclass(frozen=True)
class Labelled:
    """A text of the traffic."""

    text: str
    abusive: bool
    source: str
    family: str
    """`plain`, or how it was hidden"""
    base: str
    """the text before it was hidden"""


def traffic(part: Part, count: int, seed: int = 0, mix: Mix = Mix(), data: Path = DATA) -> list[Labelled]:
    """`count` texts of `part`, in random order; the same arguments give the same texts.

    No text comes twice before all of its kind in the part have come.
    """
    rng = random.Random(f"{part} {seed}")
    here = [s for s in load_samples(data) if s.part == part and (s.toxicity or 0) < mix.milder_than]
    draws: dict[tuple[tuple[str, ...], bool], Iterator[Sample]] = {}

    def draw(sources: tuple[str, ...], abusive: bool) -> Sample:
        key = (sources, abusive)
        if key not in draws:
            draws[key] = _endless([s for s in here if s.source in sources and s.abusive == abusive], rng)
        return next(draws[key])

    families = list(FAMILIES)
    found: list[Labelled] = []
    for number in range(round(count * mix.abusive)):
        sample = draw(("slurs",) if rng.random() < mix.slurs else ("rtp",), True)
        family = families[number % len(families)] if rng.random() < mix.obfuscated else "plain"
        text = FAMILIES[family](sample.text) if family in FAMILIES else sample.text
        found.append(Labelled(text, True, sample.source, family, sample.text))
    for number in range(count - len(found)):
        if rng.random() < mix.hard:
            sample = draw(("slurs",) if rng.random() < mix.slurs else ("rtp", "pairs"), False)
        else:
            sample = draw((mix.ordinary[number % len(mix.ordinary)],), False)
        found.append(Labelled(sample.text, False, sample.source, "plain", sample.text))
    rng.shuffle(found)
    return found


def _endless(samples: Sequence[Sample], rng: random.Random) -> Iterator[Sample]:
    """All of the samples in random order, over and over."""
    if not samples:
        raise ValueError("no text of this kind in this part")
    while True:
        yield from rng.sample(samples, len(samples))
