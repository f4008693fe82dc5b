"""A language model that says which of two answers is better: in both orders, in a closed form, with its own measure.

What is known of such judges (Zheng and others, "Judging LLM-as-a-judge", 2023): they prefer a place, and they prefer
length. So each pair is asked in both orders, a verdict that changes with the order is a tie, and wins are also told as
they would be for answers of equal length. How far the judge can be trusted is measured with pairs whose better answer
is known.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score

from stack.evals.stack_client import Failed, JudgeFailed, Stack

Choice = Literal["first", "second", "tie"]
PREFERENCE: dict[Choice, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}
EVIDENCE_CHARS, ANSWER_CHARS = 2400, 800

RULES = (
    "You compare two answers to a question. The text tells what is right. The better answer says what the text says "
    "about the question, and nothing that is not in it. Its length does not matter. Name the better answer: A or B."
)
SCHEMA = {
    "name": "verdict",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"better": {"enum": ["A", "B"]}},
        "required": ["better"],
        "additionalProperties": False,
    },
}


@dataclass(frozen=True)
class Pair:
    """Two answers to a question; `evidence` is the text that has the right one."""

    question: str
    evidence: str
    first: str
    second: str


@dataclass(frozen=True)
class Verdict:
    """`choice` is a tie where the two orders do not agree."""

    choice: Choice
    failures: int
    """Calls that failed or gave no verdict, before one did."""


async def compare(stack: Stack, pair: Pair, attempts: int) -> Verdict:
    """The better of the two, asked in both orders. Raises JudgeFailed when no verdict came in `attempts` calls."""
    if pair.first.strip() == pair.second.strip():
        return Verdict("tie", 0)
    forwards, lost = await _asked(stack, pair, pair.first, pair.second, attempts)
    backwards, lost_again = await _asked(stack, pair, pair.second, pair.first, attempts)
    choices: dict[tuple[str, str], Choice] = {("A", "B"): "first", ("B", "A"): "second"}
    return Verdict(choices.get((forwards, backwards), "tie"), lost + lost_again)


async def _asked(stack: Stack, pair: Pair, a: str, b: str, attempts: int) -> tuple[str, int]:
    body = {
        "messages": [
            {"role": "system", "content": RULES},
            {"role": "user", "content": _told(pair, a, b)},
        ],
        "response_format": {"type": "json_schema", "json_schema": SCHEMA},
        "max_tokens": 32,
        "temperature": 0,
    }
    problem = ""
    for attempt in range(attempts):
        try:
            return _read(await stack.judge(body | ({"temperature": 0.5, "seed": attempt} if attempt else {}))), attempt
        except Failed as failed:
            problem = str(failed)
    raise JudgeFailed(f"no verdict of the judge in {attempts} calls; the last: {problem}")


def _told(pair: Pair, a: str, b: str) -> str:
    return (
        f"Text: {pair.evidence[:EVIDENCE_CHARS]}\n\nQuestion: {pair.question}\n\nAnswer A: {a[:ANSWER_CHARS]}\n\n"
        f"Answer B: {b[:ANSWER_CHARS]}\n\nWhich answer is better?"
    )


def _read(answer: dict[str, Any]) -> str:
    try:
        better = json.loads(answer["choices"][0]["message"]["content"])["better"]
    except (KeyError, IndexError, TypeError, ValueError) as problem:
        raise Failed(f"not a verdict: {str(answer)[:200]}") from problem
    if better not in ("A", "B"):
        raise Failed(f"not a verdict: {better!r}")
    return better


def kappa(said: Sequence[Choice], known: Sequence[Choice]) -> float:
    """Cohen's kappa: agreement beyond chance, 1 at most, 0 for a judge that guesses."""
    if not said:
        return float("nan")
    if list(said) == list(known):
        return 1.0
    return float(cohen_kappa_score(list(said), list(known)))


def at_equal_length(wins: np.ndarray, length_differences: np.ndarray) -> float:
    """The share of wins that would be left for answers of equal length, 0 to 1.

    Logistic regression of the preference on tanh of the standardised difference of length, read where the difference is
    0: the length control of AlpacaEval 2 (Dubois and others, 2024). `wins` has 1, .5 and 0; a tie counts half for each.
    """
    if len(wins) < 2 or np.ptp(wins) == 0 or np.ptp(length_differences) == 0:
        return float(wins.mean()) if len(wins) else float("nan")
    control = np.tanh(length_differences / length_differences.std())[:, None]
    model = LogisticRegression(C=10.0).fit(
        np.vstack([control, control]),
        np.repeat([1, 0], len(wins)),
        sample_weight=np.concatenate([wins, 1 - wins]) + 1e-9,
    )
    return float(model.predict_proba(np.zeros((1, 1)))[0, 1])
