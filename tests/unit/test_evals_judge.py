"""The judging model: both orders, a closed form, and how far it can be trusted."""

import json

import numpy as np
import pytest
from local_http import Asked, answering

from stack.evals.judge import Pair, at_equal_length, compare, kappa
from stack.evals.stack_client import Addresses, Failed, JudgeEndpoint, Stack

PAIR = Pair("Who wrote it?", "Ana Silva wrote the book.", "Ana Silva.", "Nobody knows who wrote the long book.")


def judge(choose):
    """An endpoint whose verdict is `choose(answer A, answer B)`."""

    def respond(asked: Asked) -> tuple[int, object]:
        body = asked.json
        assert body["response_format"]["json_schema"]["schema"]["properties"]["better"]["enum"] == ["A", "B"]
        told = body["messages"][1]["content"]
        a, b = told.split("Answer A: ")[1].split("\n\nAnswer B: ")
        content = choose(a, b.split("\n\nWhich")[0])
        return 200, {"choices": [{"message": {"content": content}}]}

    return answering(respond)


def says(letter: str) -> str:
    return json.dumps({"better": letter})


async def verdict(choose, pair: Pair = PAIR, attempts: int = 3):
    with judge(choose) as local:
        async with Stack(Addresses("http://127.0.0.1:1", "key", judge=JudgeEndpoint(local.url))) as stack:
            return await compare(stack, pair, attempts), len(local.asked)


async def test_a_preference_that_does_not_depend_on_the_order_counts() -> None:
    found, calls = await verdict(lambda a, b: says("A" if a.startswith("Ana") else "B"))
    assert (found.choice, calls) == ("first", 2)
    found, _ = await verdict(lambda a, b: says("B" if a.startswith("Ana") else "A"))
    assert found.choice == "second"


async def test_a_preference_for_a_place_is_a_tie() -> None:
    found, _ = await verdict(lambda a, b: says("A"))
    assert found.choice == "tie"


async def test_equal_answers_are_a_tie_without_a_call() -> None:
    found, calls = await verdict(lambda a, b: says("A"), Pair("q", "e", "same", "same "))
    assert (found.choice, calls) == ("tie", 0)


async def test_an_answer_that_is_no_verdict_is_asked_again() -> None:
    answers = iter(["the first one", says("A"), says("C"), says("B")])
    found, calls = await verdict(lambda a, b: next(answers))
    assert (found.choice, found.failures, calls) == ("first", 2, 4)


async def test_a_judge_that_gives_no_verdict_fails_and_never_passes_silently() -> None:
    with pytest.raises(Failed, match="no verdict of the judge in 3 calls; the last: not a verdict"):
        await verdict(lambda a, b: "both are fine")


async def test_a_judge_that_is_down_is_told() -> None:
    async with Stack(Addresses("http://127.0.0.1:1", "key", judge=JudgeEndpoint("http://127.0.0.1:1"))) as stack:
        with pytest.raises(Failed, match="ConnectError"):
            await compare(stack, PAIR, 2)


def test_kappa_is_agreement_beyond_chance() -> None:
    known = ["first", "second"] * 20
    assert kappa(known, known) == 1
    assert kappa(["first"] * 40, known) == pytest.approx(0)
    assert kappa(["second", "first"] * 20, known) == pytest.approx(-1)
    assert np.isnan(kappa([], []))


def test_a_judge_that_likes_length_has_no_preference_at_equal_length() -> None:
    rng = np.random.default_rng(4)
    longer = rng.normal(40, 60, 400)
    wins = (longer + rng.normal(0, 10, 400) > 0).astype(float)
    assert wins.mean() > 0.7
    assert at_equal_length(wins, longer) == pytest.approx(0.5, abs=0.1)
    fair = (rng.uniform(0, 1, 400) < 0.8).astype(float)
    assert at_equal_length(fair, longer) == pytest.approx(0.8, abs=0.06)
    assert at_equal_length(np.full(10, 0.5), np.zeros(10)) == 0.5
