"""Tenants: what each may use, and how much of it."""

from pydantic import Field

from stack.service.config import Name
from stack.settings import Settings


class TenantLimits(Settings):
    """A key that is absent or null sets no limit of its own; limits.in_flight holds for all tenants together."""

    requests_per_minute: int | None = Field(None, ge=1)
    """Most requests within any minute."""
    burst: int | None = Field(None, ge=1)
    """Most of these within any second."""
    concurrent: int | None = Field(None, ge=1)
    """Most requests in progress."""
    tokens_per_minute: int | None = Field(None, ge=1)
    """Most tokens of prompts and answers within any minute. An estimate is reserved when a request comes in, what the
    engine counted is charged when it ends."""


class Tenant(Settings):
    name: Name
    """The tenant as keys_file, logs and metrics call it."""
    assistants: tuple[Name, ...]
    """The assistants that it may use."""
    collections: tuple[Name, ...] = ()
    """The collections of documents that it may search and ask."""
    groups: tuple[Name, ...] = Field((), max_length=64)
    """Its groups: retrieval shows it what these may read. They never come from the caller."""
    moderations: bool = False
    """True lets it call POST /v1/moderations."""
    limits: TenantLimits = TenantLimits()
    """How much it may use."""
