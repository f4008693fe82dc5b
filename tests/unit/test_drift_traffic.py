"""The traffic log: read as it grows, whatever becomes of the file, and whoever writes into it."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from drift_handmade import lines, log_of, searches

from stack.drift.monitor import load, save
from stack.drift.traffic import Log, Parser, read


def test_a_log_is_read_from_where_the_last_reading_ended(tmp_path: Path) -> None:
    path = tmp_path / "searches.jsonl"
    log = Log(path, Parser("books"))
    assert log.new() is None
    log_of(path, searches(3, 1))
    assert len(log.new()) == 3
    assert log.new() is None
    content = lines(searches(2, 2))
    with path.open("ab") as file:
        file.write(content[:-10])
    assert len(log.new()) == 1, "a line that is still being written is left for later"
    with path.open("ab") as file:
        file.write(content[-10:])
    assert len(log.new()) == 1


def test_a_log_that_was_full_and_renamed_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "searches.jsonl"
    log = Log(path, Parser("books"))
    log_of(path, searches(3, 1))
    assert len(log.new()) == 3
    log_of(path, searches(2, 2))
    path.rename(tmp_path / "searches.jsonl.1")
    log_of(path, searches(4, 3))
    assert len(log.new()) == 6


def test_a_log_that_was_emptied_in_place_is_read_from_its_beginning(tmp_path: Path) -> None:
    """Bug: nothing was read until it had grown past its old size, which looked like traffic without drift."""
    path = tmp_path / "searches.jsonl"
    log = Log(path, Parser("books"))
    log_of(path, searches(50, 1))
    assert len(log.new()) == 50
    path.write_bytes(b"")
    log_of(path, searches(4, 2))
    assert len(log.new()) == 4


def test_an_old_log_that_is_not_the_one_that_was_read_is_left_alone(tmp_path: Path) -> None:
    """Bug: it was read from the place where reading had ended in another file: old traffic counted as new."""
    path = tmp_path / "searches.jsonl"
    log_of(tmp_path / "searches.jsonl.1", searches(90, 1))
    log = Log(path, Parser("books"))
    log_of(path, searches(3, 2))
    assert len(log.new()) == 3
    path.rename(tmp_path / "taken-away")
    log_of(path, searches(4, 3))
    assert len(log.new()) == 4


def changed(of: bytes, **fields: object) -> bytes:
    return b"".join(json.dumps(json.loads(line) | fields).encode() + b"\n" for line in of.splitlines())


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (changed(lines(searches(2, 9)), vector=base64.b64encode(np.ones(24, np.float16).tobytes()).decode()), "24"),
        (changed(lines(searches(2, 9)), vector=None), "no vector"),
        (changed(lines(searches(2, 9)), dense=float("nan")), "not finite"),
        (changed(lines(searches(2, 9)), vector=base64.b64encode(np.full(16, np.inf, np.float16)).decode()), "finite"),
    ],
)
def test_a_line_that_cannot_be_compared_is_refused_and_counted(
    tmp_path: Path, bad: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Bug: one vector of another model stopped the monitor for good, and it went on saying that all was well."""
    path = tmp_path / "searches.jsonl"
    parser = Parser("books")
    log = Log(path, parser)
    path.write_bytes(lines(searches(3, 1)) + bad + lines(searches(2, 2)))
    assert len(log.new()) == 5
    assert parser.refused == 2
    assert why in caplog.records[0].first


def test_lines_of_others_and_lines_that_are_none_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "searches.jsonl"
    (tmp_path / "searches.jsonl.1").write_bytes(lines(searches(1, 1)))
    path.write_bytes(lines(searches(2, 1), "maps") + b"no json\n{}\n" + lines(searches(2, 2)))
    assert len(read(path, "books")) == 3
    with pytest.raises(ValueError, match="no search of the collection 'films'"):
        read(path, "films")


def test_vectors_and_scores_come_back_as_they_were(tmp_path: Path) -> None:
    path, made = tmp_path / "searches.jsonl", searches(5, 1)
    log_of(path, made)
    found = read(path, "books")
    assert np.allclose(found.vectors, made.vectors, atol=0.01)
    assert np.array_equal(found.dense, made.dense)
    save(found, tmp_path / "kept.npz")
    assert np.array_equal(load(tmp_path / "kept.npz").vectors, found.vectors)
