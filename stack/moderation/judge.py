"""Tier 3: the language model as judge; bounded are its calls, the texts that wait for one, and the time for each."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import httpx

from stack.moderation import judge_prompt
from stack.moderation.config import Tier3
from stack.telemetry.ids import current_ids
from stack.telemetry.metrics import ModerationMetrics

log = logging.getLogger(__name__)

Failure = Literal["too_long", "full", "timeout", "unreachable", "refused", "error", "garbage"]

# An engine closes idle connections (vLLM after 5 s); reusing one at that moment would fail the call.
_KEEP_ALIVE_SECONDS = 2.0


class JudgeFailed(Exception):
    """No judgement. `reason` is a label of metrics:

    too_long: more than tier3.characters. full: the wait queue has no room. timeout: tier3.timeout_seconds are over.
    unreachable: no connection. refused: the engine does not take the request, or has no such model. error: it failed.
    garbage: its answer is no judgement.
    """

    def __init__(self, reason: Failure) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Judgement:
    """What the judge says of a text."""

    score: float
    """probability that it breaks the rules"""
    tokens: int
    """of prompt and answer, as the engine counted them"""


class Judge:
    """Asks the engine. One object for all requests: it holds the bounds."""

    def __init__(self, config: Tier3, metrics: ModerationMetrics) -> None:
        self._config = config
        self._metrics = metrics
        self._slots = asyncio.Semaphore(config.concurrency)
        self._waiting = 0
        self._url = f"{str(config.upstream).rstrip('/')}/v1/chat/completions"
        self._client = httpx.AsyncClient(
            timeout=None,  # asyncio's, over all of it
            limits=httpx.Limits(max_connections=config.concurrency, keepalive_expiry=_KEEP_ALIVE_SECONDS),
            headers={"accept-encoding": "identity", "content-type": "application/json"},
            trust_env=False,
        )

    async def judge(self, text: str) -> Judgement:
        """The judgement of normalised `text`. Raises JudgeFailed."""
        if len(text) > self._config.characters:
            raise JudgeFailed("too_long")
        if self._slots.locked() and self._waiting >= self._config.queue:
            raise JudgeFailed("full")
        try:
            async with asyncio.timeout(self._config.timeout_seconds), self._slot():
                return await self._ask(text)
        except TimeoutError:
            raise JudgeFailed("timeout") from None

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        self._waiting += 1
        self._metrics.judge_waiting.set(self._waiting)
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
            self._metrics.judge_waiting.set(self._waiting)
        self._metrics.judge_in_flight.inc()
        started = perf_counter()
        try:
            yield
        finally:
            self._metrics.judge_seconds.observe(perf_counter() - started)
            self._metrics.judge_in_flight.dec()
            self._slots.release()

    async def _ask(self, text: str) -> Judgement:
        body = json.dumps(judge_prompt.request(self._config.model, text), ensure_ascii=False).encode()
        ids = current_ids.get()
        headers = {"traceparent": ids.traceparent, "x-request-id": ids.request_id} if ids else {}
        try:
            response = await self._client.post(self._url, content=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise JudgeFailed("unreachable") from None
        except httpx.HTTPError:
            raise JudgeFailed("error") from None
        if response.status_code in (400, 404, 413, 422):
            # Its message may quote the text; that no such model is served is what the status tells.
            log.warning("the judge's engine refuses", extra={"engine_status": response.status_code})
            raise JudgeFailed("refused")
        if response.status_code != httpx.codes.OK:
            raise JudgeFailed("error")
        return self._read(response)

    def _read(self, response: httpx.Response) -> Judgement:
        try:
            answer = response.json()
            usage = answer.get("usage") or {}
            tokens = int(usage.get("total_tokens") or 0)
            score = judge_prompt.probability(answer)
        except (ValueError, TypeError, AttributeError, ArithmeticError):
            raise JudgeFailed("garbage") from None
        self._metrics.judge_tokens.inc(max(0, tokens))
        if score is None or not 0 <= score <= 1:
            raise JudgeFailed("garbage")
        return Judgement(score, tokens)

    async def close(self) -> None:
        """Close the connections to the engine."""
        await self._client.aclose()
