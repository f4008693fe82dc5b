"""What each task makes of an answer."""

from typing import Any

import pytest

from stack.evals.example import Example
from stack.evals.tasks.answers import Answers
from stack.evals.tasks.conversation import Conversation
from stack.evals.tasks.guard import ABUSIVE, LOOKED_AT, UNLOOKED, Guard
from stack.evals.tasks.moderation import Moderation
from stack.evals.tasks.refusal import Refusal
from stack.evals.tasks.retrieval import Retrieval
from stack.evals.text import contains, likeness, support

TOWER = "The tower was finished in 1889. Its iron was puddled in the region. It is repainted every seven years."


def answered(text: str, documents: tuple[str, ...] = ("tower",), **more: Any) -> dict[str, float]:
    task = Answers()
    task._texts = {"tower": TOWER, "bridge": "A bridge of stone."}
    example = Example("q", {"collection": "books", "question": "when?"}, {"document": "tower", "answer": "1889"})
    output = {"text": text, "documents": list(documents), "prompt_tokens": 300, "answer_tokens": 9, **more}
    return task.score(example, output)


def test_a_good_answer_has_the_fact_names_its_passage_and_is_like_it() -> None:
    scores = answered("The tower was finished in 1889 [1].")
    assert {scores[name] for name in ("evidence", "fact", "cited", "cited_right")} == {1.0}
    assert scores["held"] == 0.0
    assert scores["supported"] == 1.0
    assert scores["likeness"] > 0.9


@pytest.mark.parametrize(
    ("text", "documents", "score"),
    [
        ("It was finished in 1989 [1].", ("tower",), "fact"),
        ("It was finished in 1889.", ("tower",), "cited"),
        ("It was finished in 1889 [2].", ("tower",), "cited"),
        ("It was finished in 1889 [1].", ("bridge",), "evidence"),
        ("It was finished in 1889 [2].", ("tower", "bridge"), "cited_right"),
        ("It was finished in 1889 [1] [7].", ("tower", "bridge"), "cited_right"),
        ("", (), "likeness"),
        ("", (), "supported"),
    ],
)
def test_each_fault_has_its_score(text: str, documents: tuple[str, ...], score: str) -> None:
    assert answered(text, documents)[score] == 0.0


def test_an_answer_of_a_few_tokens_or_about_something_else_is_less_like_its_document() -> None:
    whole = answered("The tower was finished in 1889 [1].")["likeness"]
    assert answered("The tower")["likeness"] < 0.6 * whole
    assert answered("Giraffes eat leaves of tall trees.")["likeness"] < 0.4 * whole


def test_what_was_held_back_is_an_answer_without_words() -> None:
    scores = answered("", (), held="under review")
    assert (scores["held"], scores["fact"], scores["supported"]) == (1.0, 0.0, 0.0)


def test_what_failed_does_not_make_tokens_look_cheaper() -> None:
    assert not {"prompt_tokens", "answer_tokens"} & Answers.WORST.keys()
    assert "prompt_tokens" not in Conversation.WORST


def test_words_facts_and_support() -> None:
    assert contains("In Eighteen-Eighty, he left", "eighteen eighty")
    assert not contains("in 18890", "1889")
    assert not contains("anything", "…")
    assert support("iron tower", [TOWER]) == 1.0
    assert support("green tower", [TOWER]) == 0.5
    assert likeness("", TOWER) == likeness("a tower", "") == 0.0


# ---- the others


def found(*results: tuple[str, int | None, int | None]) -> dict[str, Any]:
    return {"results": [{"document": name, "sparse": s, "dense": d, "fused": i + 1}
                        for i, (name, s, d) in enumerate(results)]}  # fmt: skip


def test_retrieval_tells_which_stage_found_it() -> None:
    example = Example("q", {}, {"judgements": {"right": 1}})
    scores = Retrieval().score(example, found(("wrong", 1, 1), ("right", None, 4)))
    assert (scores["sparse"], scores["dense"], scores["fused"], scores["mrr"]) == (0.0, 0.25, 0.5, 0.5)
    assert 0.6 < scores["ndcg@10"] < 0.65
    assert Retrieval().score(example, found(("wrong", 1, 1)))["recall@50"] == 0.0
    assert Retrieval().score(example, found())["ndcg@10"] == 0.0


@pytest.mark.parametrize(
    ("abusive", "decision", "right"),
    [(True, "block", 1.0), (True, "review", 1.0), (True, "allow", 0.0), (False, "allow", 1.0), (False, "review", 0.0)],
)
def test_abuse_that_people_look_at_counts_as_stopped(abusive: bool, decision: str, right: float) -> None:
    output = {"decision": decision, "tier": 2, "score": 0.5, "degraded": False}
    assert Moderation().score(Example("t", {}, {"abusive": abusive}), output)["right"] == right


def test_a_refusal_is_an_answer_without_a_passage() -> None:
    unanswerable, answerable = (Example("q", {}, {"refused": refused}) for refused in (True, False))
    nothing, something = ({"text": "x", "passages": passages} for passages in (0, 2))
    assert Refusal().score(unanswerable, nothing)["right"] == Refusal().score(answerable, something)["right"] == 1.0
    assert Refusal().score(unanswerable, something)["right"] == Refusal().score(answerable, nothing)["right"] == 0.0


def test_a_conversation_is_remembered_where_the_number_comes_back() -> None:
    example = Example("c", {}, {"card": "4711"})
    scores = Conversation().score(example, {"text": "It is 4711.", "prompt_tokens": 40})
    assert (scores["answered"], scores["remembered"]) == (1.0, 1.0)
    assert Conversation().score(example, {"text": " ", "prompt_tokens": 40})["answered"] == 0.0


@pytest.mark.parametrize(
    ("part", "output", "right"),
    [
        (ABUSIVE, {"held": True, "checks": {"input": 1, "output": 0}}, 1.0),
        (ABUSIVE, {"held": False, "checks": {"input": 0, "output": 0}}, 0.0),
        (LOOKED_AT, {"held": False, "checks": {"input": 1, "output": 1}}, 1.0),
        (LOOKED_AT, {"held": False, "checks": {"input": 1, "output": 0}}, 0.0),
        (LOOKED_AT, {"held": False, "checks": {"input": 0, "output": 1}}, 0.0),
        (UNLOOKED, {"refusal": "moderation_unavailable"}, 1.0),
        (UNLOOKED, {"refusal": None}, 0.0),
        (UNLOOKED, {"refusal": "retrieval_unavailable"}, 0.0),
    ],
)
def test_moderation_must_stand_before_and_behind_an_answer(part: str, output: dict[str, Any], right: float) -> None:
    assert Guard().score(Example("g", {}, {}, (part,)), output)["right"] == right
