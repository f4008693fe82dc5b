"""A small library for unit tests of retrieval: a real store, real indexes, and an encoder of a few words."""

import json
from pathlib import Path
from typing import Any

from small_encoder import small_encoder

from stack.rag.config import RagConfig
from stack.rag.live import LiveCollection
from stack.rag.parts import Parts
from stack.rag.sources.collection import Document
from stack.settings import parse
from stack.telemetry.metrics import RagMetrics

INDEX = {"encoder": "small", "chunk": {"max_tokens": 16}, "dense": {"kind": "flat"}}
BOOKS = {
    "source": "empty",
    "indexes": {"blue": INDEX, "green": INDEX},
    "active": "blue",
    "query": {
        "encoder": "small",
        "fusion": {"kind": "weighted", "dense_weight": 0.5},
        "rerank": {"kind": "late-interaction", "encoder": "small", "pool": 8},
        "results": 4,
    },
}


def rag_config(folder: Path, books: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A configuration whose encoder `small` is written into `folder`, beside all that the library keeps."""
    small_encoder(folder / "encoder")
    config = {
        "schema": 1,
        "storage": {"indexes": "indexes", "vectors": "vectors", "data": "data", "manuals": "manuals"},
        "answerer": {
            "base_url": "http://127.0.0.1:1",
            "ready_url": "http://127.0.0.1:1/readyz",
            "model": "tiny",
            "tokenizer": "encoder/tokenizer.json",
            "context_tokens": 512,
        },
        "encoders": {"small": {"kind": "onnx", "model": "encoder/model.onnx", "tokenizer": "encoder/tokenizer.json"}},
        "collections": {"books": BOOKS | (books or {})},
        "limits": {"max_tokens": 20},
        "prompt": {"messages": [{"role": "user", "content": "{{ context }} {{ question }}"}], "context_tokens": 128},
    }
    return config | changes


class Library:
    """One collection, `books`, as a service has it."""

    def __init__(self, folder: Path, books: dict[str, Any] | None = None, **changes: Any) -> None:
        self.folder = folder
        self.config = parsed(rag_config(folder, books, **changes))
        self.metrics = RagMetrics()
        self.parts = Parts.of(self.config, folder, self.metrics)
        self.live = LiveCollection("books", self.parts)

    def write(self, *documents: Document) -> None:
        self.parts.store.upsert("books", documents)

    def open(self, *documents: Document) -> LiveCollection:
        """Write the documents, build and open the index; no problem may be left."""
        self.write(*documents)
        self.live.prepare()
        assert self.live.problem is None, self.live.problem
        return self.live

    def sample(self, name: str, **labels: str) -> float:
        """A metric's value; 0 where it was never set."""
        return self.metrics.registry.get_sample_value(name, {"collection": "books", **labels}) or 0.0


def parsed(config: dict[str, Any]) -> RagConfig:
    return parse(json.dumps(config), RagConfig, "rag.yaml")  # JSON is YAML


def document(name: str, text: str, tenant: str = "*", *groups: str) -> Document:
    return Document(name, name.title(), text, tenant, tuple(groups))
