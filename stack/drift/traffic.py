"""Logged traffic: for each search its vector and scores, as retrieval writes them with `traffic.file`; no text."""

import base64
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Searches:
    """Searches in the order of their end. All arrays have a row for each."""

    at: np.ndarray
    """float64[n], unix seconds"""
    vectors: np.ndarray
    """float32[n, dimensions]"""
    dense: np.ndarray
    """float64[n]: similarity of the nearest passage"""
    sparse: np.ndarray
    """float64[n]: BM25 score of the best passage"""
    evidence: np.ndarray
    """bool[n]: something was found that counts"""

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, rows: slice | np.ndarray) -> "Searches":
        return Searches(*(column[rows] for column in vars(self).values()))


@dataclass(frozen=True)
class _Line:
    at: float
    vector: np.ndarray
    dense: float
    sparse: float
    evidence: bool


class Log:
    """A file that retrieval goes on writing to, read from where the last reading ended."""

    def __init__(self, path: Path, collection: str) -> None:
        self._path = path
        self._collection = collection
        self._offset = 0
        self._inode: int | None = None

    def skip(self) -> None:
        """Leave out what is there."""
        if self._path.exists():
            self._inode, self._offset = self._path.stat().st_ino, self._path.stat().st_size

    def new(self) -> Searches | None:
        """The searches since the last call; None where there are none, or no file yet."""
        try:
            inode = self._path.stat().st_ino
        except FileNotFoundError:
            return None
        lines: list[_Line] = []
        if self._inode is not None and inode != self._inode:  # it was full and renamed: what is left of the old one
            lines += self._read(self._path.with_name(f"{self._path.name}.1"))
            self._offset = 0
        self._inode = inode
        lines += self._read(self._path)
        return _searches(lines) if lines else None

    def _read(self, path: Path) -> list[_Line]:
        try:
            with path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return list(_lines(whole.splitlines(), self._collection))


def read(path: Path, collection: str) -> Searches:
    """All searches of a file. Raises OSError, and ValueError where there are none."""
    lines = list(_lines(path.read_bytes().splitlines(), collection))
    if not lines:
        raise ValueError(f"{path}: no search of the collection '{collection}'")
    return _searches(lines)


def _lines(lines: Sequence[bytes], collection: str) -> Iterator[_Line]:
    for line in lines:
        try:
            fields = json.loads(line)
            if fields["collection"] == collection and fields["vector"] is not None:
                vector = np.frombuffer(base64.b64decode(fields["vector"]), np.float16).astype(np.float32)
                yield _Line(float(fields["at"]), vector, float(fields["dense"]), float(fields["sparse"]),
                            bool(fields["evidence"]))  # fmt: skip
        except (ValueError, KeyError, TypeError) as problem:
            log.warning("a line of the traffic log is no search", extra={"problem": str(problem)})


def _searches(lines: Sequence[_Line]) -> Searches:
    return Searches(
        np.array([line.at for line in lines]),
        np.stack([line.vector for line in lines]),
        np.array([line.dense for line in lines]),
        np.array([line.sparse for line in lines]),
        np.array([line.evidence for line in lines], bool),
    )
