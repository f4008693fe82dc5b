"""What can be said about a text without a model: words in common, a fact contained."""

import re
from collections.abc import Iterable
from functools import cache

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

_WORD = re.compile(r"[a-z0-9]+")


def words(text: str) -> str:
    """The words of a text in lower case, with one blank between them and at both ends."""
    return f" {' '.join(_WORD.findall(text.lower()))} "


def contains(text: str, fact: str) -> bool:
    """Whether `fact` stands in `text`, word for word, whatever case and punctuation."""
    return words(fact).strip() != "" and words(fact) in words(text)


@cache
def _rouge() -> RougeScorer:
    return RougeScorer(["rouge1"], use_stemmer=True)


def support(answer: str, passages: Iterable[str]) -> float:
    """Share of the answer's words that the passages have, 0 to 1: the precision of ROUGE-1 (Lin, 2004)."""
    return float(_rouge().score("\n".join(passages), answer)["rouge1"].precision)


@cache
def _chrf() -> CHRF:
    return CHRF()


def likeness(answer: str, reference: str) -> float:
    """How alike two texts are, 0 to 1: chrF (Popovic, 2015)."""
    return float(_chrf().sentence_score(answer, [reference]).score) / 100
