"""One digest over the code that a proof speaks of: its services, the load generator, locked packages."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from lab.paths import ROOT

SHARED = {"service", "telemetry", "lifeline"}
"""Folders of `stack/` that every service uses; any other one is a service's, or the evaluation's."""
A_FILE_EACH = {"config", "telemetry/metrics"}
"""Folders of `stack/` with a file for each service, of its name."""
ALSO = {"gate": {"rag", "evals"}}
"""Folders whose code a service runs in its own process, besides its own."""
SUFFIXES = {".py", ".yaml", ".yml", ".json", ".lock", ".npz", ".safetensors", ".onnx"}


def code_digest(services: Iterable[str]) -> str:
    """SHA-256 over names and contents of the files of this checkout that `services` run with."""
    named = frozenset(services)
    return _digest(named.union(*(ALSO.get(name, ()) for name in named)))


@cache
def _digest(services: frozenset[str]) -> str:
    digest = hashlib.sha256()
    for path in sorted(_covered(services)):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _covered(services: frozenset[str]) -> Iterator[Path]:
    stack = ROOT / "stack"
    for folder in (ROOT / "loadtests", ROOT / "requirements", stack):
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix in SUFFIXES and _owner(path, stack) in (None, *services):
                yield path


def _owner(path: Path, stack: Path) -> str | None:
    """The service that a file of `stack/` belongs to; None where it is everybody's."""
    if stack not in path.parents:
        return None
    inside = path.relative_to(stack)
    if inside.parent.as_posix() in A_FILE_EACH and (stack / path.stem).is_dir():
        return path.stem
    first, *rest = inside.parts
    return first if rest and first not in SHARED else None
