"""The gateway, the moderation service, and the fake services behind them, for the tests of this folder."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine
from fake_services import FakeModeration, FakeRetrieval, serving
from gateway_process import (
    GatewayProcess,
    StartGateway,
    free_port,
    gateway_config,
    merged,
    spawn,
    wait_until,
    write_config,
)
from moderation_process import ModerationProcess, StartModeration, served_moderation, start_moderation_in
from rag_process import rag, shared_rag, start_rag  # noqa: F401 - fixtures
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@pytest.fixture(scope="session")
def _engine() -> Iterator[FakeEngine]:
    engine = FakeEngine(url="")

    async def completions(request: Request) -> Response:
        body = await request.json()
        engine.requests.append(request)
        engine.bodies.append(body)
        return await engine.behave(request, body)

    async def readyz(_: Request) -> Response:
        return JSONResponse({"canary": engine.ready}, status_code=200 if engine.ready else 503)

    app = Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"]), Route("/readyz", readyz)])
    with serving(app) as engine.url:
        yield engine


@pytest.fixture
def engine(_engine: FakeEngine) -> FakeEngine:
    _engine.reset()
    return _engine


@pytest.fixture(scope="session")
def _retrieval() -> Iterator[FakeRetrieval]:
    retrieval = FakeRetrieval()
    with serving(retrieval.app()) as retrieval.url:
        yield retrieval


@pytest.fixture
def fake_retrieval(_retrieval: FakeRetrieval) -> FakeRetrieval:
    _retrieval.reset()
    return _retrieval


@pytest.fixture(scope="session")
def _moderation() -> Iterator[FakeModeration]:
    moderation = FakeModeration()
    with serving(moderation.app()) as moderation.url:
        yield moderation


@pytest.fixture
def fake_moderation(_moderation: FakeModeration) -> FakeModeration:
    _moderation.reset()
    return _moderation


@pytest.fixture(scope="session")
def start_gateway(
    _engine: FakeEngine,
    _retrieval: FakeRetrieval,
    _moderation: FakeModeration,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StartGateway]:
    """Starts a gateway with changes to the test configuration; all are stopped at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(ready: bool = True, **changes: Any) -> GatewayProcess:
        folder = tmp_path_factory.mktemp("gateway")
        port = free_port()
        config = gateway_config(_engine.url, port, _retrieval.url, _moderation.url)
        config_file = write_config(folder, merged(config, changes))
        log_file = folder / "log.jsonl"
        process = spawn(config_file, log_file)
        started.append(process)
        gateway = GatewayProcess(process, f"http://127.0.0.1:{port}", log_file)
        path = "/readyz" if ready else "/healthz"

        def up() -> bool:
            if process.poll() is not None:
                pytest.fail(f"the gateway ended with {process.returncode}: {log_file.read_text()}")
            try:
                return httpx.get(gateway.url + path, trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(up, f"{path} answers 200", seconds=20)
        return gateway

    yield start
    for process in started:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
    for process in started:
        process.wait(timeout=10)


@pytest.fixture(scope="session")
def _shared_gateway(start_gateway: StartGateway) -> GatewayProcess:
    return start_gateway()


@pytest.fixture
def gateway(
    _shared_gateway: GatewayProcess, engine: FakeEngine, fake_retrieval: FakeRetrieval, fake_moderation: FakeModeration
) -> GatewayProcess:
    """The gateway most tests share, ready, with all behind it."""
    ready, all_ready = _shared_gateway.url + "/readyz", {"ready": True, "reasons": [], "degraded": {}}
    wait_until(lambda: httpx.get(ready, trust_env=False).json() == all_ready, "the gateway is ready again")
    return _shared_gateway


@pytest.fixture(scope="session")
def spawn_moderation(_engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartModeration]:
    """Starts a moderation service as a process, with changes to the test configuration; all are stopped at the end."""
    started: list[ModerationProcess] = []

    def start(**changes: Any) -> ModerationProcess:
        service = start_moderation_in(tmp_path_factory.mktemp("moderation"), _engine.url, free_port(), **changes)
        started.append(service)
        return service

    yield start
    for service in started:
        if service.process.poll() is None:
            service.process.send_signal(signal.SIGTERM)
    for service in started:
        service.process.wait(timeout=30)


@pytest.fixture(scope="module")
def start_moderation(_engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartModeration]:
    """Starts a moderation service in a thread, with changes to the test configuration; all are stopped at the end."""
    with ExitStack() as services:

        def start(**changes: Any) -> ModerationProcess:
            folder = tmp_path_factory.mktemp("moderation")
            return services.enter_context(served_moderation(folder, _engine.url, **changes))

        yield start
