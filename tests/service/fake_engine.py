"""A small engine for the gateway's tests: it answers as a test says, and keeps what it was asked."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

USAGE = {"prompt_tokens": 21, "completion_tokens": 2, "total_tokens": 23}

Behaviour = Callable[[Request, dict[str, Any]], Awaitable[Response]]


def sse(event: dict[str, Any] | str) -> bytes:
    return b"data: " + (event if isinstance(event, str) else json.dumps(event)).encode() + b"\n\n"


def delta(**content: str) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": content}]}


@dataclass
class FakeEngine:
    """Answers chat completions as `behave` says; keeps what it was asked."""

    url: str
    ready: bool = True
    requests: list[Request] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    abandoned: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    gate: threading.Event = field(default_factory=threading.Event)
    gate_visitors: int = 0
    behave: Behaviour | None = None

    def reset(self) -> None:
        self.ready = True
        self.requests.clear()
        self.bodies.clear()
        self.abandoned = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate_visitors = 0
        self.behave = self.says("Yes", ", it is.")

    def was_abandoned(self) -> bool:
        """True once for each request that the gateway gave up."""
        return self.abandoned.acquire(timeout=5)

    async def passes_the_gate(self) -> None:
        self.gate_visitors += 1
        while not self.gate.is_set():  # noqa: ASYNC110 - set by the test's thread
            await asyncio.sleep(0.01)

    def says(self, *pieces: str, gate_after: int | None = None, end: bytes | None = None) -> Behaviour:
        """These pieces; it waits for the gate after `gate_after` of them. `end` stands instead of its end."""

        async def events(body: dict[str, Any]) -> AsyncIterator[bytes]:
            try:
                yield sse(delta(role="assistant", content=""))
                for number, piece in enumerate(pieces):
                    if number == gate_after:
                        await self.passes_the_gate()
                    yield sse(delta(content=piece))
                if gate_after == len(pieces):
                    await self.passes_the_gate()
                if end is not None:
                    yield end
                    return
                if (body.get("stream_options") or {}).get("include_usage"):
                    yield sse({"object": "chat.completion.chunk", "choices": [], "usage": USAGE})
                yield sse("[DONE]")
            except asyncio.CancelledError:
                self.abandoned.release()
                raise

        async def behave(request: Request, body: dict[str, Any]) -> Response:
            if body.get("stream"):
                return StreamingResponse(events(body), media_type="text/event-stream")
            message = {"role": "assistant", "content": "".join(pieces)}
            return JSONResponse({"object": "chat.completion", "choices": [{"message": message}], "usage": USAGE})

        return behave

    def refuses(self, status: int, message: str) -> Behaviour:
        async def behave(request: Request, body: dict[str, Any]) -> Response:
            return JSONResponse({"error": {"message": message, "code": status}}, status_code=status)

        return behave

    def is_silent(self) -> Behaviour:
        """Never answers; notices when the gateway hangs up."""

        async def behave(request: Request, body: dict[str, Any]) -> Response:
            while not await request.is_disconnected():  # noqa: ASYNC110 - that is how Starlette tells
                await asyncio.sleep(0.01)
            self.abandoned.release()
            return Response()

        return behave
