"""Passes the engine's answer on to the caller, whole or as a stream."""

import json
from time import perf_counter

import httpx
from starlette.types import Send

from stack.gateway.call import Call
from stack.gateway.errors import EngineFailed
from stack.gateway.patience import Patience
from stack.gateway.sse import EventReader


async def relay_whole(response: httpx.Response, call: Call, send: Send) -> None:
    """An answer in one piece. Raises EngineFailed."""
    with call.waiting():
        content = await response.aread()
    try:
        call.usage = json.loads(content).get("usage") or {}
    except (ValueError, AttributeError):
        raise EngineFailed("the engine's answer is no JSON object") from None
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def relay_stream(response: httpx.Response, events: EventReader, call: Call, limit: Patience, send: Send) -> None:
    """A streamed answer, each line as soon as it is complete. Raises EngineFailed, also amid the answer."""
    chunks = response.aiter_raw()
    started = False
    while True:
        with call.waiting():
            chunk = await anext(chunks, None)
        if chunk is None:
            break
        lines = events.feed(chunk)
        call.usage = events.usage or {}
        if events.has_text and call.first_text is None:
            call.first_text = perf_counter()
            limit.first_token_came()
        if lines and not started:
            # Not before the engine's first event: until then an error can still have its own status.
            started = True
            headers = [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        if lines:
            with call.waiting():
                await send({"type": "http.response.body", "body": lines, "more_body": True})
    if not events.done:
        raise EngineFailed("the engine broke off its answer; try again")
    await send({"type": "http.response.body", "body": b"", "more_body": False})
