"""The gateway, and the fake engine behind it, for the tests of this folder."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from fake_engine import FakeEngine
from gateway_process import (
    GatewayProcess,
    StartGateway,
    free_port,
    gateway_config,
    listening_socket,
    merged,
    spawn,
    wait_until,
    write_config,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@pytest.fixture(scope="session")
def _engine() -> Iterator[FakeEngine]:
    listener = listening_socket()
    engine = FakeEngine(url=f"http://127.0.0.1:{listener.getsockname()[1]}")

    async def completions(request: Request) -> Response:
        body = await request.json()
        engine.requests.append(request)
        engine.bodies.append(body)
        return await engine.behave(request, body)

    async def readyz(_: Request) -> Response:
        return JSONResponse({"canary": engine.ready}, status_code=200 if engine.ready else 503)

    app = Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"]), Route("/readyz", readyz)])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the fake engine starts")
    yield engine
    server.should_exit = True
    thread.join(timeout=10)


@pytest.fixture
def engine(_engine: FakeEngine) -> FakeEngine:
    _engine.reset()
    return _engine


@pytest.fixture(scope="session")
def start_gateway(_engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    """Starts a gateway with changes to the test configuration; all are stopped at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(ready: bool = True, **changes: Any) -> GatewayProcess:
        folder = tmp_path_factory.mktemp("gateway")
        port = free_port()
        config_file = write_config(folder, merged(gateway_config(_engine.url, port), changes))
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
def gateway(_shared_gateway: GatewayProcess, engine: FakeEngine) -> GatewayProcess:
    """The gateway most tests share, ready."""
    ready = _shared_gateway.url + "/readyz"
    wait_until(lambda: httpx.get(ready, trust_env=False).status_code == 200, "the gateway is ready again")
    return _shared_gateway
