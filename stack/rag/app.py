"""The retrieval service as an ASGI application."""

import logging
from pathlib import Path

from fastapi import FastAPI

from stack.rag.config import RagConfig
from stack.rag.hits import RetrievalError
from stack.rag.routes import reading_routes
from stack.rag.service import RagService
from stack.service.app import create_service
from stack.settings import ConfigError
from stack.telemetry.metrics import RagMetrics


def create_app(config: RagConfig, folder: Path) -> FastAPI:
    """The application; paths of `config` count from `folder`. Raises ConfigError for what shows only now."""
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it tells of every step of its work
    metrics = RagMetrics()
    try:
        service = RagService(config, folder, metrics)
    except RetrievalError as problem:
        raise ConfigError("rag.yaml", [f"rag: {problem}"]) from problem
    app = create_service(
        title="Retrieval",
        version="1",
        body_bytes=config.limits.body_bytes,
        metrics=metrics,
        registry=metrics.registry,
        ready=lambda: service.keeper.reasons,
        lifespan=service.running,
    )
    app.include_router(reading_routes(service))
    return app
