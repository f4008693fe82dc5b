"""The gateway, the moderation service, and the fake services behind them, for the tests of this folder."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fake_engine import FakeEngine
from gateway_fixtures import (  # noqa: F401 - fixtures
    _engine,
    _moderation,
    _retrieval,
    _shared_gateway,
    engine,
    fake_moderation,
    fake_retrieval,
    gateway,
    gateways,
    start_gateway,
    start_module_gateway,
)
from gateway_process import free_port
from moderation_process import ModerationProcess, StartModeration, served_moderation, start_moderation_in
from rag_process import rag, rag_vectors, shared_rag, start_rag  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def spawn_moderation(
    _engine: FakeEngine,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StartModeration]:
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
def start_moderation(
    _engine: FakeEngine,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StartModeration]:
    """Starts a moderation service in a thread, with changes to the test configuration; all are stopped at the end."""
    with ExitStack() as services:

        def start(**changes: Any) -> ModerationProcess:
            folder = tmp_path_factory.mktemp("moderation")
            return services.enter_context(served_moderation(folder, _engine.url, **changes))

        yield start
