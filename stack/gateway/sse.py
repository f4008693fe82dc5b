"""Server-sent events of a streamed answer, read as lightly as the metrics allow: lines pass as they came."""

import json
from typing import Any

_MAX_LINE_BYTES = 1 << 20


class BrokenAnswer(Exception):
    """What came is no answer; the text says what the service did."""


class EventReader:
    """Cuts a stream of bytes into lines and notes what it sees in them.

    `has_text`: some text has come. `events`: how many. `usage`: the token counts. `done`: [DONE] has come.
    """

    def __init__(self, keep_usage: bool) -> None:
        self.has_text = False
        self.events = 0
        self.usage: dict[str, Any] | None = None
        self.done = False
        self._keep_usage = keep_usage
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """The complete lines so far, for the caller; without the usage event where it was not asked for.

        Raises BrokenAnswer: an error inside the stream, or what is no stream of JSON events.
        """
        data = self._rest + chunk
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if len(self._rest) > _MAX_LINE_BYTES:
            raise BrokenAnswer("sent a line without an end")
        return b"".join(line for line in data[:end].splitlines(keepends=True) if self._passes(line))

    def _passes(self, line: bytes) -> bool:
        if not line.startswith(b"data:"):
            return True
        data = line[5:].strip()
        if data == b"[DONE]":
            self.done = True
            return True
        self.events += 1
        # Parsing every event would cost more than all the rest: most carry only text that nobody counts.
        if self.has_text and b'"usage"' not in data and not data.startswith(b'{"error"'):
            return True
        return self._note(data)

    def _note(self, data: bytes) -> bool:
        event = read_event(data)
        try:
            choices = event.get("choices") or []
            self.has_text |= any((choice.get("delta") or {}).get("content") for choice in choices)
        except (TypeError, AttributeError):
            raise BrokenAnswer("sent an event that is no part of an answer; try again") from None
        if not event.get("usage"):
            return True
        self.usage = event["usage"]
        return self._keep_usage or bool(choices)


def read_event(data: bytes) -> dict[str, Any]:
    """The JSON of one event. Raises BrokenAnswer, also where it tells of an error."""
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise BrokenAnswer("sent an event that is no part of an answer; try again")
    if "error" in event:
        raise BrokenAnswer("failed within its answer; try again")
    return event


def error_event(error: bytes) -> bytes:
    """The last event of a stream that cannot go on; `error` is one line of JSON."""
    return b"data: " + error + b"\n\n"
