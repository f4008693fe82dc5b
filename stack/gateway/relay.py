"""Passes an upstream's answer on to the caller, whole or as a stream."""

import json
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import httpx
from starlette.types import Send

from stack.gateway.call import Call
from stack.gateway.patience import Patience
from stack.gateway.segments import Segments
from stack.gateway.sse import BrokenAnswer, EventReader

Check = Callable[[list[str]], Awaitable[None]]
"""Returns when these texts may be sent; raises what is sent in their place."""

_STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


async def relay_whole(response: httpx.Response, upstream: str, call: Call, check: Check | None, send: Send) -> None:
    """An answer in one piece, checked before anything of it is sent. Raises BrokenAnswer, and what `check` raises."""
    with call.waiting(upstream):
        content = await response.aread()
    try:
        answer = json.loads(content)
        call.usage = answer.get("usage") or {}
    except (ValueError, AttributeError):
        raise BrokenAnswer("sent an answer that is no JSON object") from None
    if check and (texts := _texts_of(answer)):
        await check(texts)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _texts_of(answer: dict[str, Any]) -> list[str]:
    """All that a chat answer would show the caller: every text of its messages but the role."""
    try:
        messages = [choice["message"] for choice in answer["choices"]]
        texts = [text for message in messages for name, text in message.items() if name != "role"]
    except (LookupError, TypeError, AttributeError):
        raise BrokenAnswer("sent an answer without a message") from None
    return [text for text in texts if isinstance(text, str) and text]


class StreamRelay:
    """A streamed answer."""

    def __init__(
        self, response: httpx.Response, upstream: str, events: EventReader, call: Call, limit: Patience, send: Send
    ) -> None:
        self._chunks = response.aiter_raw()
        self._upstream = upstream
        self._events = events
        self._call = call
        self._limit = limit
        self._send = send
        self._started = False

    async def relay(self) -> None:
        """Each line as soon as it is complete. Raises BrokenAnswer, also amid the answer."""
        while (lines := await self._lines()) is not None:
            if self._events.has_text:
                self._text_goes_out()
            await self._pass(lines)
        await self._end()

    async def relay_checked(self, segments: Segments, check: Check) -> None:
        """Each segment as soon as it was checked. Raises BrokenAnswer, and what `check` raises, also amid the answer.

        While a segment is being checked the upstream writes on: what comes waits in the connection.
        """
        while (lines := await self._lines()) is not None:
            for segment in segments.feed(lines):
                if segment.checked:
                    await check([segment.checked])
                    self._text_goes_out()
                await self._pass(segment.lines)
        await self._end()

    async def _lines(self) -> bytes | None:
        """The lines that are complete by now, None at the end."""
        events, call = self._events, self._call
        with call.waiting(self._upstream):
            chunk = await anext(self._chunks, None)
        if chunk is None:
            return None
        had_text = events.has_text
        lines = events.feed(chunk)
        call.usage = events.usage or {}
        call.events = events.events
        if events.has_text and not had_text:
            self._limit.first_token_came()
        return lines

    def _text_goes_out(self) -> None:
        if self._call.first_text is None:
            self._call.first_text = perf_counter()

    async def _pass(self, lines: bytes) -> None:
        if not lines:
            return
        if not self._started:
            # Not before the first event: until then an error can still have its own status.
            self._started = True
            await self._send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
        with self._call.waiting():
            await self._send({"type": "http.response.body", "body": lines, "more_body": True})

    async def _end(self) -> None:
        if not self._events.done:
            raise BrokenAnswer("broke off its answer; try again")
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
