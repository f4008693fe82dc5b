"""What can be said about a text without a model: words in common, a fact contained."""

import re
from collections.abc import Iterable
from functools import cache

from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import CHRF

MOST_SENTENCES = 60

_WORD = re.compile(r"[a-z0-9]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def words(text: str) -> str:
    """The words of a text in lower case, with one blank between them and at both ends."""
    return f" {' '.join(_WORD.findall(text.lower()))} "


def contains(text: str, fact: str) -> bool:
    """Whether `fact` stands in `text`, word for word, whatever case and punctuation."""
    return words(fact).strip() != "" and words(fact) in words(text)


def sentences(text: str) -> list[str]:
    """Where `.`, `!` or `?` and a blank end one."""
    return _SENTENCE_END.split(text)


@cache
def _rouge() -> RougeScorer:
    return RougeScorer(["rouge1"], use_stemmer=True)


def support(answer: str, passages: Iterable[str]) -> float:
    """Share of the answer's words that the passages have, 0 to 1: the precision of ROUGE-1 (Lin, 2004)."""
    return float(_rouge().score("\n".join(passages), answer)["rouge1"].precision)


@cache
def _chrf() -> CHRF:
    return CHRF()


def likeness(answer: str, document: str) -> float:
    """How like an answer is to the sentence of a document that it is most like, 0 to 1: chrF (Popovic, 2015)."""
    said = [sentence for sentence in sentences(document)[:MOST_SENTENCES] if sentence.strip()]
    if not answer.strip() or not said:
        return 0.0
    return max(float(_chrf().sentence_score(answer, [sentence]).score) for sentence in said) / 100
