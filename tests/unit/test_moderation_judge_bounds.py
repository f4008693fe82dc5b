"""The bounds around the judge: how many are asked at a time, who waits, who is turned away; the engine is replaced."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pydantic import AnyHttpUrl

from stack.moderation.config import Tier3
from stack.moderation.judge import Judge, JudgeFailed, Judgement
from stack.telemetry.metrics import ModerationMetrics


class Engine:
    """Answers a text when the test lets it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._answers: dict[str, asyncio.Future[None]] = {}

    async def ask(self, text: str) -> Judgement:
        self.asked.append(text)
        self._answers[text] = asyncio.get_running_loop().create_future()
        await self._answers[text]
        return Judgement(0.5, 1)

    def answer(self, text: str) -> None:
        self._answers[text].set_result(None)

    def fail(self, text: str) -> None:
        self._answers[text].set_exception(JudgeFailed("error"))


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def metrics() -> ModerationMetrics:
    return ModerationMetrics()


@pytest.fixture
def judge(engine: Engine, metrics: ModerationMetrics, monkeypatch: pytest.MonkeyPatch) -> Judge:
    config = Tier3(
        upstream=AnyHttpUrl("http://127.0.0.1:1"),
        model="tiny",
        concurrency=2,
        queue=2,
        characters=10,
        timeout_seconds=30,
    )
    judge = Judge(config, metrics)
    monkeypatch.setattr(judge, "_ask", engine.ask)
    return judge


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def gauges(metrics: ModerationMetrics) -> tuple[float | None, float | None]:
    get: Callable[[str], float | None] = metrics.registry.get_sample_value
    return get("moderation_judge_in_flight"), get("moderation_judge_waiting")


async def reason(judgement: Awaitable[Judgement]) -> str:
    with pytest.raises(JudgeFailed) as caught:
        await judgement
    return caught.value.reason


async def test_so_many_are_asked_at_a_time_and_the_rest_waits_in_order(
    judge: Judge, engine: Engine, metrics: ModerationMetrics
) -> None:
    tasks = {text: asyncio.create_task(judge.judge(text)) for text in "abcd"}
    await settle()
    assert engine.asked == ["a", "b"]
    assert gauges(metrics) == (2, 2)
    for number, text in enumerate("abcd"):
        engine.answer(text)
        await settle()
        assert engine.asked == list("abcd")[: number + 3]
    assert {task.result().score for task in tasks.values()} == {0.5}
    assert gauges(metrics) == (0, 0)


async def test_who_finds_the_wait_queue_full_is_turned_away_at_once(judge: Judge, engine: Engine) -> None:
    tasks = [asyncio.create_task(judge.judge(text)) for text in "abcd"]
    await settle()
    assert await reason(judge.judge("e")) == "full"
    for text in "abcd":
        engine.answer(text)
        await settle()
    await asyncio.gather(*tasks)
    assert "e" not in engine.asked


async def test_a_failure_and_a_caller_who_leaves_free_their_places(
    judge: Judge, engine: Engine, metrics: ModerationMetrics
) -> None:
    failing, leaving, waiting = (asyncio.create_task(judge.judge(text)) for text in "abc")
    await settle()
    engine.fail("a")
    leaving.cancel()
    assert await reason(failing) == "error"
    await settle()
    assert leaving.cancelled()
    engine.answer("c")
    assert (await waiting).tokens == 1
    assert gauges(metrics) == (0, 0)


async def test_who_leaves_while_waiting_is_not_asked_about(
    judge: Judge, engine: Engine, metrics: ModerationMetrics
) -> None:
    tasks = [asyncio.create_task(judge.judge(text)) for text in "abc"]
    await settle()
    tasks[2].cancel()
    await settle()
    assert gauges(metrics) == (2, 0)
    engine.answer("a")
    engine.answer("b")
    await asyncio.gather(*tasks[:2])
    assert engine.asked == ["a", "b"]


async def test_a_text_over_the_limit_is_not_sent(judge: Judge, engine: Engine) -> None:
    assert await reason(judge.judge("x" * 11)) == "too_long"
    assert engine.asked == []
