"""Cutting a streamed answer into segments that are checked."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.gateway.config.upstreams import Segments as SegmentSettings
from stack.gateway.segments import Segment, Segments
from stack.gateway.sse import BrokenAnswer

SETTINGS = SegmentSettings(sentence_chars=10, held_chars=30, context_chars=8)


def event(text: str | None, **more: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text} | more}]})}\n\n".encode()


DONE = b"data: [DONE]\n\n"


def cut(*events: bytes, config: SegmentSettings = SETTINGS) -> list[Segment]:
    segments = Segments(config)
    return [segment for lines in events for segment in segments.feed(lines)]


def checked(segments: list[Segment]) -> list[str]:
    return [segment.checked for segment in segments if segment.checked]


def test_a_segment_ends_with_its_sentence_once_it_is_long_enough() -> None:
    words = ["No. ", "A whale ", "is a ", "mammal.", " It ", "breathes ", "air! ", "Yes"]
    found = checked(cut(*map(event, words), DONE, config=SETTINGS.model_copy(update={"context_chars": 0})))
    assert found == ["No. A whale is a mammal.", " It breathes air! ", "Yes"]


@pytest.mark.parametrize(
    "end", ["Is it so? ", "It is so.", 'He said "so." ', "It is so.)", "それはクジラです。", "A line of it\n"]
)
def test_sentences_end_in_many_ways(end: str) -> None:
    assert checked(cut(event("x" * 10), event(end))) == ["x" * 10 + end]


def test_a_text_without_sentences_is_cut_when_enough_is_held() -> None:
    found = checked(cut(*[event("word ")] * 13, DONE))
    assert [len(text) for text in found] == [30, 8 + 30, 8 + 5]


def test_the_end_of_the_text_before_is_checked_again_with_a_segment() -> None:
    """A phrase that lies across a cut must be seen whole."""
    found = checked(cut(event("nothing is wrong here, you vil"), event("lain of a man"), DONE))
    assert found == ["nothing is wrong here, you vil", " you vil" + "lain of a man"]


def test_what_carries_no_text_passes_at_once_and_keeps_its_place() -> None:
    role, ping, end = event(""), b": ping\n\n", event(None)
    assert b"".join(segment.lines for segment in cut(role, ping)) == role + ping
    held = cut(role, event("Yes"), ping, end)
    assert b"".join(segment.lines for segment in held) == role
    assert b"".join(segment.lines for segment in cut(role, event("Yes"), ping, end, DONE)) == b"".join(
        [role, event("Yes"), ping, end, DONE]
    )


def test_every_text_of_an_event_is_checked_by_whatever_name_it_comes() -> None:
    assert checked(cut(event("a", reasoning_content="b", role="assistant"), DONE)) == ["ab"]


@pytest.mark.parametrize("line", [b"data: {\n", b"data: [1]\n", b'data: {"choices": [{"delta": 5}]}\n'])
def test_an_event_that_cannot_be_read_is_not_sent_unread(line: bytes) -> None:
    with pytest.raises(BrokenAnswer):
        cut(line)


@settings(deadline=None)
@given(st.lists(st.text(max_size=12), max_size=60), st.integers(1, 40), st.integers(0, 40), st.integers(0, 20))
def test_all_is_sent_in_its_order_all_text_is_checked_first_and_little_is_held(
    words: list[str], sentence: int, more: int, context: int
) -> None:
    config = SegmentSettings(sentence_chars=sentence, held_chars=sentence + more, context_chars=context)
    events = [*map(event, words), DONE]
    segments = Segments(config)
    sent, seen = b"", ""
    for number, lines in enumerate(events):
        for segment in segments.feed(lines):
            if segment.checked:
                overlap = min(context, len(seen))
                assert segment.checked[:overlap] == seen[len(seen) - overlap :]
                seen += segment.checked[overlap:]
            sent += segment.lines
            assert _text(sent) == seen[: len(_text(sent))], "sent, not checked"
        written = "".join(words[: number + 1])
        assert len(written) - len(_text(sent)) < config.held_chars
    assert sent == b"".join(events)
    assert seen == "".join(words)


def _text(lines: bytes) -> str:
    events = [json.loads(line[6:]) for line in lines.splitlines() if line.startswith(b"data: {")]
    return "".join(choice["delta"]["content"] for one in events for choice in one["choices"])
