"""No orphans: every process of the stack dies when the process that started it dies, however that happens.

Linux delivers a signal of our choice when a process's parent dies (`prctl(PR_SET_PDEATHSIG)`, prctl(2)), but children
do not inherit the setting. So it is made again in every Python process of a tree: `child_environment` puts a
`sitecustomize` in front of the module path, which calls `die_with_parent` at interpreter start and after each fork.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_SITE = Path(__file__).parent / "site"


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to kill this process when its parent dies; exit at once if `parent` is dead already.

    Without `parent`, one that died before this call goes unnoticed.
    """
    if sys.platform != "linux":
        return
    parent = parent or os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(1)


def tie_forks() -> None:
    """From now on every process that this one forks dies with it, whatever program it becomes."""
    forking = 0

    def before() -> None:
        nonlocal forking
        forking = os.getpid()

    os.register_at_fork(before=before, after_in_child=lambda: die_with_parent(forking))


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """A copy of `environment` under which every Python process, at any depth, dies with its parent."""
    inherited = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    entries = [str(_SITE), *(entry for entry in inherited if entry != str(_SITE))]
    return {**environment, "PYTHONPATH": os.pathsep.join(entries)}
