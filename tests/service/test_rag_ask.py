"""Questions over HTTP: the prompt that the engine gets, the answer with its citations, and what happens without one."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_engine import USAGE, FakeEngine
from gateway_process import assert_error, wait_until
from rag_process import BOARD_ONLY, RagProcess, StartRag, events
from starlette.requests import Request
from starlette.responses import Response

RIVERSIDE = {"x-tenant": "riverside"}

# ---- the prompt


def test_the_prompt_has_its_fixed_part_first_then_passages_then_the_question(
    rag: RagProcess, engine: FakeEngine
) -> None:
    assert rag.ask("what are the cats called").status_code == 200
    (body,) = engine.bodies
    system, user = body["messages"]
    assert system == {"role": "system", "content": "Answer from the passages, with their numbers."}
    assert user["content"].startswith("[1] House cats\nThe two cats of the reading room are called")
    assert user["content"].endswith("\n\nQuestion: what are the cats called")
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("tiny", 12, 0.0)
    assert body["stream_options"] == {"include_usage": True}


def test_the_request_can_be_followed_into_the_engine(rag: RagProcess, engine: FakeEngine) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"x_request_id": "ask-1", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    body = {"collection": "books", "question": "when does it open"}
    rag.send("POST", "/v1/ask", body, x_tenant="riverside", **headers)
    (sent,) = engine.requests
    assert sent.headers["x-request-id"] == "ask-1"
    assert sent.headers["traceparent"].split("-")[1] == trace
    assert rag.log_of("ask-1")["trace_id"] == trace


def test_citations_are_the_passages_in_the_prompt_and_no_others(rag: RagProcess, engine: FakeEngine) -> None:
    """Three passages are found; the budget of tokens has room for fewer in the next test, for all of them here."""
    answer = rag.ask("may I borrow books, and what do late ones cost").json()
    prompt = engine.bodies[0]["messages"][1]["content"]
    assert [citation["number"] for citation in answer["citations"]] == [1, 2, 3]
    for citation in answer["citations"]:
        assert f"[{citation['number']}] {citation['title']}\n" in prompt


def test_a_passage_that_has_no_room_is_neither_in_the_prompt_nor_cited(start_rag: StartRag, engine: FakeEngine) -> None:
    rag = start_rag(prompt={"context_tokens": 60})
    rag.write(*({"id": f"d{n}", "title": f"Part {n}", "text": f"Whale fact number {n}. " * 5, "tenant": "*"}
                for n in range(3)))  # fmt: skip
    rag.build("blue")
    answer = rag.ask("whale fact").json()
    assert len(answer["citations"]) == 1
    prompt = engine.bodies[0]["messages"][1]["content"]
    assert prompt.count("Part ") == 1
    assert rag.metric("rag_context_dropped_total", collection="books") == 2
    assert 0 < rag.metric("rag_context_tokens_sum", collection="books") <= 60


@pytest.mark.parametrize(("asked", "sent"), [({}, 12), ({"max_tokens": 5}, 5), ({"max_tokens": 15}, 12)])
def test_an_answer_is_never_longer_than_configured(
    rag: RagProcess, engine: FakeEngine, asked: dict[str, int], sent: int
) -> None:
    assert rag.ask("cats", **asked).status_code == 200
    assert engine.bodies[0]["max_tokens"] == sent


def test_nothing_that_the_caller_may_not_see_is_in_the_prompt(rag: RagProcess, engine: FakeEngine) -> None:
    rag.ask("how much does the board spend on shelves")
    rag.ask("how much does the board spend on shelves", groups="board")
    without, with_ = (body["messages"][1]["content"] for body in engine.bodies)
    assert BOARD_ONLY["text"] not in without
    assert BOARD_ONLY["text"] in with_


# ---- the answer


def test_an_answer_has_openais_shape(rag: RagProcess) -> None:
    answer = rag.ask("cats").json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "Yes, it is."}, "finish_reason": "stop"}
    ]
    assert answer["usage"] == USAGE
    assert answer["index"]["slot"] == "blue"


def test_a_stream_begins_with_the_citations_and_ends_with_the_usage(rag: RagProcess) -> None:
    response = rag.ask("cats", stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    first, *texts, last, done = events(response)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert first["citations"][0] == {**first["citations"][0], "number": 1, "document": "cats", "title": "House cats"}
    assert [text["choices"][0]["delta"]["content"] for text in texts] == ["Yes", ", it is."]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"] == USAGE
    assert done == "[DONE]"
    assert {one["object"] for one in (first, *texts, last)} == {"chat.completion.chunk"}
    assert len({one["id"] for one in (first, *texts, last)}) == 1


def test_text_arrives_while_the_engine_is_still_writing(rag: RagProcess, engine: FakeEngine) -> None:
    engine.behave = engine.says("Yes", ", it is.", gate_after=1)
    body = {"collection": "books", "question": "cats", "stream": True}
    with rag.client() as client, client.stream("POST", "/v1/ask", json=body, headers=RIVERSIDE) as answer:
        lines = answer.iter_lines()
        while '"Yes"' not in next(lines):
            pass
        engine.gate.set()
        assert any(", it is." in line for line in lines)


def test_citations_in_the_answer_are_counted_valid_or_not(rag: RagProcess, engine: FakeEngine) -> None:
    names = [("rag_citations_total", {"valid": "true"}), ("rag_citations_total", {"valid": "false"}),
             ("rag_cited_answers_total", {})]  # fmt: skip
    before = [rag.metric(name, **labels) for name, labels in names]
    engine.behave = engine.says("Comma [1", "] and Full Stop [1, 9].")
    rag.ask("cats")
    after = [rag.metric(name, **labels) for name, labels in names]
    assert [now - then for now, then in zip(after, before, strict=True)] == [2, 1, 1]


def test_tokens_and_times_of_answers_are_measured(rag: RagProcess) -> None:
    def values() -> list[float]:
        stages = ("prompt", "first_text", "answer")
        return [
            rag.metric("rag_answers_total", outcome="answered"),
            rag.metric("rag_tokens_total", direction="completion"),
            *(rag.metric("rag_stage_seconds_count", stage=stage) for stage in stages),
        ]

    before = values()
    rag.ask("cats", stream=True)
    assert [now - then for now, then in zip(values(), before, strict=True)] == [1, USAGE["completion_tokens"], 1, 1, 1]


# ---- no answer


def test_without_evidence_the_engine_is_not_asked(start_rag: StartRag, engine: FakeEngine) -> None:
    rag = start_rag()
    rag.write({"id": "secret", "text": "The vault is behind the stairs.", "tenant": "riverside"})
    rag.build("blue")
    answer = rag.ask("where is the vault", tenant="hilltop").json()
    assert answer["choices"][0]["message"]["content"] == "Nothing about this is known here."
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert answer["citations"] == []
    streamed = events(rag.ask("where is the vault", tenant="hilltop", stream=True))
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in streamed[:-1]).startswith("Nothing about")
    assert engine.bodies == []
    assert rag.metric("rag_no_evidence_total", collection="books") == 2
    assert rag.metric("rag_answers_total", outcome="no_evidence") == 2


def test_what_is_not_near_enough_is_no_evidence(start_rag: StartRag, engine: FakeEngine) -> None:
    rag = start_rag(collections={"books": {"query": {"no_evidence_below": 0.5}}})
    rag.write({"id": "cats", "text": "The two cats are called Comma and Full Stop.", "tenant": "*"})
    rag.build("blue")
    assert rag.search("what are the two cats called").json()["evidence"] is True
    assert rag.ask("what are the two cats called").json()["citations"]
    assert rag.search("exchange rate of the yen").json()["evidence"] is False
    assert rag.ask("exchange rate of the yen").json()["citations"] == []
    assert len(engine.bodies) == 1


def test_an_engine_that_is_not_ready_stops_answers_and_no_searches(start_rag: StartRag, engine: FakeEngine) -> None:
    engine.ready = False
    rag = start_rag()
    rag.write({"id": "cats", "text": "The two cats are called Comma and Full Stop.", "tenant": "*"})
    rag.build("blue")
    wait_until(lambda: rag.metric("rag_engine_ready") == 0, "the engine is known not to be ready")
    assert_error(rag.ask("cats"), 503, "not_ready", "engine")
    assert rag.found("cats") == ["cats"]


def test_an_engine_that_is_gone_is_told_as_such(start_rag: StartRag, engine: FakeEngine) -> None:
    rag = start_rag(answerer={"base_url": "http://127.0.0.1:9"})
    rag.write({"id": "cats", "text": "The two cats are called Comma and Full Stop.", "tenant": "*"})
    rag.build("blue")
    wait_until(lambda: rag.metric("rag_engine_ready") == 1, "the engine says that it is ready")
    assert_error(rag.ask("cats"), 502, "engine_unreachable")
    assert_error(rag.ask("cats", stream=True), 502, "engine_unreachable")
    assert rag.found("cats") == ["cats"]


@pytest.mark.parametrize(
    ("engine_status", "status", "code"),
    [(500, 502, "engine_failed"), (429, 503, "engine_busy"), (503, 503, "engine_busy"), (400, 400, "engine_refused")],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_refuses_is_told_as_such(
    rag: RagProcess, engine: FakeEngine, engine_status: int, status: int, code: str, stream: bool
) -> None:
    engine.behave = engine.refuses(engine_status, "prompt: [1] House cats …")
    response = rag.ask("cats", stream=stream)
    assert_error(response, status, code)
    assert "House cats" not in response.text


def test_an_answer_that_breaks_off_ends_the_stream_with_an_error(rag: RagProcess, engine: FakeEngine) -> None:
    engine.behave = engine.says("Yes", end=b"")
    last = events(rag.ask("cats", stream=True))[-1]
    assert last["error"]["code"] == "engine_failed"
    assert_error(rag.ask("cats"), 502, "engine_failed")


@pytest.mark.parametrize("reply", [b"data: nonsense\n\n", b"data: [1]\n\n", b'data: {"error": {"message": "x"}}\n\n'])
def test_nonsense_of_the_engine_is_no_answer(rag: RagProcess, engine: FakeEngine, reply: bytes) -> None:
    async def behave(request: Request, body: dict[str, Any]) -> Response:
        return Response(reply, media_type="text/event-stream")

    engine.behave = behave
    assert_error(rag.ask("cats"), 502, "engine_failed")


def test_a_silent_engine_is_given_up(start_rag: StartRag, engine: FakeEngine) -> None:
    rag = start_rag(timeouts={"first_token_seconds": 0.3, "total_seconds": 0.6})
    rag.write({"id": "cats", "text": "The two cats are called Comma and Full Stop.", "tenant": "*"})
    rag.build("blue")
    engine.behave = engine.is_silent()
    assert_error(rag.ask("cats"), 504, "first_token_timeout")
    assert engine.was_abandoned()
    engine.behave = engine.says("Yes", ", it is.", gate_after=1)
    assert_error(rag.ask("cats"), 504, "total_timeout")
    assert events(rag.ask("cats", stream=True))[-1]["error"]["code"] == "total_timeout"
    assert engine.was_abandoned()


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_leaves_does_not_keep_the_engine_busy(rag: RagProcess, engine: FakeEngine, stream: bool) -> None:
    engine.behave = engine.says("Yes", ", it is.", gate_after=1)
    body = {"collection": "books", "question": "cats", "stream": stream}
    with rag.client() as client:
        request = client.build_request("POST", "/v1/ask", json=body, headers=RIVERSIDE, timeout=1.0)
        with pytest.raises(Exception, match="timed out"):
            client.send(request, stream=stream).read()
    assert engine.was_abandoned()
    wait_until(lambda: rag.metric("rag_asks_in_flight") == 0, "no question is in progress")


def test_one_question_too_many_is_turned_away(rag: RagProcess, engine: FakeEngine) -> None:
    engine.behave = engine.says("Yes", ", it is.", gate_after=0)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(rag.ask, "cats") for _ in range(2)]
        wait_until(lambda: engine.gate_visitors == 2, "two questions are in progress")
        assert_error(rag.ask("cats"), 429, "too_many_asks")
        assert rag.found("cats")[0] == "cats"
        engine.gate.set()
        assert [one.result().status_code for one in waiting] == [200, 200]


def test_a_question_that_leaves_no_room_for_an_answer_is_refused(start_rag: StartRag, engine: FakeEngine) -> None:
    rag = start_rag(answerer={"context_tokens": 120}, prompt={"context_tokens": 40})
    rag.write({"id": "cats", "text": "The two cats are called Comma and Full Stop.", "tenant": "*"})
    rag.build("blue")
    wait_until(lambda: rag.metric("rag_engine_ready") == 1, "the engine is ready")
    assert_error(rag.ask("7 cats & 8 dogs? " * 17), 400, "question_too_long")
    assert engine.bodies == []


# ---- the audit trail


def test_the_audit_trail_has_the_prompt_as_the_engine_got_it(start_rag: StartRag, engine: FakeEngine, tmp_path) -> None:
    trail = tmp_path / "prompts.jsonl"
    rag = start_rag(audit={"file": str(trail)})
    rag.write({"id": "cats", "text": "The two cats are called Comma and Full Stop.", "tenant": "*"})
    rag.build("blue")
    wait_until(lambda: rag.metric("rag_engine_ready") == 1, "the engine is ready")
    rag.ask("cats?")
    wait_until(lambda: trail.read_text().count("\n") == 1, "a line in the trail")
    line = json.loads(trail.read_text())
    assert line["messages"] == engine.bodies[0]["messages"]
    assert (line["schema"], line["tenant"], line["collection"]) == (1, "riverside", "books")
    assert line["chunks"][0].startswith("cats#0-")
    assert trail.stat().st_mode & 0o777 == 0o600
