"""Tier 2 beside the event loop: who waits together is scored together."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from stack.moderation.batch import Scored, Scorer
from stack.telemetry.metrics import ModerationMetrics


class Classifier:
    """Scores by length, once its gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.batches: list[list[str]] = []

    def scores(self, texts: Sequence[str]) -> list[Scored]:
        self.batches.append(list(texts))
        self.begun.set()
        assert self.gate.wait(10)
        if "bad" in texts:
            raise ValueError("bad")
        return [Scored(len(text) / 10, "hate") for text in texts]


@pytest.fixture
def classifier() -> Classifier:
    return Classifier()


@pytest.fixture
def scorer(classifier: Classifier) -> Scorer:
    return Scorer(classifier.scores, 3, ModerationMetrics().batch_texts)


async def started(classifier: Classifier) -> None:
    assert await asyncio.to_thread(classifier.begun.wait, 10)


async def test_texts_that_come_while_it_is_busy_are_scored_together(scorer: Scorer, classifier: Classifier) -> None:
    first = asyncio.create_task(scorer.score("a"))
    await started(classifier)
    others = [asyncio.create_task(scorer.score("b" * length)) for length in (2, 3, 4, 5)]
    await asyncio.sleep(0)
    classifier.gate.set()
    assert [one.score for one in await asyncio.gather(first, *others)] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert [len(batch) for batch in classifier.batches] == [1, 3, 1]


async def test_the_event_loop_goes_on_while_it_scores(scorer: Scorer, classifier: Classifier) -> None:
    task = asyncio.create_task(scorer.score("a"))
    await started(classifier)
    assert not task.done(), "the classifier still waits at its gate, and this line was reached"
    classifier.gate.set()
    await task


async def test_a_failure_reaches_all_who_waited_for_it_and_nobody_else(scorer: Scorer, classifier: Classifier) -> None:
    bad = asyncio.create_task(scorer.score("bad"))
    await started(classifier)
    good = asyncio.create_task(scorer.score("ab"))
    await asyncio.sleep(0)
    classifier.gate.set()
    with pytest.raises(ValueError, match="bad"):
        await bad
    assert (await good).score == 0.2
    assert (await scorer.score("abc")).score == 0.3


async def test_a_text_that_nobody_waits_for_any_more_is_not_scored(scorer: Scorer, classifier: Classifier) -> None:
    first = asyncio.create_task(scorer.score("a"))
    await started(classifier)
    gone, stays = asyncio.create_task(scorer.score("gone")), asyncio.create_task(scorer.score("ab"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    classifier.gate.set()
    await asyncio.gather(first, stays)
    assert classifier.batches == [["a"], ["ab"]]
