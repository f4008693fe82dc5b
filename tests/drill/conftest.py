"""Whole drills and the real engine: slow, and alone on the machine."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.paths import ROOT
from lab.run import CURRENT
from lab.runtime import control

LAB = Path(sys.executable).with_name("lab")


@dataclass(frozen=True)
class Answer:
    """What one call of `lab` said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


def lab(*arguments: str, timeout: float = 400) -> Answer:
    """Call the command line as a person would, from another folder of the checkout."""
    done = subprocess.run(
        [LAB, *arguments], cwd=ROOT / "scenarios", capture_output=True, text=True, timeout=timeout, check=False
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session", autouse=True)
def _no_other_drill() -> Iterator[None]:
    if CURRENT.exists():
        from lab.run import Run

        if control.alive(Run(CURRENT.resolve())):
            pytest.exit("a drill is running in this checkout: `lab stop` first", returncode=2)
    yield
    lab("stop")
