"""Calls of the engine that writes answers: OpenAI's chat completions, always streamed, as pieces of text.

ServiceError
  EngineRefused            400
  CallerLeft               499, never seen by a caller
  EngineUnreachable        502
  EngineFailed             502
  EngineBusy               503
  FirstTokenTimeout        504
  TotalTimeout             504
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, ClassVar

import httpx

from stack.rag.config import RagConfig
from stack.service.errors import ServiceError
from stack.telemetry.ids import Ids

log = logging.getLogger(__name__)

# An engine closes idle connections (vLLM after 5 s); reusing one at that moment would fail the request.
_KEEP_ALIVE_SECONDS = 2.0
_SPARE_CONNECTIONS = 8


class EngineRefused(ServiceError):
    """The engine answered 4xx: the prompt does not fit the model, for example."""

    status, type, code = 400, "invalid_request_error", "engine_refused"


class CallerLeft(ServiceError):
    """The caller closed the connection; the status is nginx's for the same event."""

    status, code = 499, "caller_left"


class EngineUnreachable(ServiceError):
    """No connection to the engine."""

    status, code = 502, "engine_unreachable"


class EngineFailed(ServiceError):
    """The engine answered 5xx, or broke off its answer."""

    status, code = 502, "engine_failed"


class EngineBusy(ServiceError):
    """The engine turned the question away for lack of room."""

    status, code = 503, "engine_busy"
    headers: ClassVar = {"retry-after": "1"}


class FirstTokenTimeout(ServiceError):
    """No text of an answer within timeouts.first_token_seconds."""

    status, type, code = 504, "timeout_error", "first_token_timeout"


class TotalTimeout(ServiceError):
    """The answer was not complete within timeouts.total_seconds."""

    status, type, code = 504, "timeout_error", "total_timeout"


ENGINE = (EngineRefused, EngineUnreachable, EngineFailed, EngineBusy, FirstTokenTimeout, TotalTimeout)
"""What a route that asks the engine may answer."""


@dataclass
class Ending:
    """How an answer ended; filled in while it comes."""

    finish_reason: str = "stop"
    usage: dict[str, Any] = field(default_factory=dict)


def engine_client(config: RagConfig) -> httpx.AsyncClient:
    """A client with a connection for every question in progress. Proxies of the environment are not for it."""
    most = config.limits.asks + _SPARE_CONNECTIONS
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=config.timeouts.connect_seconds),
        limits=httpx.Limits(max_connections=most, keepalive_expiry=_KEEP_ALIVE_SECONDS),
        headers={"accept-encoding": "identity", "content-type": "application/json"},
        trust_env=False,
    )


class Engine:
    """The engine that the configuration names."""

    def __init__(self, config: RagConfig, client: httpx.AsyncClient) -> None:
        self._url = f"{str(config.answerer.base_url).rstrip('/')}/v1/chat/completions"
        self._timeouts = config.timeouts
        self._client = client

    async def pieces(self, body: dict[str, Any], ids: Ids, ending: Ending) -> AsyncIterator[str]:
        """The answer's text, piece by piece; leaving early makes the engine stop. Raises one of ENGINE."""
        now = asyncio.get_running_loop().time()
        end = now + self._timeouts.total_seconds
        first = min(now + self._timeouts.first_token_seconds, end)
        has_text = False
        async with aclosing(self._events(body, ids)) as events:
            while True:
                try:
                    async with asyncio.timeout_at(end if has_text else first):
                        event = await anext(events, None)
                except TimeoutError:
                    raise self._too_late(has_text or first == end) from None
                if event is None:
                    return
                if text := _noted(event, ending):
                    has_text = True
                    yield text

    def _too_late(self, total: bool) -> ServiceError:
        if total:
            return TotalTimeout(f"the answer was not complete within {self._timeouts.total_seconds:g} s")
        return FirstTokenTimeout(f"no text within {self._timeouts.first_token_seconds:g} s")

    async def _events(self, body: dict[str, Any], ids: Ids) -> AsyncIterator[dict[str, Any]]:
        """The events of a stream that ends as it should."""
        headers = {"traceparent": ids.traceparent, "x-request-id": ids.request_id}
        content = json.dumps(
            {**body, "stream": True, "stream_options": {"include_usage": True}}, ensure_ascii=False
        ).encode()
        request = self._client.build_request("POST", self._url, content=content, headers=headers)
        try:
            response = await self._client.send(request, stream=True)
            async with aclosing(response):
                if response.status_code != httpx.codes.OK:
                    raise _refusal(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                    if data == "[DONE]":
                        return
                    if data:
                        yield _event(data)
                raise EngineFailed("the engine broke off its answer; try again")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise EngineUnreachable("the engine cannot be reached; try again later") from error
        except httpx.HTTPError as error:
            raise EngineFailed("the engine broke off its answer; try again") from error


def _event(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise EngineFailed("the engine sent an event that is no part of an answer; try again")
    if "error" in event:
        raise EngineFailed("the engine failed within its answer; try again")
    return event


def _noted(event: dict[str, Any], ending: Ending) -> str:
    """The text in an event; what it says of the end goes into `ending`."""
    try:
        if event.get("usage"):
            ending.usage = event["usage"]
        text = ""
        for choice in event.get("choices") or []:
            ending.finish_reason = choice.get("finish_reason") or ending.finish_reason
            text += (choice.get("delta") or {}).get("content") or ""
        return text
    except (TypeError, AttributeError):
        raise EngineFailed("the engine sent an event that is no part of an answer; try again") from None


def _refusal(status: int, content: bytes) -> ServiceError:
    if status in (429, 503):
        return EngineBusy("the engine has no room for this question; try again later")
    if status in (400, 413, 422):
        # The engine's words are about a prompt with passages in it: they go to the log of those who run this.
        log.error("engine refused", extra={"engine_status": status})
        return EngineRefused("the engine refused the prompt; ask a shorter question")
    log.error("engine answered with an error", extra={"engine_status": status})
    return EngineFailed(f"the engine answered with status {status}")
