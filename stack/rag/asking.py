"""The route that answers questions: `POST /v1/ask`."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from stack.rag.access import Identity
from stack.rag.answer import Answers, TooManyAsks, events, whole_answer
from stack.rag.config import Limits
from stack.rag.engine import ENGINE, CallerLeft
from stack.rag.prompt import QuestionTooLong
from stack.rag.schemas import AskAnswer, bounded
from stack.rag.service import SEARCH, SearchFailed, caller
from stack.service.errors import responses

R = TypeVar("R")

_ERRORS = responses(*SEARCH, SearchFailed, QuestionTooLong, TooManyAsks, *ENGINE)
_STREAM = {200: {"content": {"text/event-stream": {}}, "description": "The answer, whole or as events."}}


def asking_routes(answers: Answers, model: str, limits: Limits) -> APIRouter:
    """`model` is the engine's name of its model."""
    router = APIRouter()
    body_model = bounded(limits).ask

    @router.post("/v1/ask", response_model=AskAnswer, responses={**_ERRORS, **_STREAM})
    async def ask(body: body_model, request: Request, who: Annotated[Identity, Depends(caller)]) -> Any:
        """An answer from the passages that the caller may see, which cites only what is in the prompt."""
        asked, pieces = await _unless_left(request, answers.ask(body, who, request.state.ids))
        if body.stream:
            return _Stream(events(asked, pieces, model), pieces)
        async with aclosing(pieces):
            await _unless_left(request, _exhausted(pieces))
        return whole_answer(asked, model)

    return router


class _Stream(StreamingResponse):
    """Server-sent events; the answer is given up as soon as they are, also by a caller who leaves."""

    media_type = "text/event-stream"

    def __init__(self, content: Any, pieces: AsyncGenerator[str]) -> None:
        super().__init__(content, headers={"cache-control": "no-cache"})
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._pieces.aclose()


async def _exhausted(pieces: AsyncGenerator[str]) -> None:
    async for _ in pieces:
        pass


async def _unless_left(request: Request, work: Coroutine[Any, Any, R]) -> R:
    """What `work` gives; it is cancelled when the caller leaves. Raises CallerLeft then."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise CallerLeft("the caller closed the connection")
    finally:
        watching.cancel()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
