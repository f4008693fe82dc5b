"""Where things are: the folders of the checkout and the programs that the lab runs."""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
MODEL_FOLDER = CACHE / "models/smollm2-135m-instruct"
RUNS = ROOT / "runs"
SCENARIOS = ROOT / "scenarios"
DASHBOARDS = ROOT / "dashboards"


class ToolMissing(Exception):
    """A program that the lab needs is not installed; the message says how to get it."""


def tool(name: str) -> Path:
    """The program `name` (`prometheus`, `promtool`): what was set up under `.cache` first, then PATH.

    Raises ToolMissing.
    """
    setup = CACHE / "prometheus"
    for candidate in (setup / name, setup / "usr" / "bin" / name):  # the second: an unpacked Debian package
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    if found := shutil.which(name):
        return Path(found)
    raise ToolMissing(
        f"{name} is neither in {setup} nor on PATH; "
        "`make drill` sets it up, and so does `python3 lab/bootstrap.py` alone"
    )
