"""The gateway's configuration file, every key of it."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from stack.gateway.templates import template_problems
from stack.service.audit import AuditTrail
from stack.service.config import Identifier, Listen, Logs, Name, Seconds, Upstream
from stack.settings import Protected, Settings, nearest


class Telemetry(Logs):
    prompts_in_logs: bool = False
    """True writes the rendered messages into the log. They hold what people typed: leave it off."""
    latency_buckets: tuple[float, ...] = Protected(min_length=1)
    """Upper bounds, in seconds, of the latency histograms. Every objective is one of them."""

    @field_validator("latency_buckets")
    @classmethod
    def _increasing(cls, buckets: tuple[float, ...]) -> tuple[float, ...]:
        if any(a >= b for a, b in pairwise((0.0, *buckets))):
            raise ValueError("expected positive numbers, each larger than the one before")
        return buckets


class Timeouts(Settings):
    connect_seconds: Seconds = 2.0
    """To reach the engine."""
    body_seconds: Seconds = 10.0
    """For the caller to send the body of the request."""
    first_token_seconds: Seconds = 30.0
    """From the call of the engine to the first text of a streamed answer."""
    total_seconds: Seconds = 60.0
    """From the call of the engine to the end of the answer."""


class Limits(Settings):
    body_bytes: int = Field(65536, ge=1, le=1 << 26)
    """Largest body of a request."""
    prompt_chars: int = Field(24000, ge=1)
    """Most characters of all rendered messages together."""
    max_tokens: int = Field(256, ge=1)
    """Most tokens of an answer, whatever the assistant and the caller say."""
    in_flight: int = Field(256, ge=1, le=10000)
    """Most chat requests in progress; one more is refused with 429."""


class Tenant(Settings):
    name: Name
    """The tenant as keys_file, logs and metrics call it."""
    assistants: tuple[Name, ...]
    """The assistants that it may use."""


class Turn(Settings):
    role: Literal["system", "user", "assistant"]
    """Who speaks."""
    content: str
    """A Jinja2 template of question, tenant, request_id, received_at, today, metadata.*, documents.*"""


class History(Settings):
    source: Literal["history"] = Field(alias="from")
    """Stands for the caller's earlier turns."""


def _kind(message: Any) -> str:
    history = "from" in message if isinstance(message, dict) else isinstance(message, History)
    return "history" if history else "turn"


Message = Annotated[Annotated[Turn, Tag("turn")] | Annotated[History, Tag("history")], Discriminator(_kind)]


class Sampling(Settings):
    """How the engine picks tokens. A caller may set the same keys; what nobody sets, the engine chooses."""

    max_tokens: int | None = Field(None, ge=1)
    """Most tokens of an answer; a caller may ask for fewer, not for more."""
    temperature: float | None = Field(None, ge=0, le=2)
    """0 always takes the likeliest token; larger values vary more."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Only the likeliest tokens that have this probability together."""
    stop: tuple[str, ...] | None = Field(None, max_length=4)
    """Texts that end the answer."""
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    """Makes sampling repeatable."""
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    """Above 0 disfavours tokens that have occurred."""
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    """Above 0 disfavours tokens by how often they have occurred."""


class Assistant(Settings):
    description: str = Field(max_length=500)
    """What it is for."""
    messages: tuple[Message, ...] = Field(min_length=1)
    """The prompt: turns, and at most one `from: history`."""
    sampling: Sampling = Sampling()
    """Its own choice of sampling."""

    @field_validator("messages")
    @classmethod
    def _one_history(cls, messages: tuple[Turn | History, ...]) -> tuple[Turn | History, ...]:
        if sum(isinstance(message, History) for message in messages) > 1:
            raise ValueError("'from: history' is given twice; the caller's turns can stand in one place only")
        return messages


class GatewayConfig(Settings):
    """`gateway.yaml`."""

    schema_version: Literal[1] = Field(alias="schema")
    """Version of this file's format."""
    listen: Listen = Protected(Listen(port=8100))
    """Where the gateway answers."""
    upstream: Upstream = Protected()
    """The engine behind it."""
    keys_file: Path = Protected(Path("keys.json"))
    """JSON object {tenant: SHA-256 of its API key in hex}; relative to this file."""
    telemetry: Telemetry
    """Logs and metrics."""
    audit: AuditTrail = Protected(AuditTrail())
    """The prompts, for those who must be able to look them up."""
    timeouts: Timeouts = Timeouts()
    """How long each step may take."""
    limits: Limits = Limits()
    """How much one request, and all together, may ask for."""
    tenants: tuple[Tenant, ...] = Field(min_length=1)
    """Who may call."""
    assistants: dict[Name, Assistant] = Field(min_length=1)
    """What callers name as `model`."""
    documents: dict[Identifier, str] = Field(default_factory=dict)
    """Texts that templates include as documents.NAME."""

    @model_validator(mode="after")
    def _coherent(self) -> "GatewayConfig":
        problems = [*_tenant_problems(self), *_template_problems(self)]
        if problems:
            raise ValueError("\n".join(problems))
        return self


def _tenant_problems(config: GatewayConfig) -> Iterator[str]:
    names = [tenant.name for tenant in config.tenants]
    for name in _repeated(names):
        yield f"tenants: '{name}' is listed twice"
    for index, tenant in enumerate(config.tenants):
        for name in tenant.assistants:
            if name not in config.assistants:
                hint = nearest(name, config.assistants)
                yield f"tenants.{index}.assistants: unknown assistant '{name}'; {hint}"


def _template_problems(config: GatewayConfig) -> Iterator[str]:
    for name, assistant in config.assistants.items():
        for index, message in enumerate(assistant.messages):
            if isinstance(message, Turn):
                for problem in template_problems(message.content, config.documents):
                    yield f"assistants.{name}.messages.{index}.content: {problem}"


def _repeated(words: Iterable[str]) -> list[str]:
    words = list(words)
    return sorted({word for word in words if words.count(word) > 1})
