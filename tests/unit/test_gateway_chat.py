"""Reading a caller's chat request."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.gateway.body import parse
from stack.gateway.chat import ChatRequest
from stack.gateway.errors import BadRequest

QUESTION = {"role": "user", "content": "Why?"}


def parse_chat_request(body: bytes) -> ChatRequest:
    return parse(body, ChatRequest)


def test_content_parts_are_joined_and_the_last_turn_is_the_question() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = parse_chat_request(
        json.dumps({"model": "desk", "messages": [{"role": "assistant", "content": parts}, QUESTION]}).encode()
    )
    assert request.history == [{"role": "assistant", "content": "ab"}]
    assert request.question == "Why?"


def test_null_means_absent_as_openais_clients_send_it() -> None:
    body = {"model": "desk", "messages": [QUESTION], "stream": None, "stop": None, "metadata": None, "n": None}
    request = parse_chat_request(json.dumps(body).encode())
    assert not request.stream
    assert not request.wants_usage


@pytest.mark.parametrize("stop", ["end", ["end"]])
def test_stop_is_one_text_or_several(stop: str | list[str]) -> None:
    body = {"model": "desk", "messages": [QUESTION], "stop": stop}
    assert parse_chat_request(json.dumps(body).encode()).stop == ("end",)


def test_a_number_of_thousands_of_digits_is_a_bad_request() -> None:
    with pytest.raises(BadRequest):
        parse_chat_request(b'{"model": ' + b"1" * 60000 + b', "messages": []}')


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_that_are_no_request_are_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_chat_request(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(["model", "messages", "stream", "stop", "metadata", "max_tokens", "stream_options", "x"])


@settings(deadline=None)
@given(st.dictionaries(keys, json_values))
def test_any_json_without_a_question_is_a_bad_request_with_a_message(body: dict[str, object]) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_chat_request(json.dumps(body | {"messages": []}).encode())
    assert json.loads(caught.value.body())["error"]["message"] == caught.value.message != ""
