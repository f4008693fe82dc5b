"""The drift monitor as a service: metrics for Prometheus, and the windows that it has looked at."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel

from stack.drift.config import DriftConfig
from stack.drift.monitor import Looked
from stack.drift.watch import Watch
from stack.service.app import create_service
from stack.telemetry.metrics import DriftMetrics


class Windows(BaseModel):
    waits_for: list[str]
    """Why nothing is compared yet; empty while something is."""
    windows: list[Looked]


def build(config: DriftConfig, folder: Path) -> FastAPI:
    """The application; relative paths of the configuration count from `folder`. Raises ConfigError."""
    metrics = DriftMetrics()
    watch = Watch(config, folder, metrics)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        with watch.background.running():
            yield

    app = create_service(
        title="Drift monitor",
        version="1",
        body_bytes=1024,
        metrics=metrics,
        registry=metrics.registry,
        ready=lambda: watch.measuring,
        lifespan=running,
    )

    @app.get("/v1/windows")
    async def windows() -> Windows:
        """The windows so far, the latest last."""
        return Windows(waits_for=watch.reasons, windows=list(watch.looked))

    return app
