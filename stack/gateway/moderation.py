"""Asks the moderation service about texts, and turns its decision, or its silence, into what happens to the request."""

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Literal

from stack.gateway.call import Call
from stack.gateway.config.routes import ModerationUse
from stack.gateway.config.upstreams import Moderation
from stack.gateway.errors import (
    ContentFiltered,
    ContentUnchecked,
    GatewayError,
    ModerationUnavailable,
    NotReady,
    TotalTimeout,
    UnderReview,
    UpstreamRefused,
)
from stack.gateway.sse import BrokenAnswer
from stack.gateway.upstream import Upstream
from stack.service.readiness import Readiness
from stack.telemetry.metrics import GatewayMetrics

log = logging.getLogger(__name__)

PATH = "/v1/moderations"

Stage = Literal["input", "output"]
Decision = Literal["allow", "review", "block"]

# Of several texts the worst decides.
_BY_SEVERITY: tuple[Decision, ...] = ("block", "review", "allow")
_OVERLAP_CHARS = 50  # between the pieces of a long text, so that no phrase is cut in two unseen
_WRITER = {"input": "the request", "output": "the answer"}


class Moderator:
    """Checks texts."""

    def __init__(self, config: Moderation, upstream: Upstream, readiness: Readiness, metrics: GatewayMetrics) -> None:
        self._config = config
        self._upstream = upstream
        self._readiness = readiness
        self._metrics = metrics

    async def check(
        self,
        stage: Stage,
        texts: Sequence[str],
        use: ModerationUse,
        call: Call,
        headers: Mapping[str, str],
    ) -> None:
        """Returns when the texts may pass.

        Raises ContentFiltered, UnderReview, ContentUnchecked; ModerationUnavailable where `use` says so.
        """
        try:
            self._readiness.require(NotReady)
            decision = await self._ask(texts, call, headers)
        except UpstreamRefused as refusal:
            self._count(stage, "refused", call)
            # Not for on_error to decide: else a text that is too long to be read would be a way around moderation.
            raise ContentUnchecked(f"{_WRITER[stage]} cannot be checked: {refusal.message}") from refusal
        except GatewayError as error:
            self._count(stage, "error", call)
            self._degraded(stage, use.on_error, error)
            return
        self._count(stage, decision, call)
        if decision == "block":
            raise ContentFiltered(f"{_WRITER[stage]} was stopped by the content policy")
        if decision == "review" and use.on_review == "hold":
            raise UnderReview(f"{_WRITER[stage]} is held until people have decided about it")

    async def _ask(self, texts: Sequence[str], call: Call, headers: Mapping[str, str]) -> Decision:
        """The worst decision about any of the texts. Raises GatewayErrors."""
        pieces = [piece for text in texts for piece in self._pieces(text)]
        worst: Decision = "allow"
        for start in range(0, len(pieces), self._config.pieces):
            decisions = await self._call(pieces[start : start + self._config.pieces], call, headers)
            worst = min(worst, *decisions, key=_BY_SEVERITY.index)
            if worst == "block":
                break
        return worst

    def _pieces(self, text: str) -> Iterator[str]:
        most = self._config.piece_chars
        for start in range(0, max(1, len(text) - _OVERLAP_CHARS), most - _OVERLAP_CHARS):
            yield text[start : start + most]

    async def _call(self, texts: Sequence[str], call: Call, headers: Mapping[str, str]) -> list[Decision]:
        name, seconds = self._upstream.kind.name, self._config.timeouts.total_seconds
        content = json.dumps({"input": texts}, ensure_ascii=False).encode()
        timer = asyncio.timeout(seconds)
        began, outcome = perf_counter(), "ok"
        try:
            async with timer, self._upstream.post(PATH, content, call, timer.expired, headers) as response:
                with call.waiting(name):
                    answer = await response.aread()
                return _decisions(answer, len(texts))
        except TimeoutError:
            outcome = TotalTimeout.code
            raise TotalTimeout(f"no decision within {seconds:g} s") from None
        except GatewayError as error:
            outcome = error.code
            raise
        finally:
            self._metrics.upstream_duration.labels(name, call.assistant, outcome).observe(perf_counter() - began)

    def _count(self, stage: Stage, decision: str, call: Call) -> None:
        self._metrics.moderation.labels(stage, decision).inc()
        call.moderation[stage] = decision

    def _degraded(self, stage: Stage, mode: Literal["block", "allow"], error: GatewayError) -> None:
        self._metrics.moderation_degraded.labels(stage, mode).inc()
        log.warning("moderation could not be asked", extra={"stage": stage, "mode": mode, "error": error.code})
        if mode == "block":
            raise ModerationUnavailable(f"{_WRITER[stage]} cannot be checked now; try again later") from error


def _decisions(answer: bytes, texts: int) -> list[Decision]:
    """One for each text. Raises BrokenAnswer."""
    try:
        decisions = [result["decision"] for result in json.loads(answer)["results"]]
    except (ValueError, LookupError, TypeError):
        decisions = []
    if len(decisions) != texts or not set(decisions) <= set(_BY_SEVERITY):
        raise BrokenAnswer("gave no decision for each text")
    return decisions
