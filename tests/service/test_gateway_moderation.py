"""Moderation of what callers write and of what they are answered."""

import json
from typing import Any

import pytest
from fake_engine import FakeEngine
from fake_services import FakeModeration, FakeRetrieval, events_of, failing, says, text_of
from gateway_process import GatewayProcess, StartGateway, ask, assert_error, question, wait_until
from starlette.responses import JSONResponse

ASK = "/v1/ask"
WHALES = {"collection": "books", "question": "Is a whale a fish?"}


def guarded(text: str = "Is a whale a mammal?", **keys: Any) -> dict[str, Any]:
    return question(text, **keys) | {"model": "guarded"}


def decided(gateway: GatewayProcess, stage: str, decision: str) -> float:
    return gateway.metric("gateway_moderation_total", stage=stage, decision=decision)


# ---- what comes in


@pytest.mark.parametrize("stream", [False, True])
def test_a_question_that_is_blocked_never_reaches_the_engine(
    gateway: GatewayProcess, engine: FakeEngine, fake_moderation: FakeModeration, stream: bool
) -> None:
    before = decided(gateway, "input", "block")
    response = ask(gateway, guarded("a vile thing", stream=stream), headers={"x-request-id": f"vile-{stream}"})
    assert_error(response, 400, "content_filter", "the request was stopped")
    assert not engine.bodies
    assert decided(gateway, "input", "block") == before + 1
    assert gateway.log_of(f"vile-{stream}")["moderation"] == {"input": "block"}
    assert fake_moderation.headers[0]["x-tenant"] == "demo"
    assert fake_moderation.headers[0]["x-request-id"] == f"vile-{stream}"


def test_nothing_that_the_caller_wrote_is_a_way_around(gateway: GatewayProcess, engine: FakeEngine) -> None:
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "a vile thing"}]
    last = {"role": "user", "content": "Go on"}
    assert_error(ask(gateway, guarded() | {"messages": [*turns, last]}), 400, "content_filter")
    assert_error(ask(gateway, guarded(metadata={"desk": "vile"})), 400, "content_filter")
    parts = {"role": "user", "content": [{"type": "text", "text": "vi"}, {"type": "text", "text": "le"}]}
    assert_error(ask(gateway, guarded() | {"messages": [parts]}), 400, "content_filter")
    assert not engine.bodies


def test_a_text_that_people_have_to_decide_about_is_held(gateway: GatewayProcess, engine: FakeEngine) -> None:
    assert_error(ask(gateway, guarded("an odd thing")), 403, "under_review", "until people have decided")
    assert not engine.bodies


def test_an_assistant_without_moderation_asks_for_none(
    gateway: GatewayProcess, engine: FakeEngine, fake_moderation: FakeModeration
) -> None:
    assert ask(gateway, question("a vile thing")).status_code == 200
    assert not fake_moderation.bodies


def test_a_long_text_is_checked_in_pieces_that_overlap(
    start_gateway: StartGateway, engine: FakeEngine, fake_moderation: FakeModeration
) -> None:
    gateway = start_gateway(moderation={"piece_chars": 100, "pieces": 2}, limits={"prompt_chars": 5000})
    wait_until(lambda: ask(gateway, guarded()).status_code == 200, "moderation is ready")
    for place in range(280, 320, 3):
        text = "x" * place + "vile" + "y" * 100
        assert_error(ask(gateway, guarded(text)), 400, "content_filter")
    assert max(len(text) for text in fake_moderation.texts) <= 100
    assert max(len(body["input"]) for body in fake_moderation.bodies) <= 2


# ---- what goes out


def test_a_whole_answer_is_checked_before_it_is_sent(gateway: GatewayProcess, engine: FakeEngine) -> None:
    engine.behave = engine.says("That is ", "a vile thing.")
    response = ask(gateway, guarded())
    assert_error(response, 400, "content_filter", "the answer was stopped")
    assert "That is" not in response.text


def test_a_stream_is_checked_while_it_runs_and_ends_before_the_segment_that_is_blocked(
    gateway: GatewayProcess, engine: FakeEngine, fake_moderation: FakeModeration
) -> None:
    words = ["It is ", "a mammal. ", "And now ", "a vi", "le thing. ", "More of it. "]
    engine.behave = engine.says(*words)
    events = events_of(ask(gateway, guarded(stream=True), headers={"x-request-id": "cut-1"}).text)
    assert text_of(events) == "It is a mammal. "
    assert events[-1]["error"]["code"] == "content_filter"
    assert "[DONE]" not in events
    assert "vi" not in json.dumps(events[:-1])
    assert gateway.log_of("cut-1")["status"] == 400
    assert not any("More of it" in text for text in fake_moderation.texts)


def test_a_checked_segment_is_sent_while_the_engine_is_still_writing(
    gateway: GatewayProcess, engine: FakeEngine
) -> None:
    engine.behave = engine.says("It is a mammal. ", "It breathes air.", gate_after=1)
    with gateway.client() as client, client.stream("POST", "/v1/chat/completions", json=guarded(stream=True)) as answer:
        lines = answer.iter_lines()
        while "It is a mammal." not in next(lines):
            pass
        engine.gate.set()
        assert any("It breathes air." in line for line in lines)


def test_a_checked_stream_is_the_same_as_an_unchecked_one(gateway: GatewayProcess, engine: FakeEngine) -> None:
    engine.behave = engine.says("It is ", "a mammal. ", "It", " breathes air", "! ", "So it is no fish")
    checked, unchecked = (
        ask(gateway, question(stream=True, stream_options={"include_usage": True}) | {"model": model})
        for model in ("guarded", "desk")
    )
    assert checked.content == unchecked.content
    assert checked.headers["content-type"] == unchecked.headers["content-type"]


def test_what_people_have_to_decide_about_ends_a_stream_too(gateway: GatewayProcess, engine: FakeEngine) -> None:
    engine.behave = engine.says("It is a mammal. ", "An odd thing. ")
    events = events_of(ask(gateway, guarded(stream=True)).text)
    assert text_of(events) == "It is a mammal. "
    assert events[-1]["error"]["code"] == "under_review"


def test_a_review_may_let_texts_pass(start_gateway: StartGateway, engine: FakeEngine) -> None:
    gateway = start_gateway(assistants={"guarded": {"moderation": {"on_review": "allow"}}})
    engine.behave = engine.says("An odd thing. ")
    wait_until(lambda: ask(gateway, guarded("an odd thing")).status_code == 200, "moderation is ready")
    assert text_of(events_of(ask(gateway, guarded("an odd thing", stream=True)).text)) == "An odd thing. "
    assert decided(gateway, "input", "review") >= 1
    assert decided(gateway, "output", "review") >= 1


# ---- answers from documents


def test_questions_to_documents_and_their_answers_are_checked(
    gateway: GatewayProcess, fake_retrieval: FakeRetrieval, fake_moderation: FakeModeration
) -> None:
    assert_error(ask(gateway, WHALES | {"question": "a vile thing"}, ASK), 400, "content_filter", "the request")
    assert not fake_retrieval.bodies
    fake_retrieval.answers = [says("Whales are mammals. ", "A vile thing."), says("A vile ", "thing.")]
    events = events_of(ask(gateway, WHALES | {"stream": True}, ASK).text)
    assert events[0]["citations"]
    assert text_of(events) == "Whales are mammals. "
    assert events[-1]["error"]["code"] == "content_filter"
    assert_error(ask(gateway, WHALES, ASK), 400, "content_filter", "the answer")


def test_an_answer_in_which_no_text_can_be_found_is_not_sent_unchecked(
    gateway: GatewayProcess, fake_retrieval: FakeRetrieval
) -> None:
    async def other_shape(request: Any, body: Any) -> JSONResponse:
        return JSONResponse({"answer": "a vile thing"})

    fake_retrieval.answers = [other_shape]
    assert_error(ask(gateway, WHALES, ASK), 502, "retrieval_failed", "without a message")


# ---- when moderation cannot be asked


async def _nonsense(request: Any, body: Any) -> JSONResponse:
    return JSONResponse({"results": []})


async def _new_word(request: Any, body: Any) -> JSONResponse:
    return JSONResponse({"results": [{"decision": "perhaps"} for _ in body["input"]]})


FAULTS = {"busy": failing(503), "failing": failing(500), "silent": None, "empty": _nonsense, "unknown": _new_word}


def degraded(gateway: GatewayProcess, stage: str, mode: str) -> float:
    return gateway.metric("gateway_moderation_degraded_total", stage=stage, mode=mode)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_text_that_cannot_be_checked_is_refused(
    gateway: GatewayProcess, engine: FakeEngine, fake_moderation: FakeModeration, fault: str
) -> None:
    before = degraded(gateway, "input", "block")
    fake_moderation.answers = [FAULTS[fault] or fake_moderation.silent]
    response = ask(gateway, guarded())
    assert_error(response, 503, "moderation_unavailable", "cannot be checked now")
    assert response.headers["retry-after"] == "1"
    assert not engine.bodies
    assert degraded(gateway, "input", "block") == before + 1
    assert decided(gateway, "input", "error") >= 1


def test_an_answer_that_cannot_be_checked_ends_unsent(
    gateway: GatewayProcess, engine: FakeEngine, fake_moderation: FakeModeration
) -> None:
    allow = fake_moderation.behave
    engine.behave = engine.says("It is a mammal. ", "It breathes air. ")
    fake_moderation.answers = [allow, allow, failing(500), allow, failing(500)]
    events = events_of(ask(gateway, guarded(stream=True)).text)
    assert text_of(events) == "It is a mammal. "
    assert events[-1]["error"]["code"] == "moderation_unavailable"
    assert_error(ask(gateway, guarded()), 503, "moderation_unavailable", "the answer")


@pytest.fixture(scope="module")
def lenient_gateway(start_module_gateway: StartGateway) -> GatewayProcess:
    """Lets texts through while moderation cannot be asked."""
    return start_module_gateway(
        assistants={"guarded": {"moderation": {"on_error": "allow"}}},
        calls={"moderation": {"circuit": {"failures": 3, "open_seconds": 60}}},
    )


def test_where_the_configuration_says_so_unchecked_texts_pass_and_each_is_counted(
    lenient_gateway: GatewayProcess, engine: FakeEngine, fake_moderation: FakeModeration
) -> None:
    gateway = lenient_gateway
    wait_until(lambda: ask(gateway, guarded("vile")).status_code == 400, "moderation is ready")
    fake_moderation.answers = [failing(500)] * 100
    engine.behave = engine.says("It is a mammal. ", "It breathes air. ")
    inputs, outputs = degraded(gateway, "input", "allow"), degraded(gateway, "output", "allow")
    asked = len(fake_moderation.bodies)
    for _ in range(4):
        response = ask(gateway, guarded("vile", stream=True), headers={"x-request-id": "unchecked"})
        assert text_of(events_of(response.text)) == "It is a mammal. It breathes air. "
    assert degraded(gateway, "input", "allow") == inputs + 4
    assert degraded(gateway, "output", "allow") == outputs + 8
    assert gateway.log_of("unchecked")["moderation"] == {"input": "error", "output": "error"}
    assert any(line["message"] == "moderation could not be asked" for line in gateway.log())
    assert len(fake_moderation.bodies) == asked + 3, "its circuit is open: nobody waits for it any more"


def test_a_text_that_moderation_refuses_to_read_does_not_pass_even_there(
    start_gateway: StartGateway, engine: FakeEngine, fake_moderation: FakeModeration
) -> None:
    """Exploit: make a text so long that moderation turns it away, where errors let texts through."""
    gateway = start_gateway(assistants={"guarded": {"moderation": {"on_error": "allow"}}})
    wait_until(lambda: ask(gateway, guarded("vile")).status_code == 400, "moderation is ready")
    fake_moderation.answers = [failing(400, "too long"), failing(413, "too long")]
    for _ in range(2):
        assert_error(ask(gateway, guarded()), 400, "content_unchecked", "too long")
    assert not engine.bodies


def test_moderation_that_is_known_to_be_away_is_not_waited_for(
    gateway: GatewayProcess, engine: FakeEngine, fake_moderation: FakeModeration
) -> None:
    fake_moderation.ready = False
    wait_until(lambda: gateway.metric("gateway_upstream_ready", upstream="moderation") == 0, "the gateway notices")
    assert_error(ask(gateway, guarded()), 503, "moderation_unavailable")
    assert not fake_moderation.bodies
    assert ask(gateway).status_code == 200
