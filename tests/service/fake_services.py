"""Small stand-ins for retrieval and moderation: they answer as a test says, and keep what they were asked."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fake_engine import USAGE, delta, sse
from gateway_process import listening_socket, wait_until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Answer = Callable[[Request, Any], Awaitable[Response]]

CITATIONS = [{"number": 1, "title": "Whales", "text": "Whales are mammals."}]


@contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """The address at which `app` is served, in a thread of this process."""
    listener = listening_socket()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "a fake service starts")
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@dataclass
class FakeService:
    """Keeps what it was asked; `answers` is used up first, one a request, then `behave`."""

    ready: bool = True
    url: str = ""
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    abandoned: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def reset(self) -> None:
        self.ready = True
        self.headers.clear()
        self.bodies.clear()
        self.answers.clear()
        self.abandoned = threading.Semaphore(0)

    def was_abandoned(self) -> bool:
        """True once for each request that the gateway gave up."""
        return self.abandoned.acquire(timeout=5)

    def app(self, *paths: str) -> Starlette:
        async def answer(request: Request) -> Response:
            body = await request.json()
            self.headers.append(dict(request.headers))
            self.bodies.append(body)
            if self.answers:
                return await self.answers.pop(0)(request, body)
            return await self.behave(request, body)

        async def readyz(_: Request) -> Response:
            return JSONResponse({"ready": self.ready}, status_code=200 if self.ready else 503)

        return Starlette(routes=[*(Route(path, answer, methods=["POST"]) for path in paths), Route("/readyz", readyz)])

    async def behave(self, request: Request, body: Any) -> Response:
        raise NotImplementedError

    async def silent(self, request: Request, body: Any) -> Response:
        """Never answers; notices when the gateway hangs up."""
        while not await request.is_disconnected():  # noqa: ASYNC110 - that is how Starlette tells
            await asyncio.sleep(0.01)
        self.abandoned.release()
        return Response()


def failing(status: int, message: str = "no") -> Answer:
    async def answer(request: Request, body: Any) -> Response:
        error = {"message": message, "type": "x", "param": None, "code": "x"}
        return JSONResponse({"error": error}, status_code=status)

    return answer


class FakeRetrieval(FakeService):
    """Finds whales, whatever it is asked."""

    def app(self) -> Starlette:
        return super().app("/v1/search", "/v1/ask")

    async def behave(self, request: Request, body: Any) -> Response:
        if request.url.path == "/v1/search":
            return JSONResponse({"collection": body["collection"], "results": CITATIONS})
        return await says("Whales are mammals", " [1].")(request, body)


def says(*pieces: str) -> Answer:
    """An answer with citations, streamed or whole as it is asked for."""

    async def events() -> AsyncIterator[bytes]:
        yield sse(delta(role="assistant", content="") | {"citations": CITATIONS})
        for piece in pieces:
            yield sse(delta(content=piece))
        yield sse({"object": "chat.completion.chunk", "choices": [], "usage": USAGE})
        yield sse("[DONE]")

    async def answer(request: Request, body: Any) -> Response:
        if body.get("stream"):
            return StreamingResponse(events(), media_type="text/event-stream")
        message = {"role": "assistant", "content": "".join(pieces)}
        told = {"object": "chat.completion", "choices": [{"message": message}], "usage": USAGE, "citations": CITATIONS}
        return JSONResponse(told)

    return answer


class FakeModeration(FakeService):
    """Blocks texts with the word `vile`, wants people to look at those with `odd`, allows the others."""

    def app(self) -> Starlette:
        return super().app("/v1/moderations")

    @property
    def texts(self) -> list[str]:
        """All that was to be checked so far."""
        return [text for body in self.bodies for text in _texts(body)]

    async def behave(self, request: Request, body: Any) -> Response:
        return JSONResponse({"id": "m", "model": "words", "results": [_result(text) for text in _texts(body)]})


def _texts(body: Any) -> list[str]:
    return [body["input"]] if isinstance(body["input"], str) else body["input"]


def _result(text: str) -> dict[str, Any]:
    decision = "block" if "vile" in text else "review" if "odd" in text else "allow"
    flagged = decision != "allow"
    return {
        "flagged": flagged,
        "categories": {"harassment": flagged},
        "category_scores": {"harassment": float(flagged)},
        "decision": decision,
        "tier": 1,
        "policy_version": "1",
    }


def events_of(text: str) -> list[Any]:
    """The events of a streamed answer, [DONE] among them as it is."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def text_of(events: list[Any]) -> str:
    """What the caller reads in them."""
    return "".join(
        choice["delta"].get("content", "")
        for event in events
        if isinstance(event, dict)
        for choice in event.get("choices", [])
    )
