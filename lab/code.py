"""Digests over the code that a proof speaks of: its services, the load generator, locked packages; what grades it."""

import hashlib
from collections.abc import Iterable, Iterator, Set
from functools import cache
from pathlib import Path

from lab.paths import ROOT

SHARED = {"service", "telemetry", "lifeline"}
"""Folders of `stack/` that every service uses; any other one is a service's, or the evaluation's."""
A_FILE_EACH = {"config", "telemetry/metrics"}
"""Folders of `stack/` with a file for each service, of its name."""
ALSO = {"gate": {"rag", "evals/__init__.py", "evals/example.py", "evals/statistics.py"}}
"""What a service runs in its own process besides its own folder: other folders of `stack/`, or files of them."""
NO_PART = {"stack/evals/faults", "stack/evals/suites", "requirements/workers.lock"}
"""Left out: a fault is a configuration, a suite has a hash of its own, and only tests use the workers of pytest."""
LOAD = "loadtests"
"""The load generator, as a part of what a digest covers."""
SUFFIXES = {".py", ".yaml", ".yml", ".json", ".lock", ".npz", ".safetensors", ".onnx"}


GRADERS = (
    "alarms",
    "anchor",
    "calibrate",
    "check",
    "grade",
    "host",
    "measure",
    "prometheus",
    "prompts",
    "quality",
    "scenario",
    "traffic",
)
"""Modules of the lab that decide a verdict."""


@cache
def grader_digest() -> str:
    """SHA-256 over the modules that decide a verdict."""
    return digest_of(ROOT / f"lab/{name}.py" for name in GRADERS)


def code_digest(services: Iterable[str]) -> str:
    """SHA-256 over names and contents of the files of this checkout that `services` run with, and their load."""
    return _digest(frozenset({*services, LOAD}))


def stack_digest(services: Iterable[str]) -> str:
    """The same of `services` alone, for what asks them without the load generator."""
    return _digest(frozenset(services))


@cache
def _digest(parts: frozenset[str]) -> str:
    return digest_of(covered(parts))


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents of files of this checkout."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def covered(parts: Set[str]) -> Iterator[Path]:
    """The files that the digest is made of; `parts` are services, and LOAD."""
    stack = ROOT / "stack"
    running = set(parts).union(*(ALSO.get(name, ()) for name in parts))
    apart = {ROOT / name for name in NO_PART}
    load = [ROOT / LOAD] if LOAD in parts else []
    for folder in (*load, ROOT / "requirements", stack):
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix in SUFFIXES and not apart & {path, path.parent}:
                owner = _owner(path, stack)
                if owner is None or owner in running or path.relative_to(stack).as_posix() in running:
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
