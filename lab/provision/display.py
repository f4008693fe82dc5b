"""Shows how the steps get on: lines rewritten in place on a terminal, one line an event elsewhere."""

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TextIO

from lab.provision.step import Step


class Display:
    """The state of each step on `out`. `clock` gives seconds."""

    def __init__(self, steps: Iterable[Step], out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._in_place = out.isatty()
        self._states = {step.name: "waiting" for step in steps}
        self._started: dict[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._logs: dict[str, Path] = {}
        self._drawn = 0

    def start(self, step: str, log: Path) -> None:
        self._states[step] = "running"
        self._started[step] = self._clock()
        self._logs[step] = log
        if not self._in_place:
            self._line(f"{step}: started")

    def end(self, step: str, state: str) -> None:
        """A step ended, in the state `done` or `failed`."""
        self._states[step] = state
        self._seconds[step] = self._clock() - self._started[step]
        if self._in_place:
            self.refresh()
        else:
            self._line(f"{step}: {state} after {self._seconds[step]:.0f} s")

    def skip(self, step: str) -> None:
        self._states[step] = "skipped"
        if not self._in_place:
            self._line(f"{step}: skipped")

    def refresh(self) -> None:
        """Draw the table again, over the one before."""
        if not self._in_place:
            return
        width = shutil.get_terminal_size().columns - 1
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        rows = "".join(f"\x1b[2K{self._row(step)[:width]}\n" for step in self._states)
        self._out.write(up + rows)
        self._out.flush()
        self._drawn = len(self._states)

    def _row(self, step: str) -> str:
        state = self._states[step]
        if state == "running":
            seconds = self._clock() - self._started[step]
            return f"  {step:<11}{seconds:>4.0f} s  {last_line(self._logs[step])}"
        seconds = f"{self._seconds[step]:>4.0f} s" if step in self._seconds else " " * 6
        return f"  {step:<11}{seconds}  {state}"

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()


def last_line(log: Path) -> str:
    """The last line of a log that is being written, printable; empty while there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "".join(letter for letter in lines[-1].strip() if letter.isprintable()) if lines else ""
