"""The retrieval service as an ASGI application."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from stack.rag.admin import admin_routes
from stack.rag.answer import Answers
from stack.rag.asking import asking_routes
from stack.rag.config import RagConfig
from stack.rag.engine import Engine, engine_client
from stack.rag.hits import RetrievalError
from stack.rag.prompt import PromptBuilder
from stack.rag.routes import reading_routes
from stack.rag.service import RagService
from stack.service.app import create_service
from stack.service.audit import Audit
from stack.service.readiness import Readiness
from stack.settings import ConfigError
from stack.telemetry.metrics import RagMetrics


def create_app(config: RagConfig, folder: Path) -> FastAPI:
    """The application; paths of `config` count from `folder`. Raises ConfigError for what shows only now."""
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it tells of every step of its work
    metrics = RagMetrics()
    answerer = config.answerer
    try:
        service = RagService(config, folder, metrics)
        prompts = PromptBuilder(config.prompt, folder / answerer.tokenizer, answerer.context_tokens)
        audit = Audit(config.audit, folder)
    except (RetrievalError, OSError) as problem:
        raise ConfigError("rag.yaml", [f"rag: {problem}"]) from problem
    client = engine_client(config)
    readiness = Readiness(answerer, client, metrics.engine_ready)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        with audit.writing():
            async with service.running(app), client:
                watcher = asyncio.create_task(readiness.watch())
                try:
                    yield
                finally:
                    watcher.cancel()

    app = create_service(
        title="Retrieval",
        version="1",
        body_bytes=config.limits.body_bytes,
        metrics=metrics,
        registry=metrics.registry,
        ready=lambda: service.keeper.reasons,
        final=lambda: service.keeper.stuck,
        lifespan=running,
    )
    app.include_router(reading_routes(service))
    app.include_router(admin_routes(service))
    answers = Answers(service, prompts, Engine(config, client), readiness, audit)
    app.include_router(asking_routes(answers, answerer.model, config.limits))
    return app
