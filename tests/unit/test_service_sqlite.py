"""SQLite files that several processes open."""

import sqlite3
import threading
from pathlib import Path

import pytest

from stack.service.sqlite import use_wal


def mode(path: Path) -> str:
    return sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone()[0]


def test_it_waits_for_whoever_has_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    threading.Timer(0.1, lambda: other.execute("COMMIT")).start()
    use_wal(sqlite3.connect(path, timeout=0), seconds=60)
    assert mode(path) == "wal"


def test_it_does_not_wait_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        use_wal(sqlite3.connect(path, timeout=0), seconds=0.05)


def test_a_file_that_cannot_be_written_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old.sqlite"
    sqlite3.connect(path).execute("CREATE TABLE t (a)")
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("waited for a file that nobody will make writable"))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        use_wal(sqlite3.connect(f"file:{path}?mode=ro", uri=True), seconds=60)
