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
from typing import Any

from pydantic import Field

from stack.settings import Settings

log = logging.getLogger(__name__)


class AuditTrail(Settings):
    file: Path | None = None
    """Each prompt as the engine got it is written here, a JSON line a request; null writes nothing. Relative to this
    file. It holds what people typed."""
    max_bytes: int = Field(100_000_000, ge=1_000_000)
    """A larger file is renamed to FILE.1, in place of the one before."""


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
        """Around the time in which prompts are written; what was written is in the file at its end."""
        if self._listener is None:
            yield
            return
        self._listener.start()
        try:
            yield
        finally:
            self._listener.stop()

    def write(self, line: dict[str, Any]) -> None:
        """A line of the trail; it gets the version of its format in front."""
        if self._listener is not None:
            self._trail.info(json.dumps({"schema": 1, **line}, ensure_ascii=False))


class _File(RotatingFileHandler):
    """When the file is full it becomes FILE.1, which is replaced."""

    def __init__(self, file: Path, max_bytes: int) -> None:
        super().__init__(file, maxBytes=max_bytes, backupCount=1, encoding="utf-8", errors="replace")

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).touch(mode=0o600)
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:
        log.exception("the audit trail could not be written")
