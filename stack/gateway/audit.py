"""The audit trail: each prompt as the engine got it, a JSON line a request, for those who must be able to look it up.

It holds what people typed, so it is off unless a file is named, and the file is its owner's alone.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from queue import SimpleQueue

from stack.gateway.call import Call
from stack.gateway.config import AuditTrail
from stack.telemetry.logs import utc

log = logging.getLogger(__name__)


class Audit:
    """Writes in a thread of its own: a busy disk must not keep callers waiting. Raises OSError on a bad path."""

    def __init__(self, config: AuditTrail, folder: Path) -> None:
        """A relative file name counts from `folder`."""
        self._listener: QueueListener | None = None
        self._trail = logging.Logger("audit", logging.INFO)  # no child of the root: this is no log
        if config.file is not None:
            lines: SimpleQueue[logging.LogRecord] = SimpleQueue()
            self._trail.addHandler(QueueHandler(lines))
            self._listener = QueueListener(lines, _File(folder / config.file, config.max_bytes))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around the time in which calls are recorded; what was recorded is in the file at its end."""
        if self._listener is None:
            yield
            return
        self._listener.start()
        try:
            yield
        finally:
            self._listener.stop()

    def record(self, call: Call) -> None:
        """The prompt of a call that goes to the engine now."""
        if self._listener is None:
            return
        line = {
            "schema": 1,
            "received_at": utc(call.received_at),
            "request_id": call.ids.request_id,
            "trace_id": call.ids.trace_id,
            "tenant": call.tenant,
            "assistant": call.assistant,
            "messages": call.prompt,
        }
        self._trail.info(json.dumps(line, ensure_ascii=False))


class _File(RotatingFileHandler):
    """When the file is full it becomes FILE.1, which is replaced."""

    def __init__(self, file: Path, max_bytes: int) -> None:
        super().__init__(file, maxBytes=max_bytes, backupCount=1, encoding="utf-8", errors="replace")

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).touch(mode=0o600)
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:
        log.exception("the audit trail could not be written")
