"""How examples are made, asked and scored: one module for each kind of suite."""

from collections.abc import Mapping
from typing import Any, Protocol

from stack.evals.example import Example
from stack.evals.stack_client import Places, Stack
from stack.evals.suite import Mode, Named

SECONDS, AT_ONCE = "seconds", "at_once"
"""Scores of every task: how long the answer took, and whether it came without a "not now" before."""


class Task(Protocol):
    """One kind of suite."""

    SCORES: frozenset[str]
    """The scores that it gives."""
    WORST: Mapping[str, float]
    """What a failed example counts as, in the scores where it does: one of tokens, seconds or probabilities is of
    answers alone, and `coverage` tells that there is none."""

    def examples(self, suite: Named, mode: Mode, places: Places) -> list[Example]:
        """What is asked, the same on every machine. Raises stack.rag.hits.RetrievalError: a collection is missing."""
        ...

    async def ask(self, example: Example, stack: Stack) -> dict[str, Any]:
        """What came back, as JSON. Raises Failed."""
        ...

    def score(self, example: Example, output: dict[str, Any]) -> dict[str, float]:
        """Scores by name, each finite."""
        ...


def task_of(suite: Named) -> Task:
    """The task of a suite."""
    from stack.evals.tasks import answers, conversation, guard, moderation, preference, refusal, retrieval

    tasks: dict[str, type[Task]] = {
        "retrieval": retrieval.Retrieval,
        "answers": answers.Answers,
        "refusal": refusal.Refusal,
        "guard": guard.Guard,
        "moderation": moderation.Moderation,
        "judge_down": moderation.JudgeDown,
        "conversation": conversation.Conversation,
        "preference": preference.Preference,
    }
    return tasks[suite.suite.task]()
