"""A run on disk: what it was made with, and a line for each example as soon as it is finished.

A run that was killed goes on where it was: its rows are taken again where their key is the same, and the key is a
hash of configuration, code, weights and example.
"""

import hashlib
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from stack.evals.errors import ResultsError
from stack.evals.example import Row
from stack.evals.suite import Mode

MANIFEST = "run.json"


@dataclass(frozen=True)
class Identity:
    """What a run measures: equal identities, equal results but for chance."""

    configuration: str
    """SHA-256 of the configurations of all services."""
    code: str
    """SHA-256 of the code that answers and scores."""
    weights: str
    """SHA-256 over the models that take part."""

    @property
    def digest(self) -> str:
        """SHA-256 of all three."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Manifest:
    """`run.json`."""

    schema: int
    run_id: str
    mode: Mode
    suites: dict[str, str]
    """Name to hash of content."""
    identity: Identity
    machine: str
    started: float
    """Unix seconds."""
    finished: float | None = None
    outcome: str | None = None
    """What the gate said when the run came to its end; None of one that was compared with nothing."""
    label: str = ""
    """What the one who started it calls it: a branch, a pull request, a fault."""
    unasked: tuple[str, ...] = ()
    """Suites that this run leaves out: what only they look after is not judged."""
    changes: tuple[Mapping[str, Any], ...] = ()
    """What was changed of the checkout's configuration, {service: merge patch} each."""
    configs: Mapping[str, Any] = field(default_factory=dict)
    """By service, what it was given."""

    @property
    def purpose(self) -> tuple[str, Mapping[str, str], str]:
        """Runs with an equal one measure the same."""
        return self.mode, self.suites, self.identity.digest


class Results:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def new(cls, runs: Path, manifest: Manifest) -> "Results":
        """A new folder below `runs`."""
        results = cls(runs / manifest.run_id)
        results.folder.mkdir(parents=True)
        results._write(manifest)
        return results

    @classmethod
    def unfinished(cls, runs: Path, manifest: Manifest) -> "Results | None":
        """The latest run that measured the same and did not come to its end."""
        for folder in sorted(runs.glob("*/"), reverse=True):
            results = cls(folder)
            try:
                there = results.manifest()
            except ResultsError:
                continue
            if there.finished is None and there.purpose == manifest.purpose and there.label == manifest.label:
                return results
        return None

    def manifest(self) -> Manifest:
        """What the run was made with. Raises ResultsError."""
        path = self.folder / MANIFEST
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return Manifest(**fields | {"identity": Identity(**fields["identity"])})
        except (OSError, ValueError, TypeError, KeyError) as problem:
            raise ResultsError(f"{path}: no run of the evaluation ({problem})") from problem

    def finish(self, outcome: str | None) -> None:
        """Note that all examples are there, and what is made of them."""
        self._write(replace(self.manifest(), finished=time.time(), outcome=outcome))

    def _write(self, manifest: Manifest) -> None:
        path = self.folder / MANIFEST
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")
        os.replace(new, path)

    def add(self, row: Row) -> None:
        """Keep `row`; it is on the disk when this returns."""
        with (self.folder / f"{row.suite}.jsonl").open("a+b") as file:
            _drop_cut_off_line(file)
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())

    def rows(self, suite: str) -> dict[str, Row]:
        """The rows of a suite by example. A line that a crash cut off at the end is left out. Raises ResultsError."""
        return {row.example: row for row in self._lines(suite)}

    def forget_all_but(self, suite: str, examples: Collection[str]) -> None:
        """Remove the rows of examples that the suite does not ask any more: the data or their reading has changed."""
        rows = self.rows(suite)
        if rows.keys() <= set(examples):
            return
        path = self.folder / f"{suite}.jsonl"
        new = path.with_suffix(".new")
        new.write_bytes(b"".join(_line(row) for name, row in rows.items() if name in examples))
        os.replace(new, path)

    def _lines(self, suite: str) -> Iterator[Row]:
        path = self.folder / f"{suite}.jsonl"
        if not path.exists():
            return
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                fields: dict[str, Any] = json.loads(line)
                yield Row(**fields | {"slices": tuple(fields["slices"])})
            except (ValueError, TypeError, KeyError) as problem:
                if number == len(lines):
                    return  # killed while it was written: the example is asked again
                raise ResultsError(
                    f"{path}: line {number} is damaged ({problem}); remove the run's folder"
                ) from problem


def _line(row: Row) -> bytes:
    return json.dumps(asdict(row), ensure_ascii=False).encode() + b"\n"


def _drop_cut_off_line(file: BinaryIO) -> None:
    """What a crash left of a line at the end of `file`."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)
