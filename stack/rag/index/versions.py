"""Where index versions lie, which slot holds which, and which slot is searched.

    FOLDER/COLLECTION/slots.json      {"slots": {"blue": VERSION}, "active": {"slot": "blue", "configured": "blue"}}
    FOLDER/COLLECTION/VERSION/        manifest.json, documents.json, passages.jsonl, sparse/, dense/
    FOLDER/COLLECTION/lock            held by whoever builds

A version's folder appears under its name only when it is complete, and slots.json is replaced in one step, so that a
reader finds the state before a change or the one after it, whatever kills the writer.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field, ValidationError

from stack.rag.config.collections import Slot
from stack.rag.hits import RetrievalError
from stack.rag.index.manifest import MANIFEST
from stack.settings import Settings

STATE = "slots.json"
_UNFINISHED = ".unfinished-"


class BuildBusy(RetrievalError):
    """Somebody else builds an index of this collection."""


class Active(Settings):
    """`configured` is what the configuration said when `slot` was chosen: a later change of it wins."""

    slot: Slot
    configured: Slot


class State(Settings):
    """`slots.json`."""

    slots: dict[Slot, str] = Field(default_factory=dict)
    active: Active | None = None


class Versions:
    """The versions of one collection."""

    def __init__(self, folder: Path, collection: str) -> None:
        """`folder` is that of all indexes."""
        self.folder = folder / collection
        self.collection = collection

    def path(self, version: str) -> Path:
        """The folder of a version."""
        return self.folder / version

    def exists(self, version: str) -> bool:
        """Whether that version was built to its end."""
        return (self.path(version) / MANIFEST).is_file()

    def state(self) -> State:
        """What the slots hold; nothing, where nothing was built. Raises RetrievalError."""
        path = self.folder / STATE
        try:
            return State.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return State()
        except (OSError, UnicodeDecodeError, ValidationError) as problem:
            text = " ".join(str(problem).split())[:200]
            raise RetrievalError(
                f"{path}: cannot be used ({text}); remove it, then build: python -m stack.rag.index build --config FILE"
            ) from problem

    def stamp(self) -> tuple[int, int]:
        """Changes whenever the state does."""
        try:
            stat = (self.folder / STATE).stat()
        except OSError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_ino

    def active(self, configured: Slot) -> Slot:
        """The slot to search: what the last switch chose, unless the configuration was changed after it."""
        active = self.state().active
        return active.slot if active and active.configured == configured else configured

    def settle(self, configured: Slot) -> Slot:
        """The slot to search, at a start: a configuration that was changed since the last switch holds from now on."""
        active = self.state().active
        if active and active.configured != configured:
            self.activate(configured, configured)
        return self.active(configured)

    def activate(self, slot: Slot, configured: Slot) -> None:
        """Search that slot from now on."""
        with self._changing() as state:
            self._write(state.model_copy(update={"active": Active(slot=slot, configured=configured)}))

    def assign(self, slot: Slot, version: str) -> None:
        """Put a version into a slot."""
        with self._changing() as state:
            self._write(state.model_copy(update={"slots": {**state.slots, slot: version}}))

    @contextmanager
    def building(self) -> Iterator[None]:
        """Around a build: one at a time in all processes. Raises BuildBusy."""
        self._make_folder()
        with (self.folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BuildBusy(f"{self.collection}: another process builds an index of this collection") from None
            yield

    def clean(self) -> list[str]:
        """Remove versions that are in no slot, and what killed builds left; whoever calls it is building."""
        kept = set(self.state().slots.values())
        gone = [path.name for path in self.folder.iterdir() if path.is_dir() and path.name not in kept]
        for name in gone:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return gone

    def unfinished(self, version: str) -> Path:
        """An empty folder to build a version in."""
        path = self.folder / f"{_UNFINISHED}{version}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def finish(self, version: str) -> None:
        """Give the folder from `unfinished` its name, once everything in it is on the disk."""
        path = self.folder / f"{_UNFINISHED}{version}"
        for file in (*path.rglob("*"), path):
            _sync(file)
        if self.path(version).exists():  # a damaged one: nobody may find half of it
            aside = self.folder / f"{_UNFINISHED}{version}-damaged"
            shutil.rmtree(aside, ignore_errors=True)
            self.path(version).rename(aside)
        path.rename(self.path(version))
        _sync(self.folder)

    @contextmanager
    def _changing(self) -> Iterator[State]:
        self._make_folder()
        with (self.folder / f"{STATE}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.state()

    def _write(self, state: State) -> None:
        new = self.folder / f"{STATE}.new"
        new.write_text(state.model_dump_json(indent=1) + "\n", encoding="utf-8")
        _sync(new)
        os.replace(new, self.folder / STATE)
        _sync(self.folder)

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise RetrievalError(f"{self.folder}: cannot keep indexes here ({problem.strerror})") from problem


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 in hex of every file below `folder` but the manifest, by relative path. Raises RetrievalError."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST):
        try:
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as problem:
            raise RetrievalError(f"{path}: cannot be read ({problem.strerror})") from problem
    return found


def verify(folder: Path, expected: dict[str, str]) -> None:
    """Raises RetrievalError that names the first file which is missing or not the one that was built."""
    found = hashes(folder)
    for name, digest in expected.items():
        if name not in found:
            raise RetrievalError(f"{folder / name}: missing from the index")
        if found[name] != digest:
            raise RetrievalError(f"{folder / name}: damaged, its SHA-256 is not the one of its manifest")


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
