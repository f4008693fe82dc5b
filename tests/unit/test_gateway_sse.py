"""Reading the events of a streamed answer."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.gateway.sse import BrokenAnswer, EventReader


def event(data: dict[str, Any] | str, end: bytes = b"\n\n") -> bytes:
    return b"data: " + (data if isinstance(data, str) else json.dumps(data)).encode() + end


def text(content: str | None) -> bytes:
    return event({"choices": [{"delta": {"content": content}}]})


USAGE = {"prompt_tokens": 3, "completion_tokens": 2}
USAGE_EVENT = event({"choices": [], "usage": USAGE})
STREAM = b"".join(
    [
        b": a comment\n\n",
        event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
        text("Yé"),
        text('"usage" is a word'),
        USAGE_EVENT,
        event("[DONE]"),
    ]
)


@settings(deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_lines_are_the_same_however_the_bytes_come(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    reader = EventReader(keep_usage=True)
    passed = b"".join(reader.feed(STREAM[a:b]) for a, b in pairwise(edges))
    assert passed == STREAM
    assert (reader.usage, reader.done, reader.has_text) == (USAGE, True, True)


def test_the_usage_event_is_counted_and_left_out_for_callers_who_did_not_ask() -> None:
    reader = EventReader(keep_usage=False)
    assert b"prompt_tokens" not in reader.feed(STREAM)
    assert reader.usage == USAGE


def test_usage_beside_text_is_counted_and_passes_with_the_text() -> None:
    reader = EventReader(keep_usage=False)
    both = event({"choices": [{"delta": {"content": "x"}}], "usage": USAGE})
    assert reader.feed(both) == both
    assert reader.usage == USAGE


@pytest.mark.parametrize("content", ["", None])
def test_a_role_or_empty_content_is_no_text(content: str | None) -> None:
    reader = EventReader(keep_usage=True)
    reader.feed(text(content) + event({"choices": []}) + event({"choices": [{"delta": None}]}))
    assert not reader.has_text
    reader.feed(text("a"))
    assert reader.has_text


def test_lines_may_end_with_carriage_return_and_newline() -> None:
    reader = EventReader(keep_usage=True)
    stream = event({"choices": [], "usage": USAGE}, end=b"\r\n\r\n") + event("[DONE]", end=b"\r\n\r\n")
    assert reader.feed(stream) == stream
    assert (reader.usage, reader.done) == (USAGE, True)


@pytest.mark.parametrize(
    "data", ["{", "[1]", "5", '{"choices": ["x"]}', '"x"', '{"error": {"message": "out of memory"}}']
)
def test_an_error_or_what_is_no_event_means_that_the_engine_failed(data: str) -> None:
    with pytest.raises(BrokenAnswer):
        EventReader(keep_usage=True).feed(event(data))


def test_an_error_is_seen_after_the_text_began_too() -> None:
    reader = EventReader(keep_usage=True)
    reader.feed(text("a"))
    with pytest.raises(BrokenAnswer):
        reader.feed(event({"error": {"message": "out of memory"}}))


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    reader = EventReader(keep_usage=True)
    piece = b"x" * (1 << 19)
    assert reader.feed(piece) == reader.feed(piece) == b""
    with pytest.raises(BrokenAnswer, match="without an end"):
        reader.feed(b"x")
