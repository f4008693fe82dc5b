"""Reads the body of a request, no more of it and no longer than allowed, and parses it."""

import asyncio
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from stack.gateway.errors import BadRequest, BodyTooLarge, BodyTooSlow, CallerLeft
from stack.settings import describe

T = TypeVar("T", bound=BaseModel)


async def read_body(request: Request, most_bytes: int, seconds: float) -> bytes:
    """Raises BodyTooLarge (by its Content-Length, or as it comes), BodyTooSlow, CallerLeft."""
    too_large = BodyTooLarge(f"the body has more than {most_bytes} bytes; send less at a time")
    if int(request.headers.get("content-length", 0)) > most_bytes:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most_bytes:
                    raise too_large
    except TimeoutError:
        raise BodyTooSlow(f"the body did not arrive within {seconds:g} s") from None
    except ClientDisconnect:
        raise CallerLeft("the caller closed the connection") from None
    return bytes(body)


def parse(body: bytes, model: type[T]) -> T:
    """Raises BadRequest: no UTF-8, no JSON, unknown keys, wrong types."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not valid UTF-8 at byte {error.start}; send JSON in UTF-8") from None
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _bad_request(error, text, model) from None


def _bad_request(error: ValidationError, text: str, model: type[BaseModel]) -> BadRequest:
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return BadRequest(f"the body is not valid JSON: {first['ctx']['error']}")
    path, problem = describe(error, from_json(text), model)[0]
    return BadRequest(f"{path}: {problem}" if path else f"the body: {problem}", param=path or None)
