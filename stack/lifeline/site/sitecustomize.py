"""Runs at the start of every Python process below a service: see `stack.lifeline`. Standard library only."""

import ctypes
import os
import signal


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


_die_with_parent()
os.register_at_fork(after_in_child=_die_with_parent)
