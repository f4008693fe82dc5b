"""The gateway's side of the engine: calls of its chat completions."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from time import perf_counter
from typing import Any

import httpx

from stack.gateway.call import Call
from stack.gateway.config import GatewayConfig, Upstream
from stack.gateway.errors import (
    EngineBusy,
    EngineFailed,
    EngineRefused,
    EngineUnreachable,
    GatewayError,
)

log = logging.getLogger(__name__)

# An engine closes idle connections (vLLM after 5 s); reusing one at that moment would fail the request.
_KEEP_ALIVE_SECONDS = 2.0
# The client's pool looks at every idle connection for every request: with hundreds that costs milliseconds.
_KEEP_ALIVE_CONNECTIONS = 16
_SPARE_CONNECTIONS = 8


def engine_client(config: GatewayConfig) -> httpx.AsyncClient:
    """A client with a connection for every request in flight. Proxies of the environment are not for it."""
    most = config.limits.in_flight + _SPARE_CONNECTIONS
    return httpx.AsyncClient(
        timeout=httpx.Timeout(None, connect=config.timeouts.connect_seconds),
        limits=httpx.Limits(
            max_connections=most,
            max_keepalive_connections=_KEEP_ALIVE_CONNECTIONS,
            keepalive_expiry=_KEEP_ALIVE_SECONDS,
        ),
        headers={"accept-encoding": "identity", "content-type": "application/json"},
        trust_env=False,
    )


class Engine:
    """Calls the engine."""

    def __init__(self, upstream: Upstream, client: httpx.AsyncClient) -> None:
        self._url = f"{str(upstream.base_url).rstrip('/')}/v1/chat/completions"
        self._client = client

    @asynccontextmanager
    async def answer(self, body: dict[str, Any], call: Call) -> AsyncIterator[httpx.Response]:
        """The engine's 200 answer, its content unread; leaving the block early makes the engine stop.

        Raises EngineUnreachable, EngineRefused, EngineBusy, EngineFailed, also for faults inside the block.
        """
        headers = {"traceparent": call.ids.traceparent, "x-request-id": call.ids.request_id}
        content = json.dumps(body, ensure_ascii=False).encode()
        request = self._client.build_request("POST", self._url, content=content, headers=headers)
        call.engine_called = perf_counter()
        try:
            with call.waiting():
                response = await self._client.send(request, stream=True)
            async with aclosing(response):
                if response.status_code != httpx.codes.OK:
                    raise _refusal(response.status_code, await response.aread())
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise EngineUnreachable("the engine cannot be reached; try again later") from error
        except httpx.HTTPError as error:
            raise EngineFailed("the engine broke off its answer; try again") from error


def _refusal(status: int, content: bytes) -> GatewayError:
    if status in (429, 503):
        return EngineBusy("the engine has no room for this request; try again later")
    if status in (400, 413, 422):
        return EngineRefused(f"the engine refused the request: {_message(content)}")
    log.error("engine answered with an error", extra={"engine_status": status})
    return EngineFailed(f"the engine answered with status {status}")


def _message(content: bytes) -> str:
    """The text of an error in OpenAI's shape, or what there is instead."""
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return content[:200].decode("utf-8", "replace")
