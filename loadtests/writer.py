"""Writes the rows of a run to a file while the run goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gevent import get_hub
from gevent.monkey import get_original

from loadtests import LoadError
from loadtests.rows import End, Row, RowsHeader


class RowsWriter:
    """Writes the lines of one run to a new file, in order. Its methods raise LoadError once the disk takes no more.

    A thread of its own writes: while a busy disk keeps it waiting, the next requests are still sent when they are due.
    """

    def __init__(self, path: Path, header: RowsHeader) -> None:
        require_new(path)
        self.path = path
        # Unbuffered: what is written outlives this process, and no error waits for the closing.
        self._file = path.open("wb", buffering=0)
        self._problem: LoadError | None = None
        self._write(_line(header.model_dump()))
        self._raise_problem()
        # The native queue: gevent's, which Locust puts into its place, would switch greenlets between threads.
        self._lines: Any = get_original("queue", "SimpleQueue")()
        self._writing = get_hub().threadpool.spawn(self._write_all)

    def write(self, row: Row) -> None:
        """Hands a row over to be written; its own error is raised by the next call."""
        self._raise_problem()
        self._lines.put(_line(row.model_dump()))

    def close(self, end: End) -> None:
        """Writes the end line; returns when all is written."""
        self._lines.put(_line({"end": end.model_dump()}))
        self._lines.put(None)
        self._writing.get()
        self._file.close()
        self._raise_problem()

    def _write_all(self) -> None:
        while not self._problem and (line := self._lines.get()) is not None:
            self._write(line)

    def _write(self, line: bytes) -> None:
        try:
            written = self._file.write(line)
            problem = None if written == len(line) else "the disk is full"
        except OSError as error:
            problem = error.strerror
        if problem:
            self._problem = LoadError(f"{self.path}: cannot write a row: {problem}")

    def _raise_problem(self) -> None:
        if self._problem:
            raise self._problem


def _line(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps({"schema": 1, **fields}, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def require_new(path: Path) -> None:
    """Raises LoadError unless a new file can be written at `path`: no run may overwrite another's rows."""
    try:
        if path.is_file() and path.stat().st_size:
            raise LoadError(f"{path}: holds rows already; choose another path or remove the file")
        existed = path.exists()
        path.open("ab").close()
        if not existed:
            path.unlink()
    except OSError as problem:
        raise LoadError(f"{path}: cannot write rows there: {problem.strerror}") from problem
