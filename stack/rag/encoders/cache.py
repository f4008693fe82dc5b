"""Vectors that were computed before, kept on disk by encoder, role and text.

A SQLite file holds pooled vectors, and says where token vectors are: they are many, so they lie in flat files, float16,
that are mapped into memory. A writer appends to a file of its own and syncs it before the entry is committed.
Whatever kills the process, an entry is whole or absent; bytes without an entry are ignored.
"""

import contextlib
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from stack.rag.encoders.encoder import Encoded, Encoder, Role
from stack.rag.hits import RetrievalError
from stack.service.sqlite import use_wal

Progress = Callable[[int, int], None]
"""Called with texts done and texts to do, those that were known left out."""

FORMAT = 1
DATABASE = "vectors.sqlite"
_COMMIT = 256  # texts that a kill may cost
_BUSY_SECONDS = 60  # others may write
_TABLES = """
CREATE TABLE IF NOT EXISTS pooled (
    encoder TEXT, role TEXT, text BLOB, vector BLOB NOT NULL, PRIMARY KEY (encoder, role, text)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (
    encoder TEXT, role TEXT, text BLOB, file TEXT NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (encoder, role, text)) WITHOUT ROWID;
"""


class EmbeddingCache:
    """A folder of vectors, for any number of processes at once.

    Everything in it can be computed again: whoever doubts it removes the folder.
    """

    def __init__(self, folder: Path) -> None:
        """Makes `folder` if need be. Raises RetrievalError where it cannot be used."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise RetrievalError(f"{folder}: cannot be made to keep vectors in ({problem.strerror})") from problem
        with self._database() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                raise RetrievalError(f"{folder}: vectors in format {version}, expected {FORMAT}; remove the folder")
            use_wal(database, _BUSY_SECONDS)
            database.executescript(_TABLES)
            database.execute(f"PRAGMA user_version = {FORMAT}")

    def vectors(
        self, encoder: Encoder, texts: Sequence[str], role: Role, progress: Progress | None = None
    ) -> np.ndarray:
        """float32[n, dimension]: what `encoder` makes of `texts`, computed where it is not known yet."""
        keys = [_key(text) for text in texts]
        with self._database() as database:
            known = self._pooled(database, encoder, role)
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
            encode = encoder.encode_queries if role == "query" else encoder.encode_passages
            for batch in _batches(missing, progress):
                self._store(database, encoder, role, batch, encode([missing[key] for key in batch]))
            if missing:
                known = self._pooled(database, encoder, role)  # another process may have been first with some
        found = np.empty((len(keys), encoder.dimension), np.float32)
        for row, key in enumerate(keys):
            found[row] = np.frombuffer(known[key], np.float32)
        return found

    def tokens(
        self, encoder: Encoder, texts: Sequence[str], role: Role, progress: Progress | None = None
    ) -> list[np.ndarray]:
        """float16[tokens, dimension] for each text, mapped from disk, read-only. Keeps the pooled vectors as well."""
        keys = [_key(text) for text in texts]
        with self._database() as database:
            known = self._places(database, encoder, role)
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
            if missing:
                with self._new_file(encoder) as file:
                    for batch in _batches(missing, progress):
                        encoded = encoder.encode([missing[key] for key in batch], role)
                        self._append(database, encoder, role, batch, encoded, file)
                known = self._places(database, encoder, role)
        maps = {name: self._mapped(name, encoder) for name in {known[key][0] for key in keys}}
        return [maps[name][first : first + count] for name, first, count in (known[key] for key in keys)]

    def _pooled(self, database: sqlite3.Connection, encoder: Encoder, role: Role) -> dict[bytes, bytes]:
        query = "SELECT text, vector FROM pooled WHERE encoder = ? AND role = ? AND length(vector) = ?"
        return dict(database.execute(query, (encoder.fingerprint, role, 4 * encoder.dimension)))

    def _places(self, database: sqlite3.Connection, encoder: Encoder, role: Role) -> dict[bytes, tuple[str, int, int]]:
        """text -> file, first row, number of rows; without entries whose file is gone or too short."""
        query = "SELECT text, file, first, count FROM tokens WHERE encoder = ? AND role = ?"
        places = {text: place for text, *place in database.execute(query, (encoder.fingerprint, role))}
        rows = {name: self._rows_in(name, encoder) for name in {name for name, _, _ in places.values()}}
        return {key: (name, first, n) for key, (name, first, n) in places.items() if first + n <= rows[name]}

    def _rows_in(self, name: str, encoder: Encoder) -> int:
        try:
            return (self._folder / name).stat().st_size // (2 * encoder.dimension)
        except OSError:
            return 0

    def _mapped(self, name: str, encoder: Encoder) -> np.ndarray:
        rows = self._rows_in(name, encoder)
        return np.memmap(self._folder / name, np.float16, "r", shape=(rows, encoder.dimension))

    def _store(
        self, database: sqlite3.Connection, encoder: Encoder, role: Role, keys: list[bytes], vectors: np.ndarray
    ) -> None:
        entries = [
            (encoder.fingerprint, role, key, vector.tobytes()) for key, vector in zip(keys, vectors, strict=True)
        ]
        with database:
            database.executemany("INSERT OR REPLACE INTO pooled VALUES (?, ?, ?, ?)", entries)

    def _append(
        self, database: sqlite3.Connection, encoder: Encoder, role: Role, keys: list[bytes],
        encoded: list[Encoded], file: "_File",
    ) -> None:  # fmt: skip
        whose = [(encoder.fingerprint, role, key) for key in keys]
        places = [(file.name, *file.append(one.tokens)) for one in encoded]
        file.sync()
        with database:
            database.executemany(
                "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?, ?)",
                [(*key, *place) for key, place in zip(whose, places, strict=True)],
            )
            database.executemany(
                "INSERT OR IGNORE INTO pooled VALUES (?, ?, ?, ?)",
                [(*key, one.pooled.tobytes()) for key, one in zip(whose, encoded, strict=True)],
            )

    @contextlib.contextmanager
    def _new_file(self, encoder: Encoder) -> Iterator["_File"]:
        name = f"tokens-{encoder.fingerprint[:12]}-{secrets.token_hex(6)}.f16"
        with open(self._folder / name, "xb") as stream:
            yield _File(name, stream)

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(self._folder / DATABASE, timeout=_BUSY_SECONDS)
            try:
                yield database
            finally:
                database.close()
        except (sqlite3.Error, OSError) as problem:
            raise RetrievalError(
                f"{self._folder}: the kept vectors cannot be used ({problem}); "
                "make room on the disk, or remove the folder: everything in it can be computed again"
            ) from problem


class _File:
    """A file of token vectors that one process appends to."""

    def __init__(self, name: str, stream) -> None:
        self.name = name
        self._stream = stream
        self._rows = 0

    def append(self, rows: np.ndarray) -> tuple[int, int]:
        """Where `rows` begin in the file, in rows, and how many they are."""
        first = self._rows
        self._stream.write(np.ascontiguousarray(rows).tobytes())
        self._rows += len(rows)
        return first, len(rows)

    def sync(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _batches(missing: dict[bytes, str], progress: Progress | None) -> Iterator[list[bytes]]:
    """Keys in portions, texts of similar length together; tells `progress` after each."""
    keys = sorted(missing, key=lambda key: (len(missing[key]), key))
    for start in range(0, len(keys), _COMMIT):
        batch = keys[start : start + _COMMIT]
        yield batch
        if progress:
            progress(start + len(batch), len(keys))
