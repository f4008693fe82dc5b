"""The gateway's configuration file, every key of it.

Here its top level; `assistants`, `tenants`, `routes` and `upstreams` have a module each.
"""

from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from stack.gateway.config.assistants import Assistant, History, Sampling, Turn
from stack.gateway.config.coherence import problems_of, used_upstreams
from stack.gateway.config.routes import Ask, ModerationUse, Search
from stack.gateway.config.tenants import Tenant, TenantLimits
from stack.gateway.config.upstreams import Calls, Moderation, Retrieval, Timeouts, UpstreamName
from stack.service.audit import AuditTrail
from stack.service.config import Identifier, Listen, Logs, Name, Upstream
from stack.settings import Protected, Settings

__all__ = ["Assistant", "GatewayConfig", "History", "ModerationUse", "Sampling", "Tenant", "TenantLimits", "Turn"]


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


class Limits(Settings):
    body_bytes: int = Field(65536, ge=1, le=1 << 26)
    """Largest body of a request."""
    prompt_chars: int = Field(24000, ge=1)
    """Most characters of all rendered messages together."""
    max_tokens: int = Field(256, ge=1)
    """Most tokens of an answer, whatever the assistant and the caller say."""
    in_flight: int = Field(256, ge=1, le=10000)
    """Most requests in progress, of all tenants and routes together; one more is refused with 429."""


class GatewayConfig(Settings):
    """`gateway.yaml`."""

    schema_version: Literal[1] = Field(alias="schema")
    """Version of this file's format."""
    listen: Listen = Protected(Listen(port=8100))
    """Where the gateway answers."""
    upstream: Upstream = Protected()
    """The engine behind it."""
    retrieval: Retrieval | None = None
    """The service that searches documents and answers from them; needed by tenants with collections."""
    moderation: Moderation | None = None
    """The service that checks texts; needed wherever something is to be checked."""
    calls: dict[UpstreamName, Calls] = Field(default_factory=dict)
    """Retries and circuit breaker of each upstream: llm, rag, moderation. One that is absent has the defaults."""
    keys_file: Path = Protected(Path("keys.json"))
    """JSON object {tenant: SHA-256 of its API key in hex}; relative to this file."""
    limits_storage_url: str | None = Protected(None, pattern=r"^(redis|rediss|redis\+unix)://")
    """Redis that keeps the tenants' rates for several gateways together; null keeps them in this process. While it does
    not answer, each gateway counts for itself."""
    telemetry: Telemetry
    """Logs and metrics."""
    audit: AuditTrail = Protected(AuditTrail())
    """The prompts, for those who must be able to look them up."""
    timeouts: Timeouts = Timeouts()
    """How long each step of a chat request may take; `body_seconds` holds for every route."""
    limits: Limits = Limits()
    """How much one request, and all together, may ask for."""
    tenants: tuple[Tenant, ...] = Field(min_length=1)
    """Who may call."""
    search: Search = Search()
    """POST /v1/search."""
    ask: Ask = Ask()
    """POST /v1/ask."""
    assistants: dict[Name, Assistant] = Field(min_length=1)
    """What callers name as `model`."""
    documents: dict[Identifier, str] = Field(default_factory=dict)
    """Texts that templates include as documents.NAME."""

    @model_validator(mode="after")
    def _coherent(self) -> "GatewayConfig":
        problems = list(problems_of(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def used_upstreams(self) -> frozenset[UpstreamName]:
        """The upstreams that some tenant's requests can reach."""
        return used_upstreams(self)

    def calls_of(self, upstream: UpstreamName) -> Calls:
        """How an upstream is called."""
        return self.calls.get(upstream, Calls())
