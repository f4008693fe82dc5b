"""Runs the commands of a step: where they log, how they fail, and how all of them are stopped."""

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab.provision.checkout import Checkout

# Inside an environment, sys.executable is the environment's own: it may be the very one that is built anew.
PYTHON: str = getattr(sys, "_base_executable", sys.executable)
LEASH = Path(__file__).with_name("leash.py")
SHOWN_LINES = 15

_NETWORK = re.compile(
    r"NewConnectionError|Max retries exceeded|[Rr]ead timed out|Connection (reset|refused|timed out|broken)"
    r"|[Tt]emporary failure|Could not (resolve|connect)|Unable to connect|Network is unreachable|ProxyError"
)


class StepFailed(Exception):
    """A step cannot be done; the message says why and what to do."""


class Children:
    """Every running child process of the set-up, so that an interrupt leaves none behind.

    `lock` is a file descriptor that each child keeps open: the lock on it lasts until the last child is gone,
    also when the set-up itself was killed.
    """

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._running: set[subprocess.Popen[bytes]] = set()
        self._guard = threading.Lock()
        self._stopped = False

    def call(self, command: list[str], cwd: Path, environment: dict[str, str], log: Path) -> int:
        """Run `command` to its end with its output appended to `log`; returns its exit status."""
        with log.open("ab") as output:
            output.write(f"$ {' '.join(command)}\n".encode())
            output.flush()
            with self._guard:
                if self._stopped:
                    raise StepFailed("stopped")
                child = subprocess.Popen(
                    [PYTHON, "-I", "-S", str(LEASH), str(os.getpid()), *command],
                    cwd=cwd,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(self._lock,),
                )
                self._running.add(child)
            status = child.wait()
        with self._guard:
            self._running.discard(child)
        return status

    def stop(self) -> None:
        """Kill every child with its descendants, and let no other start. What is half-made is made anew."""
        with self._guard:
            self._stopped = True
            for child in self._running:
                if child.poll() is None:
                    with suppress(ProcessLookupError):  # it ended just now
                        os.killpg(child.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Work:
    """What the build function of a step gets: the checkout, and a way to run commands that logs them."""

    checkout: Checkout
    log: Path
    children: Children

    def attempt(self, *command: str | Path, cwd: Path | None = None) -> bool:
        """Run a command; whether it succeeded."""
        words = [str(word) for word in command]
        environment = child_environment(dict(os.environ), self.checkout)
        return self.children.call(words, cwd or self.checkout.root, environment, self.log) == 0

    def run(self, *command: str | Path, cwd: Path | None = None) -> None:
        """Run a command that has to succeed; raises StepFailed with the end of its output."""
        if not self.attempt(*command, cwd=cwd):
            raise StepFailed(failure_report(self.log, self.checkout.root))


def child_environment(environment: dict[str, str], checkout: Checkout) -> dict[str, str]:
    """`environment` without what bends Python, with what keeps a step in English and in its place."""
    kept = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
    return kept | {
        "TMPDIR": str(checkout.scratch),
        "LC_ALL": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "PIP_USER": "0",
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }


def failure_report(log: Path, root: Path) -> str:
    """The last lines of a log, its path, and advice where its text betrays a known cause."""
    text = log.read_text(errors="replace")
    lines = "\n".join(f"    {line}" for line in text.splitlines()[-SHOWN_LINES:])
    return f"the last lines of {log.relative_to(root)}:\n{lines}{known_cause(text)}"


def known_cause(output: str) -> str:
    """A line that says what to do about the output of a failed command; empty where that is not known."""
    if "No space left on device" in output:
        return "\nThe disk is full: make room, then run the same command again."
    if _NETWORK.search(output):
        return "\nThe network or the package index did not answer. When it does, run the same command again."
    return ""
