"""Cuts a streamed answer into segments that are checked before any of them is sent on."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from stack.gateway.config.upstreams import Segments as SegmentSettings
from stack.gateway.sse import BrokenAnswer, read_event

# A mark that ends a sentence, what may close after it, and a space or the end; or the end of a line.
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)\]]*(\s|$)|\n")


@dataclass(frozen=True)
class Segment:
    """Lines that may be sent together once `checked` is found good; an empty one needs no check.

    `checked` is the segment's text with the end of the text before it.
    """

    lines: bytes
    checked: str


class Segments:
    """Takes the lines of a stream and holds those back whose text is not yet a segment."""

    def __init__(self, config: SegmentSettings) -> None:
        self._config = config
        self._lines: list[bytes] = []
        self._text = ""
        self._before = ""

    def feed(self, lines: bytes) -> Iterator[Segment]:
        """The segments that `lines` completes, in their order. Raises BrokenAnswer."""
        for line in lines.splitlines(keepends=True):
            if _is_end(line) and self._text:
                yield self._cut()  # nothing comes after it that could complete the segment
            text = _text_of(line)
            if not text and not self._text:
                yield Segment(line, "")
                continue
            self._lines.append(line)
            self._text += text
            if text and self._is_complete():
                yield self._cut()

    def _is_complete(self) -> bool:
        length = len(self._text)
        if length >= self._config.held_chars:
            return True
        return length >= self._config.sentence_chars and bool(_SENTENCE_END.search(self._text, pos=length - 8))

    def _cut(self) -> Segment:
        segment = Segment(b"".join(self._lines), self._before + self._text)
        kept = self._config.context_chars
        self._before = segment.checked[-kept:] if kept else ""
        self._lines, self._text = [], ""
        return segment


def _is_end(line: bytes) -> bool:
    return line.startswith(b"data:") and line[5:].strip() == b"[DONE]"


def _text_of(line: bytes) -> str:
    """All that an event would show the caller: every text of its deltas but the role."""
    if not line.startswith(b"data:") or _is_end(line):
        return ""
    try:
        deltas = [choice.get("delta") or {} for choice in read_event(line[5:]).get("choices") or []]
        return "".join(
            text for delta in deltas for name, text in delta.items() if name != "role" and isinstance(text, str)
        )
    except (TypeError, AttributeError):
        raise BrokenAnswer("sent an event that is no part of an answer; try again") from None
