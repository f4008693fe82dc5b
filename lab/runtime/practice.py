"""The practice load as a program of a run: rows of an earlier start are put aside, then this process becomes Locust."""

import os
import secrets
import sys
import time
from pathlib import Path

from lab.run import Run
from lab.runtime.programs import load_command


def main() -> None:
    run = Run(Path(sys.argv[1]))
    folder = run.folder / "load/practice"
    rows = folder / "rows.jsonl"
    if rows.exists():
        rows.rename(folder / f"rows-{time.time_ns()}.jsonl")
    command = load_command(run, folder, secrets.token_hex(3))
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
