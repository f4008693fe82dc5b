"""What an incident starts from besides configuration: indexes as the site made them before it, empty queues."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

from lab import workspace
from lab.paths import ROOT
from lab.run import Run, RunError
from lab.scenario import Scenario
from stack.lifeline import child_environment

FOLDERS = {"rag": "rag", "moderation": "moderation"}  # below the run's folder, by the service that keeps its data there


def restore(run: Run, scenario: Scenario, progress: Callable[[str], None]) -> None:
    """Make the state anew; the services that keep it must not run. Raises RunError."""
    for service in FOLDERS.keys() & set(run.info.services):
        folder = run.folder / FOLDERS[service]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    if "rag" in run.info.services:
        _build_indexes(run, scenario, progress)


def _build_indexes(run: Run, scenario: Scenario, progress: Callable[[str], None]) -> None:
    """With the configuration from before the incident, whatever the one says that is to be served."""
    folder = run.folder / "state"
    folder.mkdir(exist_ok=True)
    workspace.write({"rag": workspace.placed(workspace.healthy(scenario), run.ports)["rag"]}, folder)
    command = [sys.executable, "-m", "stack.rag.index", "build", "--config", str(folder / "rag.yaml")]
    environment = child_environment(os.environ) | {"PYTHONUNBUFFERED": "1"}
    log = run.logs / "index.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=errors, text=True)  # fmt: skip
        try:
            for line in process.stdout or ():
                progress(f"indexes as they were before the incident: {_said(line)}")
            code = process.wait()
        finally:
            process.kill()
            process.wait()
    if code:
        raise RunError(f"the indexes could not be built; the end of {log}:\n{log.read_text(errors='replace')[-800:]}")


def _said(line: str) -> str:
    """What a line of output says, also where it is a log line."""
    try:
        return str(json.loads(line)["message"])
    except (ValueError, KeyError, TypeError):
        return line.strip()
