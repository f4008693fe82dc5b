"""Logged traffic: for each search its vector and scores, as retrieval writes them with `traffic.file`; no text."""

import base64
import json
import logging
from collections.abc import Iterable
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

    @property
    def dimensions(self) -> int:
        return int(self.vectors.shape[1])


@dataclass(frozen=True)
class _Line:
    at: float
    vector: np.ndarray
    dense: float
    sparse: float
    evidence: bool


class Parser:
    """Makes searches of a collection from lines, and counts those that it refuses.

    All vectors must have as many dimensions as the first one, or as `dimensions`. Another model of the same length is
    not noticed here: it is drift, and seen as such. A search without a vector (by words alone) cannot be compared.
    """

    def __init__(self, collection: str, dimensions: int | None = None) -> None:
        self.refused = 0
        """Lines so far that are of the collection, or of nobody, and cannot be used."""
        self._collection = collection
        self._dimensions = dimensions

    def searches(self, lines: Iterable[bytes]) -> Searches | None:
        """None where no line is one."""
        found, problems = [], []
        for line in lines:
            try:
                if (one := self._line(line)) is not None:
                    found.append(one)
            except (ValueError, KeyError, TypeError) as problem:
                problems.append(str(problem))
        if problems:
            self.refused += len(problems)
            log.warning("lines of the traffic log cannot be used", extra={"lines": len(problems), "first": problems[0]})
        return _searches(found) if found else None

    def _line(self, line: bytes) -> _Line | None:
        fields = json.loads(line)
        if fields["collection"] != self._collection:
            return None
        if fields["vector"] is None:
            raise ValueError("the search has no vector")
        vector = np.frombuffer(base64.b64decode(fields["vector"]), np.float16).astype(np.float32)
        one = _Line(float(fields["at"]), vector, float(fields["dense"]), float(fields["sparse"]),
                    bool(fields["evidence"]))  # fmt: skip
        if not (np.isfinite(vector).all() and np.isfinite([one.at, one.dense, one.sparse]).all()):
            raise ValueError("a number of it is not finite")
        self._dimensions = self._dimensions or len(vector)
        if len(vector) != self._dimensions:
            raise ValueError(f"its vector has {len(vector)} dimensions, those before have {self._dimensions}")
        return one


class Log:
    """A file that retrieval goes on writing to, read from where the last reading ended."""

    def __init__(self, path: Path, parser: Parser) -> None:
        self._path = path
        self._parser = parser
        self._offset = 0
        self._inode: int | None = None

    def skip(self) -> None:
        """Leave out what is there."""
        if self._path.exists():
            self._inode, self._offset = self._path.stat().st_ino, self._path.stat().st_size

    def new(self) -> Searches | None:
        """The searches since the last call; None where there are none, or no file yet."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return None
        lines: list[bytes] = []
        if self._inode is not None and now.st_ino != self._inode:  # it was full and renamed
            lines += self._rest_of_the_old_one()
            self._offset = 0
        elif now.st_size < self._offset:
            log.warning("the traffic log was cut off; it is read from its beginning", extra={"file": str(self._path)})
            self._offset = 0
        self._inode = now.st_ino
        lines += self._read(self._path)
        return self._parser.searches(lines)

    def _rest_of_the_old_one(self) -> list[bytes]:
        old = _older(self._path)
        if old.exists() and old.stat().st_ino == self._inode:
            return self._read(old)
        log.warning("the traffic log was replaced; what was not read of it is lost", extra={"file": str(self._path)})
        return []

    def _read(self, path: Path) -> list[bytes]:
        try:
            with path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.splitlines()


def read(path: Path, collection: str) -> Searches:
    """All searches of a file, and before them those of the one that was full and renamed.

    Raises OSError, and ValueError where there are none.
    """
    old = _older(path)
    content = (old.read_bytes() if old.exists() else b"") + path.read_bytes()
    found = Parser(collection).searches(content.splitlines())
    if found is None:
        raise ValueError(f"{path}: no search of the collection '{collection}' that has a vector")
    return found


def _older(path: Path) -> Path:
    """Where retrieval moves a log that is full (`traffic.max_bytes`)."""
    return path.with_name(f"{path.name}.1")


def _searches(lines: list[_Line]) -> Searches:
    return Searches(
        np.array([line.at for line in lines]),
        np.stack([line.vector for line in lines]),
        np.array([line.dense for line in lines]),
        np.array([line.sparse for line in lines]),
        np.array([line.evidence for line in lines], bool),
    )
