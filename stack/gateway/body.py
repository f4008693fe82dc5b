"""Reads the body of a request, no more of it and no longer than allowed."""

import asyncio

from starlette.requests import ClientDisconnect, Request

from stack.gateway.errors import BodyTooLarge, BodyTooSlow, CallerLeft


async def read_body(request: Request, most_bytes: int, seconds: float) -> bytes:
    """Raises BodyTooLarge (by its Content-Length, or as it comes), BodyTooSlow, CallerLeft."""
    too_large = BodyTooLarge(f"the body has more than {most_bytes} bytes; shorten the messages")
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
