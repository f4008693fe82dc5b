"""The gateway as a process: how it starts, what it refuses to start with, how it stops."""

import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine
from gateway_process import (
    CHAT,
    RENDER,
    StartGateway,
    free_port,
    gateway_config,
    merged,
    question,
    spawn,
    write_config,
)


def test_sigterm_ends_open_streams_with_an_error_event_within_three_seconds(
    start_gateway: StartGateway, engine: FakeEngine
) -> None:
    gateway = start_gateway()
    engine.behave = engine.says("Yes", gate_after=1)
    with gateway.client() as client, client.stream("POST", CHAT, json=question(stream=True)) as response:
        chunks = response.iter_bytes()
        assert b"assistant" in next(chunks)
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        rest = b"".join(chunks)
        assert gateway.process.wait(timeout=10) == 0
        assert time.monotonic() - began < 3
    assert b'"shutting_down"' in rest
    assert engine.was_abandoned()
    assert "Traceback" not in gateway.log_file.read_text()


def run(tmp_path: Path, config: dict[str, Any], *arguments: str) -> tuple[int, str]:
    process = spawn(write_config(tmp_path, config), tmp_path / "log", *arguments)
    try:
        return process.wait(timeout=20), (tmp_path / "log").read_text()
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        pytest.fail("the gateway runs on")


def test_a_host_that_others_reach_is_refused(tmp_path: Path) -> None:
    config = merged(gateway_config("http://127.0.0.1:1", 20000), {"listen": {"host": "0.0.0.0"}})
    status, output = run(tmp_path, config)
    assert status == 2
    assert output.startswith("gateway.yaml: listen: host 0.0.0.0 is no loopback address")


def test_an_unknown_template_variable_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    config = gateway_config("http://127.0.0.1:1", 20000)
    config["assistants"]["desk"]["messages"][2]["content"] = "{{ qestion }}"
    status, output = run(tmp_path, config)
    assert status == 2
    assert output == (
        "gateway.yaml: assistants.desk.messages.2.content: unknown variable 'qestion'; did you mean 'question'?\n"
    )


def test_a_port_that_is_taken_is_a_clear_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, output = run(tmp_path, gateway_config("http://127.0.0.1:1", port))
    assert status == 1
    assert output == (
        f"gateway: cannot listen on 127.0.0.1:{port}: Address already in use; set listen.port to a free port\n"
    )


def test_check_validates_the_configuration_and_the_keys_and_starts_nothing(tmp_path: Path) -> None:
    config = gateway_config("http://127.0.0.1:1", free_port())
    status, output = run(tmp_path, config, "--check")
    assert (status, output) == (0, f"{tmp_path / 'gateway.yaml'}: valid\n")
    config["tenants"].append({"name": "third", "assistants": []})
    status, output = run(tmp_path, config, "--check")
    assert status == 2
    assert "keys.json: tenant 'third' has no key" in output


def test_help_teaches_the_routes_the_keys_file_and_a_first_request(tmp_path: Path) -> None:
    status, output = run(tmp_path, {}, "--help")
    assert status == 0
    for word in (CHAT, RENDER, "/readyz", "keys.json", "sha256sum", "curl", "--check"):
        assert word in output
