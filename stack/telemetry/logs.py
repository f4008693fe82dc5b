"""One JSON object a log line on standard output, with the ids of the request in hand."""

import logging
import sys
from datetime import UTC, datetime

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from stack.telemetry.ids import current_ids

# These log every call they make, headers included at their lower levels; our own lines tell what is needed.
_QUIET = ("httpx", "httpcore")


def configure_logs(service: str, level: str) -> None:
    """Send every logger of the process to standard output as JSON, from `level` (debug, info, …) up."""
    formatter = JsonFormatter(
        ["time", "levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        static_fields={"service": service},
        json_ensure_ascii=False,
        reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # uvicorn's copy of its message for terminals
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    handler.addFilter(_stamp)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def utc(moment: datetime) -> str:
    """A moment as ISO 8601 in UTC with milliseconds: 2031-05-06T07:08:09.123Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stamp(record: logging.LogRecord) -> bool:
    """A filter that adds the time and the ids, and keeps every record."""
    record.time = utc(datetime.fromtimestamp(record.created, UTC))
    if ids := current_ids.get():
        record.request_id, record.trace_id, record.span_id = ids.request_id, ids.trace_id, ids.span_id
    return True
