"""Runs a command that does not outlive the set-up, whose process id comes first: `leash.py PID COMMAND…`.

When that process dies, however it dies, the whole process group of the command goes with it. It starts this
script in a session of its own, so the group holds the command and its descendants and nothing else.
"""

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1  # prctl(2): the signal to get when the parent dies


def end_group(*_: object) -> None:
    os.killpg(0, signal.SIGKILL)


def main(parent: int, command: list[str]) -> int:
    signal.signal(signal.SIGTERM, end_group)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the kernel knew of our wish
        end_group()
    status = subprocess.call(command)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
