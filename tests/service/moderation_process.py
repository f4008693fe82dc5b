"""The real moderation service, as a process or in a thread, and what its tests say to it and expect of it."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import yaml
from fake_engine import Behaviour
from gateway_process import ROOT, GatewayProcess, listening_socket, merged, wait_until
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stack.moderation.app import build
from stack.moderation.config import ModerationConfig
from stack.settings import parse

MODERATIONS = "/v1/moderations"
REVIEWS = "/v1/reviews"
JUDGE_TOKENS = 77


@dataclass
class ModerationProcess(GatewayProcess):
    """A running service; metrics and log are read as the gateway's are."""

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        return super().client(key, **options)

    def decide(self, text: str, **headers: str) -> dict[str, Any]:
        """The result for one text."""
        with self.client() as client:
            response = client.post(MODERATIONS, json={"input": text}, headers=headers)
        assert response.status_code == 200, response.text
        (result,) = response.json()["results"]
        return result

    def post(self, path: str, body: Any) -> httpx.Response:
        with self.client() as client:
            return client.post(path, json=body)

    def get(self, path: str) -> httpx.Response:
        with self.client() as client:
            return client.get(path)

    def lease(self, reviewer: str = "ana", limit: int = 1, **keys: Any) -> list[dict[str, Any]]:
        response = self.post(f"{REVIEWS}/lease", {"reviewer": reviewer, "limit": limit, **keys})
        assert response.status_code == 200, response.text
        return response.json()["items"]

    def act(self, item: dict[str, Any], what: str, **keys: Any) -> httpx.Response:
        return self.post(f"{REVIEWS}/{item['id']}/{what}", {"lease": item["lease"], **keys})


def moderation_config(engine_url: str, port: int) -> dict[str, Any]:
    """A configuration in which every text with a letter is uncertain, so that tests decide what becomes of it."""
    data = str(ROOT / ".cache/data")
    return {
        "schema": 1,
        "listen": {"port": port},
        "telemetry": {"log_level": "debug"},
        "limits": {"body_bytes": 20000, "inputs": 4, "characters": 2000, "in_flight": 64},
        "policy": {"version": "test-1", "categories": {}},
        "tier1": {"lists": False, "patterns": False, "data": data},
        # The classifier that is loaded fastest.
        "tier2": {
            "classifier": {"kind": "hatesonar", "data": data},
            "calibration": {"kind": "none"},
            "attributes": False,
        },
        "band": {"low": 0.0, "high": 1.0},
        "tier3": {
            "mode": "sort",
            "upstream": engine_url,
            "model": "tiny",
            "concurrency": 2,
            "queue": 2,
            "timeout_seconds": 5,
        },
        "review": {"url": "sqlite:///review.sqlite", "lease_seconds": 60},
    }


def write_moderation_config(folder: Path, config: dict[str, Any]) -> Path:
    file = folder / "moderation.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def spawn_service(config_file: Path, log_file: Path, *arguments: str) -> subprocess.Popen[bytes]:
    with log_file.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "stack.moderation", "--config", str(config_file), *arguments],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def start_moderation_in(folder: Path, engine_url: str, port: int, **changes: Any) -> ModerationProcess:
    """The service with changes to the test configuration, ready."""
    config_file = write_moderation_config(folder, merged(moderation_config(engine_url, port), changes))
    log_file = folder / "log.jsonl"
    process = spawn_service(config_file, log_file)
    service = ModerationProcess(process, f"http://127.0.0.1:{port}", log_file)
    wait_until_ready(service)
    return service


@contextmanager
def served_moderation(folder: Path, engine_url: str, **changes: Any) -> Iterator[ModerationProcess]:
    """The same in a thread of the tests' own process, which starts in a tenth of the time. It has no log."""
    listener = listening_socket()
    port = listener.getsockname()[1]
    text = yaml.safe_dump(merged(moderation_config(engine_url, port), changes))
    app = build(parse(text, ModerationConfig, "moderation.yaml"), folder)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started, "the moderation service starts")
        yield ModerationProcess(process=None, url=f"http://127.0.0.1:{port}", log_file=folder / "none")  # type: ignore[arg-type]
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def wait_until_ready(service: ModerationProcess) -> None:
    def ready() -> bool:
        if service.process.poll() is not None:
            pytest.fail(f"the service ended with {service.process.returncode}: {service.log_file.read_text()}")
        try:
            return httpx.get(service.url + "/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(ready, "the moderation service is ready", seconds=30)


StartModeration = Callable[..., ModerationProcess]


def judgement(yes: float) -> dict[str, Any]:
    """An engine's answer that says yes with this probability."""
    top = [{"token": "yes", "logprob": log(max(yes, 1e-9))}, {"token": "no", "logprob": log(max(1 - yes, 1e-9))}]
    content = [{"token": "yes" if yes > 0.5 else "no", "logprob": -0.1, "top_logprobs": top}]
    message = {"role": "assistant", "content": content[0]["token"]}
    choice = {"index": 0, "message": message, "logprobs": {"content": content}, "finish_reason": "length"}
    usage = {"prompt_tokens": JUDGE_TOKENS - 1, "completion_tokens": 1, "total_tokens": JUDGE_TOKENS}
    return {"object": "chat.completion", "choices": [choice], "usage": usage}


def answers(body: Any, status: int = 200) -> Behaviour:
    """An engine that always answers so; bytes as they are, anything else as JSON."""

    async def behave(_: Request, __: dict[str, Any]) -> Response:
        return Response(body, status) if isinstance(body, bytes) else JSONResponse(body, status)

    return behave
