"""The `lab` command line, called as a person would."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.paths import ROOT

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


def lab(*arguments: str, timeout: float = 900) -> Answer:
    """Call it from another folder of the checkout."""
    done = subprocess.run(
        [LAB, *arguments], cwd=ROOT / "scenarios", capture_output=True, text=True, timeout=timeout, check=False
    )
    return Answer(done.returncode, done.stdout, done.stderr)
