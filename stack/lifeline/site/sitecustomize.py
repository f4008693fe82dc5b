"""Runs at the start of every Python process below a service: see `stack.lifeline`. Standard library only."""

import ctypes
import os
import signal

_ABOVE = "LIFELINE_PYTHON"  # in the environment: pid of the Python process above, whatever stands between
_forking = ""


def _die_with_parent(above: str) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if above and not _lives(above):  # it died before the kernel knew
        os._exit(1)
    os.environ[_ABOVE] = str(os.getpid())


def _lives(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in (b"Z", b"X")
    except OSError:
        return False


def _before_fork() -> None:
    global _forking
    _forking = str(os.getpid())


_die_with_parent(os.environ.get(_ABOVE, ""))
os.register_at_fork(before=_before_fork, after_in_child=lambda: _die_with_parent(_forking))
