"""The drift monitor as a service: metrics for Prometheus, and the windows that it has looked at."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from stack.drift.config import DriftConfig
from stack.drift.monitor import Looked
from stack.drift.watch import Watch
from stack.service.app import create_service
from stack.telemetry.metrics import DriftMetrics


class Detection(BaseModel):
    detector: str
    reference: str
    distance: float
    usual: float
    limit: float
    p_value: float
    beyond: bool
    in_a_row: int
    drift: bool


class Window(BaseModel):
    number: int
    begun: float
    ended: float
    searches: int
    no_answer: float
    compared: list[Detection]


class Windows(BaseModel):
    windows: list[Window]


def build(config: DriftConfig, folder: Path) -> FastAPI:
    """The application; relative paths of the configuration count from `folder`. Raises ConfigError."""
    metrics = DriftMetrics()
    watch = Watch(config, folder, metrics)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        watch.start()
        try:
            yield
        finally:
            watch.stop()

    app = create_service(
        title="Drift monitor",
        version="1",
        body_bytes=1024,
        metrics=metrics,
        registry=metrics.registry,
        ready=list,  # it watches from the start; what it still waits for is in /v1/windows and in its metrics
        lifespan=running,
    )

    @app.get("/v1/windows")
    async def windows() -> Windows:
        """The windows so far, the latest last."""
        return Windows.model_validate({"windows": [_told(one) for one in watch.looked]})

    return app


def _told(looked: Looked) -> dict[str, Any]:
    """A window as it is answered."""
    return vars(looked) | {"compared": [vars(one) for one in looked.compared]}
