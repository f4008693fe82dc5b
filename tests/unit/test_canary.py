"""Canaries against a server that answers rightly, wrongly, or not at all; and the references on disk."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from local_http import Asked, answering

from stack.llm import serve
from stack.llm.canary import ANSWER_TOKENS, Canary, Mismatch, ask_all, load_references
from stack.llm.config import LLMConfig
from stack.settings import parse
from stack.telemetry.metrics import CanaryMetrics

REFERENCES = load_references()
Answer = tuple[int, Any]


def completion(prompt_tokens: int, token_ids: Any) -> Answer:
    return 200, {"choices": [{"token_ids": token_ids}], "usage": {"prompt_tokens": prompt_tokens}}


def by_prompt(asked: Asked) -> Canary:
    return next(canary for canary in REFERENCES if list(canary.messages) == asked.json["messages"])


def right(asked: Asked) -> Answer:
    canary = by_prompt(asked)
    return completion(canary.prompt_tokens, list(canary.answer))


def mismatches(respond: Callable[[Asked], Answer], canaries: list[Canary] = REFERENCES) -> list[Mismatch]:
    with answering(respond) as engine:
        return asyncio.run(ask_all(engine.url, "tiny", canaries, timeout_seconds=5))


# ── asking ──


def test_an_engine_that_answers_as_the_reference_has_no_mismatch():
    assert mismatches(right) == []


def test_canaries_are_asked_greedily_one_by_one_for_their_tokens():
    """Bug: with sampling, or with text compared instead of tokens, a wrong engine is right now and then."""
    with answering(right) as engine:
        asyncio.run(ask_all(engine.url, "tiny", REFERENCES))
    bodies = [asked.json for asked in engine.asked]
    assert [body["messages"] for body in bodies] == [list(canary.messages) for canary in REFERENCES]
    assert {asked.path for asked in engine.asked} == {"/v1/chat/completions"}
    for body in bodies:
        assert (body["model"], body["temperature"], body["return_token_ids"]) == ("tiny", 0.0, True)
        assert body["max_tokens"] == ANSWER_TOKENS


def test_one_wrong_token_at_one_length_is_found():
    """Bug: a compiled kernel that is right for short prompts and wrong for long ones passes a single question."""
    victim = REFERENCES[6]

    def respond(asked: Asked) -> Answer:
        canary = by_prompt(asked)
        answer = list(canary.answer)
        if canary == victim:
            answer[-1] += 1
        return completion(canary.prompt_tokens, answer)

    (found,) = mismatches(respond)
    assert (found.prompt_tokens, found.expected) == (victim.prompt_tokens, victim.answer)
    assert found.got == (*victim.answer[:-1], victim.answer[-1] + 1)
    assert found.reason == "other tokens than the reference"


def test_an_answer_that_ends_early_is_a_mismatch():
    def respond(asked: Asked) -> Answer:
        canary = by_prompt(asked)
        return completion(canary.prompt_tokens, list(canary.answer[:3]))

    assert len(mismatches(respond)) == len(REFERENCES)


def test_the_right_answer_to_a_prompt_of_another_length_is_a_mismatch():
    """Bug: another chat template or tokenizer can hit an easy answer all the same."""

    def respond(asked: Asked) -> Answer:
        canary = by_prompt(asked)
        return completion(canary.prompt_tokens + 2, list(canary.answer))

    found = mismatches(respond)
    assert len(found) == len(REFERENCES)
    assert found[0].reason == f"the prompt became {REFERENCES[0].prompt_tokens + 2} tokens"


@pytest.mark.parametrize(
    "answer",
    [
        (500, {"error": {"message": "out of memory"}}),
        (404, {"error": {"message": "no such model"}}),
        (200, b"no json"),
        (200, {}),
        (200, []),
        (200, {"choices": []}),
        (200, {"choices": [{}], "usage": {"prompt_tokens": 21}}),
        (200, {"choices": [{"token_ids": None}], "usage": {"prompt_tokens": 21}}),
        (200, {"choices": [{"token_ids": [1]}], "usage": None}),
    ],
)
def test_whatever_is_no_answer_is_a_mismatch_and_no_crash(answer):
    (found,) = mismatches(lambda asked: answer, REFERENCES[:1])
    assert found.got is None
    assert found.reason.startswith("no answer: ")


def test_an_engine_that_is_gone_is_a_mismatch_for_each_canary():
    with answering(right) as engine:
        pass
    found = asyncio.run(ask_all(engine.url, "tiny", REFERENCES[:2], timeout_seconds=5))
    assert [mismatch.got for mismatch in found] == [None, None]


def test_canaries_never_go_through_a_proxy(monkeypatch):
    """Bug: where http_proxy is set, the engine on this machine is asked through it and counts as wrong."""
    with answering(lambda asked: (502, {})) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert mismatches(right) == []


@pytest.mark.parametrize("text", ["no json", "{}", '{"canaries": [{}]}', "[]", '{"canaries": 1}'])
def test_a_file_without_canaries_is_one_kind_of_error(tmp_path, text):
    path = tmp_path / "canaries.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"."):
        load_references(path)


# ── judging ──


def judged(respond: Callable[[Asked], Answer], max_model_len: int) -> tuple[str | None, int, float]:
    """What the launcher says, how many canaries it asked, how many mismatches it counted."""
    text = f"model: {{path: w, served_name: tiny}}\nengine: {{max_model_len: {max_model_len}}}\n"
    metrics = CanaryMetrics()
    with answering(respond) as engine:
        reason = serve.judge(parse(text, LLMConfig, "llm.yaml"), engine.url, load_references(), metrics)
    return reason, len(engine.asked), metrics.mismatches._value.get()


def test_only_prompts_that_fit_the_engines_context_are_asked():
    """Bug: a learner who shortens the context would be told that the engine answers wrongly."""
    reason, asked, _ = judged(right, max_model_len=256)
    fitting = [canary for canary in REFERENCES if canary.prompt_tokens + ANSWER_TOKENS <= 256]
    assert reason is None
    assert asked == len(fitting) >= 5


def test_a_wrong_engine_is_refused_with_the_number_of_wrong_answers():
    wrong = completion(1, [0])
    reason, asked, counted = judged(lambda asked: wrong, max_model_len=4096)
    assert asked == counted == len(REFERENCES)
    assert reason == (
        f"{len(REFERENCES)} of {len(REFERENCES)} canary prompts were not answered as the reference model answers them"
    )


# ── the references on disk ──


def test_references_cover_prompts_of_every_length_that_was_ever_answered_wrongly():
    """Both sides of each block size, and the length where compiled kernels change."""
    lengths = [canary.prompt_tokens for canary in REFERENCES]
    assert lengths == sorted(lengths)
    assert lengths[0] <= 32
    assert 960 <= lengths[-1] <= 1024
    for boundary in (32, 64, 128, 256, 512):
        assert any(boundary / 2 <= length < boundary for length in lengths)
        assert any(boundary <= length < boundary * 2 for length in lengths)


def test_references_have_whole_answers_and_no_answer_is_right_for_most_prompts():
    """Bug: an engine that gives one answer to everything would be right."""
    assert all(len(canary.answer) == ANSWER_TOKENS for canary in REFERENCES)
    answers = Counter(canary.answer for canary in REFERENCES)
    assert max(answers.values()) <= len(REFERENCES) / 3
    assert len({str(canary.messages) for canary in REFERENCES}) == len(REFERENCES)


def test_references_leave_the_system_message_empty():
    """Bug: without one, the chat template writes a default of its own, and that is the template's to change."""
    assert all(canary.messages[0] == {"role": "system", "content": ""} for canary in REFERENCES)


@pytest.mark.parametrize("content", ["", "{}", '{"canaries": [{}]}'])
def test_references_that_cannot_be_read_are_an_error(tmp_path, content):
    path = tmp_path / "canaries.json"
    path.write_text(content)
    with pytest.raises((ValueError, KeyError)):
        load_references(path)
