"""The real gateway as a process, and what its tests say to it and expect of it."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
import yaml

CHAT = "/v1/chat/completions"
RENDER = "/v1/prompts/render"

ROOT = Path(__file__).parents[2]


def listening_socket() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=512)


def free_port() -> int:
    with listening_socket() as listener:
        return listener.getsockname()[1]


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> Any:
    """The first true value of `condition`; fails the test when there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    pytest.fail(f"not within {seconds} s: {what}")


@dataclass
class GatewayProcess:
    """A running gateway, its log in a file."""

    KEY: ClassVar = "key-of-demo-93f1"
    OTHER_KEY: ClassVar = "key-of-other-52aa"

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path

    def client(self, key: str | None = KEY, **options: Any) -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, trust_env=False, **options)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series with these labels; 0 where there is none."""
        text = httpx.get(f"{self.url}/metrics", trust_env=False).text
        total = 0.0
        for line in text.splitlines():
            if match := re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line):
                found = dict(re.findall(r'(\w+)="([^"]*)"', match[1] or ""))
                if labels.items() <= found.items():
                    total += float(match[2])
        return total

    def log(self) -> list[dict[str, Any]]:
        lines = self.log_file.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def log_of(self, request_id: str) -> dict[str, Any]:
        """The line that ends this request."""

        def line() -> dict[str, Any] | None:
            ended = [one for one in self.log() if one.get("request_id") == request_id]
            return next((one for one in ended if one["message"] == "request"), None)

        return wait_until(line, f"a log line of {request_id}")


def question(text: str = "Is a whale a mammal?", **keys: Any) -> dict[str, Any]:
    return {"model": "desk", "messages": [{"role": "user", "content": text}], **keys}


def ask(gateway: GatewayProcess, body: Any = None, path: str = CHAT, **options: Any) -> httpx.Response:
    with gateway.client() as client:
        content = body if isinstance(body, bytes) else json.dumps(question() if body is None else body)
        return client.post(path, content=content, **options)


def assert_error(response: httpx.Response, status: int, code: str, says: str = "") -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert says in error["message"]


def gateway_config(
    engine_url: str, port: int, rag_url: str = "http://127.0.0.1:1", moderation_url: str = "http://127.0.0.1:1"
) -> dict[str, Any]:
    """A configuration with two tenants, of which the second may use nothing but `other-desk`."""
    return {
        "schema": 1,
        "listen": {"port": port},
        "upstream": {"base_url": engine_url, "ready_url": f"{engine_url}/readyz", "model": "tiny"},
        "retrieval": {"base_url": rag_url},
        "moderation": {
            "base_url": moderation_url,
            "timeouts": {"total_seconds": 1},
            "segments": {"sentence_chars": 10, "held_chars": 40, "context_chars": 10},
        },
        # Most tests make their upstreams fail; only those of the circuit breaker want that to have an end.
        "calls": {name: {"circuit": {"failures": 1000}} for name in ("llm", "rag", "moderation")},
        "telemetry": {"log_level": "debug", "latency_buckets": [0.1, 1, 10]},
        "limits": {"body_bytes": 4096, "prompt_chars": 500, "max_tokens": 20, "in_flight": 4},
        "tenants": [
            {
                "name": "demo",
                "assistants": ["desk", "traced", "guarded"],
                "collections": ["books"],
                "groups": ["readers", "staff"],
                "moderations": True,
            },
            {"name": "other", "assistants": ["other-desk"]},
        ],
        "search": {"query_chars": 100, "limit": 20},
        "ask": {"question_chars": 100, "max_tokens": 30, "moderation": {"input": "check", "output": "check"}},
        "assistants": {
            "guarded": {
                "description": "what goes in and out is checked",
                "messages": [{"from": "history"}, {"role": "user", "content": "{{ question }}"}],
                "moderation": {"input": "check", "output": "check"},
            },
            "desk": {
                "description": "rules, the earlier turns, the question",
                "messages": [
                    {"role": "system", "content": "{{ documents.rules }}"},
                    {"from": "history"},
                    {"role": "user", "content": "{{ question }}"},
                ],
                "sampling": {"max_tokens": 12, "temperature": 0.0},
            },
            "traced": {
                "description": "every variable",
                "messages": [
                    {
                        "role": "user",
                        "content": "{{ request_id }}|{{ tenant }}|{{ metadata.branch }}|{{ metadata.none }}|"
                        "{{ today }}|{{ received_at }}|{{ question }}",
                    }
                ],
            },
            "other-desk": {
                "description": "of the other tenant",
                "messages": [{"role": "user", "content": "{{ question }}"}],
            },
        },
        "documents": {"rules": "Answer yes or no."},
    }


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    keys = {"demo": GatewayProcess.KEY, "other": GatewayProcess.OTHER_KEY}
    digests = {tenant: sha256(key.encode()).hexdigest() for tenant, key in keys.items()}
    (folder / "keys.json").write_text(json.dumps(digests))
    file = folder / "gateway.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def merged(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(config)
    for key, value in changes.items():
        result[key] = merged(result.get(key, {}), value) if isinstance(value, dict) else value
    return result


def spawn(config_file: Path, log_file: Path, *arguments: str) -> subprocess.Popen[bytes]:
    with log_file.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "stack.gateway", "--config", str(config_file), *arguments],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


StartGateway = Callable[..., GatewayProcess]
