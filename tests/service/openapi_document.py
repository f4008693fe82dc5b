"""Whether a running service does what its OpenAPI document says, as schemathesis finds out."""

import subprocess
import sys
from pathlib import Path


def schemathesis(document: str | Path, folder: Path, *arguments: str, seconds: float = 120) -> str:
    """What it tells, when it found no server error and no undocumented answer; it writes below `folder`."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(document), "--no-color"]
    command += ["--seed", "1", "--generation-database", "none", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=folder)
    assert done.returncode == 0, "\n".join(line[:500] for line in done.stdout.splitlines())
    return done.stdout
