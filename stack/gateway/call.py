"""One request's record: what is known of it so far, for its log line and its metrics."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from stack.telemetry.ids import Ids

UNKNOWN = "unknown"
CALLER = "caller"


@dataclass
class Call:
    """Filled in as the request goes on. Moments are readings of `perf_counter`, in seconds."""

    ids: Ids
    route: str
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: float = field(default_factory=perf_counter)
    tenant: str = UNKNOWN
    assistant: str = UNKNOWN
    prompt: list[dict[str, str]] = field(default_factory=list)
    waited_seconds: float = 0.0
    waits_for: str | None = None
    """Who is being waited for, or was when the request ended."""
    upstream: str | None = None
    passed_on: float | None = None
    first_text: float | None = None
    events: int = 0
    """Events of a streamed answer so far; the engine sends about one a token."""
    usage: dict[str, Any] = field(default_factory=dict)
    moderation: dict[str, str] = field(default_factory=dict)
    """Stage to decision."""
    headers: dict[str, str] = field(default_factory=dict)
    """For the answer, whatever it is."""

    @property
    def seconds(self) -> float:
        """Since the request's head came."""
        return perf_counter() - self.started

    @contextmanager
    def waiting(self, for_: str = CALLER) -> Iterator[None]:
        """Around every await of the caller or another service: that time is not the gateway's own."""
        since = perf_counter()
        self.waits_for = for_
        try:
            yield
            self.waits_for = None
        finally:
            self.waited_seconds += perf_counter() - since
