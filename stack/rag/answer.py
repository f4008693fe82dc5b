"""Answers a question: search, prompt, engine, and the answer with what it may cite, whole or as a stream."""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, ClassVar

from stack.rag.access import Identity
from stack.rag.engine import Ending, Engine
from stack.rag.live import Serving
from stack.rag.prompt import PromptBuilder, Rendered, citations
from stack.rag.schemas import AnswerMessage, AskAnswer, AskRequest, Choice, Citation, Usage
from stack.rag.service import RagService, version_of
from stack.service.audit import Audit
from stack.service.errors import ServiceError, TooMany
from stack.service.readiness import Readiness
from stack.telemetry.ids import Ids
from stack.telemetry.logs import utc

log = logging.getLogger(__name__)

_NO_PROMPT = Rendered([], (), 0, 0)


class TooManyAsks(TooMany):
    """More questions in progress than limits.asks."""

    code: ClassVar = "too_many_asks"


@dataclass
class Asked:
    """One question on its way. Moments are readings of `perf_counter`."""

    collection: str
    question: str
    serving: Serving
    prompt: Rendered
    ids: Ids
    body: dict[str, Any] | None
    """What the engine is asked; None where nothing was found and it is not asked."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    called: float = field(default_factory=perf_counter)
    text: str = ""
    ending: Ending = field(default_factory=Ending)

    @property
    def citations(self) -> list[Citation]:
        """The passages of the prompt."""
        return [
            Citation(number=number, document=passage.document, chunk=passage.chunk, title=passage.title)
            for number, passage in enumerate(self.prompt.cited, start=1)
        ]

    @property
    def usage(self) -> Usage:
        """Tokens, as the engine counted them."""
        counts = {name: self.ending.usage.get(name) or 0 for name in Usage.model_fields}
        return Usage(**counts)


class Answers:
    """Answers questions about the collections of a service."""

    def __init__(
        self, service: RagService, prompts: PromptBuilder, engine: Engine, readiness: Readiness, audit: Audit
    ) -> None:
        self._service = service
        self._prompts = prompts
        self._engine = engine
        self._readiness = readiness
        self._audit = audit
        self._metrics = service.metrics
        self._in_progress = 0

    async def ask(self, request: AskRequest, who: Identity, ids: Ids) -> tuple[Asked, AsyncGenerator[str]]:
        """The question with its prompt, and its answer piece by piece; the first piece is there already.

        Raises what a search raises, TooManyAsks, NotReady, QuestionTooLong, and the engine's errors.
        """
        if self._in_progress >= self._service.config.limits.asks:
            raise TooManyAsks(f"{self._in_progress} questions are in progress, which is the limit; try again shortly")
        pieces = self._counted(request, who, ids)
        asked = await anext(pieces)
        assert isinstance(asked, Asked)
        return asked, pieces

    async def _counted(self, request: AskRequest, who: Identity, ids: Ids) -> AsyncGenerator[Any]:
        """First the question, once the engine has begun to answer it, then pieces of text."""
        self._in_progress += 1
        self._metrics.asks_in_flight.set(self._in_progress)
        try:
            asked = await self._prepare(request, who, ids)
            async with aclosing(self._observed(asked)) as pieces:
                first = await anext(pieces, "")
                yield asked
                yield first
                async for piece in pieces:
                    yield piece
        finally:
            self._in_progress -= 1
            self._metrics.asks_in_flight.set(self._in_progress)

    async def _prepare(self, request: AskRequest, who: Identity, ids: Ids) -> Asked:
        name, config = request.collection, self._service.config
        serving, found = await self._service.search(name, request.question, None, who)
        if not found.evidence:
            self._metrics.no_evidence.labels(name).inc()
            return Asked(name, request.question, serving, _NO_PROMPT, ids, body=None)
        self._readiness.require()
        since = perf_counter()
        bounds = (config.limits.max_tokens, config.sampling.max_tokens, request.max_tokens)
        most = min(bound for bound in bounds if bound is not None)
        now = datetime.now(UTC)
        variables = {
            "question": request.question,
            "collection": name,
            "tenant": who.tenant,
            "request_id": ids.request_id,
            "received_at": utc(now),
            "today": now.date().isoformat(),
        }
        prompt = await self._service.compute(self._prompts.render, found.passages, variables, most)
        self._observe_prompt(name, prompt, perf_counter() - since)
        sampling = {**config.sampling.model_dump(exclude_none=True), "max_tokens": most}
        body = {"model": config.answerer.model, "messages": prompt.messages, **sampling}
        self._record(name, who, ids, prompt, now)
        return Asked(name, request.question, serving, prompt, ids, body, at=now)

    def _observe_prompt(self, name: str, prompt: Rendered, seconds: float) -> None:
        metrics = self._metrics
        metrics.stage_seconds.labels(name, "prompt").observe(seconds)
        metrics.context_tokens.labels(name).observe(prompt.context_tokens)
        metrics.context_passages.labels(name).observe(len(prompt.cited))
        metrics.context_dropped.labels(name).inc(prompt.dropped)

    def _record(self, name: str, who: Identity, ids: Ids, prompt: Rendered, now: datetime) -> None:
        """Into the audit trail."""
        self._audit.write(
            {
                "received_at": utc(now),
                "request_id": ids.request_id,
                "trace_id": ids.trace_id,
                "tenant": who.tenant,
                "collection": name,
                "chunks": [passage.chunk for passage in prompt.cited],
                "messages": prompt.messages,
            }
        )

    async def _observed(self, asked: Asked) -> AsyncGenerator[str]:
        """The answer's pieces; at its end, however it ends, metrics and a log line."""
        outcome = "failed"
        first_text: float | None = None
        error: str | None = "caller_left"
        try:
            async for piece in self._pieces(asked):
                if first_text is None:
                    first_text = perf_counter() - asked.called
                asked.text += piece
                yield piece
            outcome, error = "answered" if asked.body else "no_evidence", None
        except ServiceError as raised:
            error = raised.code
            raise
        finally:
            self._observe_answer(asked, outcome, first_text)
            log.info("answer", extra=self._told(asked, outcome, error, first_text))

    async def _pieces(self, asked: Asked) -> AsyncIterator[str]:
        if asked.body is None:
            yield self._service.config.prompt.refusal
            return
        async with aclosing(self._engine.pieces(asked.body, asked.ids, asked.ending)) as pieces:
            async for piece in pieces:
                yield piece

    def _observe_answer(self, asked: Asked, outcome: str, first_text: float | None) -> None:
        metrics, name = self._metrics, asked.collection
        metrics.answers.labels(name, outcome).inc()
        if asked.body is None:
            return
        if first_text is not None:
            metrics.stage_seconds.labels(name, "first_text").observe(first_text)
        metrics.stage_seconds.labels(name, "answer").observe(perf_counter() - asked.called)
        valid, invalid = citations(asked.text, len(asked.prompt.cited))
        metrics.citations.labels(name, "true").inc(valid)
        metrics.citations.labels(name, "false").inc(invalid)
        if outcome == "answered" and valid:
            metrics.cited_answers.labels(name).inc()
        metrics.tokens.labels(name, "prompt").inc(asked.usage.prompt_tokens)
        metrics.tokens.labels(name, "completion").inc(asked.usage.completion_tokens)

    def _told(self, asked: Asked, outcome: str, error: str | None, first_text: float | None) -> dict[str, Any]:
        fields = {
            "collection": asked.collection,
            "index": asked.serving.index.manifest.version,
            "outcome": outcome,
            "error": error,
            "passages": len(asked.prompt.cited),
            "dropped": asked.prompt.dropped,
            "context_tokens": asked.prompt.context_tokens,
            "prompt_tokens": asked.usage.prompt_tokens,
            "completion_tokens": asked.usage.completion_tokens,
            "first_text_seconds": first_text and round(first_text, 4),
            "seconds": round(perf_counter() - asked.called, 4),
        }
        if self._service.config.telemetry.prompts_in_logs:
            fields["prompt"] = asked.prompt.messages
        return fields


def whole_answer(asked: Asked, model: str) -> AskAnswer:
    """An answer that has come to its end."""
    return AskAnswer(
        id=f"chatcmpl-{asked.ids.request_id}",
        created=int(asked.at.timestamp()),
        model=model,
        choices=[Choice(message=AnswerMessage(content=asked.text), finish_reason=asked.ending.finish_reason)],
        usage=asked.usage,
        citations=asked.citations,
        collection=asked.collection,
        index=version_of(asked.serving),
    )


async def events(asked: Asked, pieces: AsyncIterator[str], model: str) -> AsyncIterator[bytes]:
    """An answer as server-sent events: the role with the citations, the text, the end with the usage, [DONE]."""
    chunk = {
        "id": f"chatcmpl-{asked.ids.request_id}",
        "object": "chat.completion.chunk",
        "created": int(asked.at.timestamp()),
        "model": model,
    }
    yield _event(
        {
            **chunk,
            **_choice({"role": "assistant", "content": ""}),
            "citations": [citation.model_dump() for citation in asked.citations],
            "collection": asked.collection,
            "index": version_of(asked.serving).model_dump(),
        }
    )
    try:
        async for piece in pieces:
            if piece:
                yield _event({**chunk, **_choice({"content": piece})})
    except ServiceError as error:
        yield b"data: " + error.body() + b"\n\n"  # the status has gone out already
        return
    yield _event({**chunk, **_choice({}, asked.ending.finish_reason), "usage": asked.usage.model_dump()})
    yield b"data: [DONE]\n\n"


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"
