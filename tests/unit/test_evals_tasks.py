"""What each task makes of an answer."""

import json
from collections import Counter
from typing import Any

import pytest
from local_http import answering

from stack.evals import run as suites_run
from stack.evals.example import Example
from stack.evals.spellings import UNTAUGHT
from stack.evals.stack_client import Addresses, Stack
from stack.evals.suite import load_suites
from stack.evals.tasks import task_of
from stack.evals.tasks.answers import STREAMED as STREAM
from stack.evals.tasks.answers import WHOLE, Answers
from stack.evals.tasks.conversation import DESK, LONG, RENDERED, Conversation
from stack.evals.tasks.guard import ABUSIVE, LATE, LOOKED_AT, STOPPED, STOPPED_STREAM, STREAMED, UNLOOKED, Guard
from stack.evals.tasks.moderation import DANGER, Moderation, dangers
from stack.evals.tasks.refusal import Refusal
from stack.evals.tasks.retrieval import AS_USERS, LATER_PARTS, QUESTIONS, Retrieval
from stack.evals.text import contains, likeness, support
from stack.moderation.categories import CATEGORIES
from stack.moderation.normalise import Vocabulary, normalise
from stack.moderation.patterns import PATTERNS, Pattern

MODERATED = {
    "decision": "block",
    "tier": 2,
    "score": 0.5,
    "degraded": False,
    "flagged": True,
    "judged": False,
    "categories": {},
}
TOWER = "The tower was finished in 1889. Its iron was puddled in the region. It is repainted every seven years."


def answered(text: str, documents: tuple[str, ...] = ("tower",), **more: Any) -> dict[str, float]:
    task = Answers()
    task._texts = {"tower": TOWER, "bridge": "A bridge of stone."}
    example = Example("q", {"collection": "books", "question": "when?"}, {"document": "tower", "answer": "1889"})
    citations = [[number, document] for number, document in enumerate(documents, start=1)]
    output = {"text": text, "citations": citations, "prompt_tokens": 300, "answer_tokens": 9, "finish": "stop"}
    output |= more
    return task.score(example, output)


def test_a_good_answer_has_the_fact_names_its_passage_and_is_like_it() -> None:
    scores = answered("The tower was finished in 1889 [1].")
    assert {scores[name] for name in ("evidence", "fact", "cited", "cited_right")} == {1.0}
    assert (scores["held"], scores["complete"]) == (0.0, 1.0)
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


async def test_an_answer_is_the_same_whole_and_as_a_stream() -> None:
    usage = {"prompt_tokens": 300, "completion_tokens": 9}
    citations = [{"number": 1, "document": "tower", "chunk": "c", "title": "Tower"}]
    message = {"content": "In 1889 [1]."}
    whole = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage, "citations": citations}
    events = [
        {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}], "citations": citations},
        {"choices": [{"delta": {"content": "In 1889"}, "finish_reason": None}]},
        {"choices": [{"delta": {"content": " [1]."}, "finish_reason": None}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage},
    ]
    stream = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + b"data: [DONE]\n\n"
    with answering(lambda asked: (200, stream if asked.json.get("stream") else whole)) as local:
        async with Stack(Addresses(local.url, "key")) as stack:
            ask = {"collection": "books", "question": "when?"}
            found = [await Answers().ask(Example("q", ask, {}, ("books", way)), stack) for way in (WHOLE, STREAM)]
    assert found[0] == found[1]
    assert found[0]["citations"] == [[1, "tower"]]
    assert (found[0]["text"], found[0]["prompt_tokens"], found[0]["answer_tokens"]) == ("In 1889 [1].", 300, 9)


@pytest.mark.parametrize(
    ("text", "finish", "complete"),
    [
        ("It was finished in 1889.", "stop", 1),
        ("In 1889 [1]", "stop", 1),
        ('It is called "iron"', "stop", 1),
        ("It was finished in 1889.", "length", 0),
        ("It was finished by G", "stop", 0),  # a stop word ended it
    ],
)
def test_an_answer_that_was_cut_off_is_not_complete(text: str, finish: str, complete: int) -> None:
    assert answered(text, finish=finish)["complete"] == complete


def test_a_citation_counts_by_the_number_that_it_is_shown_with() -> None:
    scores = answered("In 1889 [1].", citations=[[0, "tower"], [1, "bridge"]])
    assert (scores["cited"], scores["cited_right"]) == (1.0, 0.0)


def test_of_an_answer_that_is_yes_or_no_no_words_are_looked_for() -> None:
    task = Answers()
    task._texts = {"tower": TOWER}
    example = Example("q", {}, {"document": "tower", "answer": None})
    output = {"text": "Yes [1].", "citations": [[1, "tower"]], "prompt_tokens": 3, "answer_tokens": 9, "finish": "stop"}
    scores = task.score(example, output)
    assert "fact" not in scores
    assert (scores["evidence"], scores["cited_right"]) == (1.0, 1.0)


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


def found(*results: tuple[str, int | None, int | None], evidence: bool = True) -> dict[str, Any]:
    places = [{"document": name, "sparse": s, "dense": d, "fused": i + 1} for i, (name, s, d) in enumerate(results)]
    return {"results": places, "evidence": evidence}


def searched(slice_: str, output: dict[str, Any]) -> dict[str, float]:
    return Retrieval().score(Example("q", {}, {"judgements": {"right": 1}}, (slice_, "books")), output)


def test_retrieval_tells_which_stage_found_it() -> None:
    scores = searched(QUESTIONS, found(("wrong", 1, 1), ("right", None, 4)))
    assert (scores["sparse"], scores["dense"], scores["fused"], scores["found"]) == (0.0, 0.25, 0.5, 1.0)
    assert 0.6 < scores["ndcg@10"] < 0.65
    assert searched(QUESTIONS, found(("wrong", 1, 1)))["recall@50"] == 0.0
    assert searched(QUESTIONS, found())["ndcg@10"] == 0.0
    assert searched(QUESTIONS, found(("right", 1, 1), evidence=False))["found"] == 0.0


@pytest.mark.parametrize(("fused", "looked"), [([2, 1, 3], 1.0), ([1, 2, 3], 0.0), ([], 0.0)])
def test_a_reranker_that_looked_leaves_another_order(fused: list[int], looked: float) -> None:
    output = {
        "results": [{"document": "d", "sparse": 1, "dense": 1, "fused": rank} for rank in fused],
        "evidence": True,
    }
    assert searched(QUESTIONS, output)["second look"] == looked


@pytest.mark.parametrize(
    ("documents", "shown"), [(["right"], 1.0), (["wrong", "wrong", "right"], 1 / 3), (["wrong"], 0.0), ([], 0.0)]
)
def test_what_users_are_shown_counts_by_its_place(documents: list[str], shown: float) -> None:
    scores = searched(AS_USERS, {"results": [{"document": one, "title": "", "text": ""} for one in documents]})
    assert scores["shown"] == pytest.approx(shown)


@pytest.mark.parametrize(
    ("title", "text", "quoted"),
    [
        ("Tower", "Its  iron was\npuddled", 1),
        ("Tower", "Its iron was molten", 0),
        ("Bridge", "Its iron was puddled", 0),
        ("Tower", "", 0),
    ],
)
def test_what_users_read_stands_in_the_document_that_is_named(title: str, text: str, quoted: int) -> None:
    task = Retrieval()
    task._documents = {"tower": ("Tower", TOWER)}
    result = {"document": "tower", "title": title, "text": text}
    scores = task.score(Example("q", {}, {"judgements": {"tower": 1}}, (AS_USERS, "books")), {"results": [result]})
    assert (scores["quoted"], scores["characters"]) == (quoted, len(text))


@pytest.mark.parametrize(
    ("got", "whole"),
    [(["rules", "a", "b", "c"], 1), (["a", "b", "c"], 0), (["rules", "b", "c"], 0), (["rules", "b", "a", "c"], 0)],
)
def test_a_conversation_reaches_the_engine_whole_and_in_order(got: list[str], whole: int) -> None:
    sent = [{"role": "user", "content": one} for one in "abc"]
    messages = [{"role": "user", "content": one} for one in got]
    output = {"messages": messages, "of_another": messages}
    assert Conversation().score(Example("r", {"messages": sent}, {}, (RENDERED,)), output)["whole"] == whole


@pytest.mark.parametrize(("here", "there", "shared"), [
    ("the rules", "the rules", len("system\nthe rules\nuser\n")),
    ("ticket 1: the rules", "ticket 2: the rules", len("system\nticket ")),
    ("17, the rules", "18, the rules", len("system\n1")),
])  # fmt: skip
def test_what_conversations_have_in_common_is_their_beginning(here: str, there: str, shared: int) -> None:
    """A line that differs for each request, before the rules: no prefix cache finds anything behind it."""

    def messages(rules: str, question: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": rules}, {"role": "user", "content": question}]

    output = {"messages": messages(here, "why?"), "of_another": messages(there, "how?")}
    example = Example("r", {"messages": output["messages"][1:]}, {}, (RENDERED,))
    assert Conversation().score(example, output) == {"whole": 1, "shared": shared}


@pytest.mark.parametrize(("text", "answered"), [("Yes, it is.", 1), (" ", 0)])
def test_of_a_long_conversation_it_counts_that_it_is_answered(text: str, answered: int) -> None:
    example = Example("l", {"messages": []}, {"told": "4711"}, (LONG,))
    assert Conversation().score(example, {"text": text}) == {"long": answered}


def test_later_parts_of_documents_are_looked_for() -> None:
    assert searched(LATER_PARTS, found(("right", 1, 1))) == {"ndcg@10": 1.0}


@pytest.mark.parametrize(
    ("abusive", "decision", "right"),
    [(True, "block", 1.0), (True, "review", 1.0), (True, "allow", 0.0), (False, "allow", 1.0), (False, "review", 0.0)],
)
def test_abuse_that_people_look_at_counts_as_stopped(abusive: bool, decision: str, right: float) -> None:
    output = MODERATED | {"decision": decision}
    assert Moderation().score(Example("t", {}, {"abusive": abusive}), output)["right"] == right


@pytest.mark.parametrize(("tier", "reviewed"), [(2, 0), (3, 0), ("review", 1)])
def test_what_a_model_decides_is_no_review(tier: int | str, reviewed: int) -> None:
    output = MODERATED | {"tier": tier, "categories": {"harassment": 0.7}}
    scores = Moderation().score(Example("t", {}, {"abusive": True}), output)
    assert (scores["reviewed"], scores["harassment"]) == (reviewed, 1)


@pytest.mark.parametrize("judged", [True, False])
def test_whether_the_language_model_had_its_say(judged: bool) -> None:
    scores = Moderation().score(Example("t", {}, {"abusive": True}), MODERATED | {"tier": "review", "judged": judged})
    assert (scores["reviewed"], scores["judged"]) == (1.0, judged)


@pytest.mark.parametrize("category", ["self-harm/intent", "illicit"])
def test_danger_is_stopped_for_what_it_is(category: str) -> None:
    example = Example("t", {}, {"category": category}, (DANGER,))
    found = MODERATED | {"tier": 1, "categories": {"self-harm/intent": 0.7}}
    assert Moderation().score(example, found) == {"named": float(category == "self-harm/intent"), "reviewed": 0.0}
    assert Moderation().score(example, found | {"decision": "allow"})["named"] == 0.0
    assert Moderation().score(example, found | {"tier": "review"})["reviewed"] == 1.0


@pytest.mark.parametrize(
    ("decision", "flagged", "right"),
    [("block", True, 1), ("review", True, 1), ("review", False, 0), ("allow", False, 1), ("allow", True, 0)],
)
def test_what_callers_read_says_the_same_as_the_decision(decision: str, flagged: bool, right: int) -> None:
    output = MODERATED | {"decision": decision, "flagged": flagged, "categories": {"hate": 0.7} if flagged else {}}
    assert Moderation().score(Example("t", {}, {"abusive": True}), output)["flagged"] == right


def test_every_text_of_danger_is_another_one_of_a_category_that_there_is() -> None:
    made = list(dangers())
    assert {one.expected["category"] for one in made} <= set(CATEGORIES)
    assert len({one.ask["text"] for one in made}) == len({one.id for one in made}) == len(made)
    assert min(Counter(one.expected["category"] for one in made).values()) >= 5, "fewer that are lost may be chance"


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_a_pattern_that_is_gone_is_seen(pattern: Pattern) -> None:
    texts = [one.ask["text"] for one in dangers() if one.expected["category"] == pattern.category]
    others = [other for other in PATTERNS if other is not pattern and other.category == pattern.category]
    own = [text for text in texts if pattern.regex.search(text) and not any(one.regex.search(text) for one in others)]
    assert len(own) >= 5


@pytest.mark.parametrize("family", UNTAUGHT)
def test_what_was_hidden_in_another_way_is_what_the_lists_look_for_after_normalisation(family: str) -> None:
    hidden = UNTAUGHT[family]("You rotten scoundrel, go")
    assert "scoundrel" not in hidden
    assert "scoundrel" in normalise(hidden, vocabulary=Vocabulary(["scoundrel"])).text
    assert "scoundrel" not in normalise(hidden, ("nfkc", "format", "confusables"), Vocabulary(["scoundrel"])).text


@pytest.mark.parametrize(("text", "told"), [("I found nothing about this.", 1), ("We don't know.", 1), ("TODO", 0)])
def test_a_refusal_says_that_there_is_nothing(text: str, told: int) -> None:
    example = Example("q", {})
    assert Refusal().score(example, {"refused": True, "text": text}) == {"right": 1.0, "told": told}
    assert Refusal().score(example, {"refused": False, "text": text}) == {"right": 0.0}
    assert Refusal().score(example, {"refused": True, "held": True}) == {"right": 0.0}


@pytest.mark.parametrize(
    ("status", "body", "output"),
    [
        (200, {"citations": [], "choices": [{"message": {"content": "No."}}]}, {"refused": True, "text": "No."}),
        (200, {"citations": [{}], "choices": [{"message": {"content": "I"}}]}, {"refused": False, "text": "I"}),
        (403, {"error": {"code": "under_review", "message": "held"}}, {"refused": True, "held": True}),
    ],
)
async def test_what_cannot_be_known_is_asked(status: int, body: dict[str, Any], output: dict[str, Any]) -> None:
    with answering(lambda _: (status, body)) as local:
        async with Stack(Addresses(local.url, "key")) as stack:
            assert await Refusal().ask(Example("q", {"collection": "books", "question": "why?"}), stack) == output


def test_a_conversation_is_remembered_where_the_number_comes_back() -> None:
    example = Example("c", {}, {"told": "4711"})
    scores = Conversation().score(example, {"text": "It is 4711.", "prompt_tokens": 40, "answer_tokens": 5})
    assert (scores["answered"], scores["remembered"]) == (1.0, 1.0)
    assert Conversation().score(example, {"text": " ", "prompt_tokens": 40, "answer_tokens": 1})["answered"] == 0.0


@pytest.mark.parametrize(
    ("text", "form"), [("Yes, it is.", 1), ("**No**: a whale", 1), ("Yesterday", 0), ("It is. Yes", 0), ("Oui.", 0)]
)
def test_the_reading_desk_begins_with_yes_or_no(text: str, form: int) -> None:
    scores = Conversation().score(Example("d", {}, {}, (DESK,)), {"text": text, "first_words": 0.2, "finish": "stop"})
    assert scores == {"answered": 1.0, "form": form, "words": len(text.split()), "first_words": 0.2}


def test_what_a_task_promises_is_what_it_gives() -> None:
    for one in load_suites():
        assert task_of(one).WORST.keys() <= task_of(one).SCORES, one.name
    suites_run.check(load_suites())


@pytest.mark.parametrize(
    ("part", "output", "right"),
    [
        (ABUSIVE, {"held": True, "checks": {"input": 1, "output": 0}}, 1.0),
        (ABUSIVE, {"held": False, "checks": {"input": 0, "output": 0}}, 0.0),
        (LOOKED_AT, {"held": False, "checks": {"input": 1, "output": 1}}, 1.0),
        (LOOKED_AT, {"held": False, "checks": {"input": 1, "output": 0}}, 0.0),
        (LOOKED_AT, {"held": False, "checks": {"input": 0, "output": 1}}, 0.0),
        (STREAMED, {"held": False, "checks": {"input": 1, "output": 3}}, 1.0),
        (STREAMED, {"held": False, "checks": {"input": 1, "output": 0}}, 0.0),
        (LATE, {"held": True, "checks": {"input": 1, "output": 0}}, 1.0),
        (LATE, {"held": False, "checks": {"input": 1, "output": 1}}, 0.0),
        (STOPPED, {"held": True, "checks": {"input": 0, "output": 0}}, 1.0),
        (STOPPED, {"held": False, "checks": {"input": 0, "output": 0}}, 0.0),
        (STOPPED_STREAM, {"held": False, "checks": {"input": 0, "output": 0}}, 0.0),
        (UNLOOKED, {"refusal": "moderation_unavailable"}, 1.0),
        (UNLOOKED, {"refusal": None}, 0.0),
        (UNLOOKED, {"refusal": "retrieval_unavailable"}, 0.0),
    ],
)
def test_moderation_must_stand_before_and_behind_an_answer(part: str, output: dict[str, Any], right: float) -> None:
    scores = Guard().score(Example("g", {}, {}, (part,)), output)
    assert scores.pop("right") == right
    assert scores == ({"looks": output["checks"]["output"]} if part == STREAMED else {})
