"""The gateway, and the fake services behind it, for the tests of this folder."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
def engine(_engine: FakeEngine) -> Iterator[FakeEngine]:
    _engine.reset()
    yield _engine
    _engine.reset()  # for fixtures of a module, which come before those of its tests


@pytest.fixture(scope="session")
def _retrieval() -> Iterator[FakeRetrieval]:
    retrieval = FakeRetrieval()
    with serving(retrieval.app()) as retrieval.url:
        yield retrieval


@pytest.fixture
def fake_retrieval(_retrieval: FakeRetrieval) -> Iterator[FakeRetrieval]:
    _retrieval.reset()
    yield _retrieval
    _retrieval.reset()  # for fixtures of a module, which come before those of its tests


@pytest.fixture(scope="session")
def _moderation() -> Iterator[FakeModeration]:
    moderation = FakeModeration()
    with serving(moderation.app()) as moderation.url:
        yield moderation


@pytest.fixture
def fake_moderation(_moderation: FakeModeration) -> Iterator[FakeModeration]:
    _moderation.reset()
    yield _moderation
    _moderation.reset()  # for fixtures of a module, which come before those of its tests


@pytest.fixture(scope="session")
def gateways(
    _engine: FakeEngine,
    _retrieval: FakeRetrieval,
    _moderation: FakeModeration,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[], AbstractContextManager[StartGateway]]:
    """A context in which gateways are started with changes to the test configuration; they are stopped at its end."""

    @contextmanager
    def running() -> Iterator[StartGateway]:
        started: list[GatewayProcess] = []

        def start(ready: bool = True, **changes: Any) -> GatewayProcess:
            folder = tmp_path_factory.mktemp("gateway")
            port = free_port()
            config = gateway_config(_engine.url, port, _retrieval.url, _moderation.url)
            config_file = write_config(folder, merged(config, changes))
            log_file = folder / "log.jsonl"
            gateway = GatewayProcess(spawn(config_file, log_file), f"http://127.0.0.1:{port}", log_file)
            started.append(gateway)
            wait_until(lambda: _is_up(gateway, "/readyz" if ready else "/healthz"), "the gateway is up", seconds=20)
            return gateway

        try:
            yield start
        finally:
            for gateway in started:
                if gateway.process.poll() is None:
                    gateway.process.send_signal(signal.SIGTERM)
            for gateway in started:
                gateway.process.wait(timeout=10)

    return running


def _is_up(gateway: GatewayProcess, path: str) -> bool:
    if gateway.process.poll() is not None:
        pytest.fail(f"the gateway ended with {gateway.process.returncode}: {gateway.log_file.read_text()}")
    try:
        return httpx.get(gateway.url + path, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def start_gateway(gateways: Callable[[], AbstractContextManager[StartGateway]]) -> Iterator[StartGateway]:
    """Starts a gateway with changes to the test configuration, for one test."""
    with gateways() as start:
        yield start


@pytest.fixture(scope="module")
def start_module_gateway(gateways: Callable[[], AbstractContextManager[StartGateway]]) -> Iterator[StartGateway]:
    """The same for all tests of a module."""
    with gateways() as start:
        yield start


@pytest.fixture(scope="session")
def _shared_gateway(gateways: Callable[[], AbstractContextManager[StartGateway]]) -> Iterator[GatewayProcess]:
    with gateways() as start:
        yield start()


@pytest.fixture
def gateway(
    _shared_gateway: GatewayProcess, engine: FakeEngine, fake_retrieval: FakeRetrieval, fake_moderation: FakeModeration
) -> GatewayProcess:
    """The gateway most tests share, ready, with all behind it."""
    ready, all_ready = _shared_gateway.url + "/readyz", {"ready": True, "reasons": [], "degraded": {}}
    wait_until(lambda: httpx.get(ready, trust_env=False).json() == all_ready, "the gateway is ready again")
    return _shared_gateway
