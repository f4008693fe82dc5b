"""The configuration of the retrieval service, every key of it. Each stage's keys are in `stages.py`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from stack.rag.config.collections import Access, Canary, Collection, Index, ManifestChecks, Query, Slot
from stack.rag.config.prompt import Prompt, Sampling
from stack.rag.config.stages import EncoderSettings, LateInteraction
from stack.service.audit import AuditTrail
from stack.service.config import Listen, Logs, Name, Seconds, Upstream
from stack.settings import Protected, Settings, nearest

__all__ = [
    "Access", "Answerer", "AuditTrail", "Canary", "Collection", "Index", "Limits", "ManifestChecks",
    "Prompt", "Query", "RagConfig", "Sampling", "Slot", "Storage", "Telemetry", "Timeouts", "Traffic",
]  # fmt: skip


class Storage(Settings):
    indexes: Path
    """Folder of the index versions; made if need be. Relative to this file."""
    vectors: Path
    """Folder of the vectors that were computed before, shared by all collections and configurations. Relative to this
    file."""
    data: Path
    """Folder of the unpacked packages with data sets, which collections are read from. Relative to this file."""
    manuals: Path
    """Folder of the unpacked packages with manuals. Relative to this file."""
    database: str | None = None
    """SQLAlchemy's URL of the database of documents; null is the SQLite file documents.sqlite beside the indexes."""
    rights_seconds: float = Field(1.0, gt=0, le=60)
    """How often rights and documents that another process changed are read again; changes made through this service
    count at once."""
    rights_max_age_seconds: float = Field(60, gt=0, le=86400)
    """How long the last known rights are good for while the database does not answer; then searches are refused."""


class Telemetry(Logs):
    prompts_in_logs: bool = False
    """True writes queries and prompts into the log. They hold what people typed: leave it off."""


class Traffic(AuditTrail):
    file: Path | None = None
    """A JSON line for each search is written here: vector and scores of the query, not its text; null writes nothing.
    Relative to this file."""


class Answerer(Upstream):
    tokenizer: Path
    """`tokenizer.json` of its model, for counting. Relative to this file."""
    context_tokens: int = Field(ge=64, le=1 << 20)
    """Most tokens of prompt and answer together that it takes."""


class Timeouts(Settings):
    connect_seconds: Seconds = 2.0
    """To reach the engine."""
    first_token_seconds: Seconds = 30.0
    """From the call of the engine to the first text of a streamed answer."""
    total_seconds: Seconds = 60.0
    """From the call of the engine to the end of the answer."""


class Limits(Settings):
    body_bytes: int = Field(4 << 20, ge=1024, le=1 << 26)
    """Largest body of a request."""
    query_chars: int = Field(2000, ge=1, le=100_000)
    """Longest query or question."""
    results: int = Field(50, ge=1, le=1000)
    """Most passages that a search may ask for."""
    search_threads: int = Field(2, ge=1, le=64)
    """Searches that are computed at the same time."""
    waiting_searches: int = Field(64, ge=0, le=10000)
    """Searches that may wait for a thread; one more is refused with 429."""
    asks: int = Field(64, ge=1, le=10000)
    """Questions that may be in progress; one more is refused with 429."""
    batch_documents: int = Field(500, ge=1, le=10000)
    """Most documents of one upsert."""
    document_chars: int = Field(200_000, ge=1, le=10_000_000)
    """Longest text of a document."""
    max_tokens: int = Field(256, ge=1)
    """Most tokens of an answer, whatever the caller says."""


class RagConfig(Settings):
    """`rag.yaml`."""

    schema_version: Literal[1] = Field(alias="schema")
    """Version of this file's format."""
    listen: Listen = Protected(Listen(port=8105))
    """Where the service answers."""
    telemetry: Telemetry = Telemetry()
    """Logs."""
    storage: Storage = Protected()
    """Where documents, vectors and indexes are kept."""
    answerer: Answerer = Protected()
    """The engine that writes answers."""
    audit: AuditTrail = Protected(AuditTrail())
    """The prompts, for those who must be able to look them up."""
    traffic: Traffic = Protected(Traffic())
    """What searches are like, for the drift monitor."""
    timeouts: Timeouts = Timeouts()
    """How long the engine may take."""
    limits: Limits = Limits()
    """How much one request, and all together, may ask for."""
    encoders: dict[Name, EncoderSettings] = Field(min_length=1)
    """The models that turn text into vectors."""
    collections: dict[Name, Collection] = Field(min_length=1)
    """What can be searched."""
    prompt: Prompt
    """How passages and question become a prompt."""
    sampling: Sampling = Sampling()
    """How the engine picks tokens."""

    @model_validator(mode="after")
    def _coherent(self) -> "RagConfig":
        problems = [*self._encoder_problems(), *self._limit_problems()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _encoder_problems(self) -> Iterator[str]:
        for name, collection in self.collections.items():
            used = {f"indexes.{slot}.encoder": index.encoder for slot, index in collection.indexes.items()}
            used["query.encoder"] = collection.query.encoder
            if isinstance(collection.query.rerank, LateInteraction):
                used["query.rerank.encoder"] = collection.query.rerank.encoder
            for key, alias in used.items():
                if alias not in self.encoders:
                    yield f"collections.{name}.{key}: unknown encoder '{alias}'; {nearest(alias, self.encoders)}"

    def _limit_problems(self) -> Iterator[str]:
        for name, collection in self.collections.items():
            if collection.query.results > self.limits.results:
                yield f"collections.{name}.query.results: more than limits.results, which is {self.limits.results}"
        answer = min(self.limits.max_tokens, self.sampling.max_tokens or self.limits.max_tokens)
        if self.prompt.context_tokens + answer >= self.answerer.context_tokens:
            yield (
                f"prompt.context_tokens: {self.prompt.context_tokens} of passages and {answer} of answer leave no room "
                f"for the question in the engine's {self.answerer.context_tokens} (answerer.context_tokens)"
            )
