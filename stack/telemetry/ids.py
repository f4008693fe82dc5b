"""Request ids and W3C trace context, which follow a request end to end.

Trace context: https://www.w3.org/TR/trace-context/
"""

import re
import secrets
import uuid
from contextvars import ContextVar
from dataclasses import dataclass

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True)
class Ids:
    """The ids of one request in one service: 32 hex digits for the trace, 16 for the service's own span."""

    request_id: str
    trace_id: str
    span_id: str
    flags: str = "00"

    @property
    def traceparent(self) -> str:
        """The header for a call that this service makes: its own span is the parent there."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def ids_from_headers(request_id: str | None, traceparent: str | None) -> Ids:
    """Accept what the caller sent where it is well formed; make what is absent or malformed."""
    if request_id is None or not _REQUEST_ID.fullmatch(request_id):
        request_id = uuid.uuid4().hex
    span_id = secrets.token_hex(8)
    match = _TRACEPARENT.fullmatch(traceparent or "")
    # All zeros means "no id", and version 00 has no further fields: both make the whole header invalid.
    if match and int(match[2], 16) and int(match[3], 16) and not (match[1] == "00" and match[5]):
        return Ids(request_id, trace_id=match[2], span_id=span_id, flags=match[4])
    return Ids(request_id, trace_id=secrets.token_hex(16), span_id=span_id)


current_ids: ContextVar[Ids | None] = ContextVar("current_ids", default=None)
"""The ids of the request in hand, for the log lines; None outside a request."""
