"""One request's record: what is known of it so far, for its log line and its metrics."""

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

    def waiting(self, for_: str = CALLER) -> "Waiting":
        """Around every await of the caller or another service: that time is not the gateway's own."""
        return Waiting(self, for_)


class Waiting:
    """A context of `Call.waiting`. A class, since it is entered twice for every piece of a streamed answer."""

    __slots__ = ("_call", "_for", "_since")

    def __init__(self, call: Call, for_: str) -> None:
        self._call = call
        self._for = for_

    def __enter__(self) -> None:
        self._since = perf_counter()
        self._call.waits_for = self._for

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._call.waited_seconds += perf_counter() - self._since
        if kind is None:
            self._call.waits_for = None
