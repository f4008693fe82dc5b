"""What an incident starts from besides configuration: indexes and a reference as the site made them before it, empty
queues and logs."""

import json
import os
import random
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

from lab import workspace
from lab.paths import CACHE, ROOT
from lab.run import Progress, Run, RunError
from lab.scenario import Scenario
from loadtests.questions import draw, load_questions
from stack.lifeline import child_environment

FOLDERS = {"rag": "rag", "moderation": "moderation", "drift": "traffic"}
"""Below the run's folder, by the service that keeps its data there."""
REFERENCE = "state/reference.npz"
"""Below the run's folder: what the drift monitor compares with, as it was before the incident."""


def restore(run: Run, scenario: Scenario, progress: Progress) -> None:
    """Make the state anew; the services that keep it must not run. Raises RunError."""
    for service in FOLDERS.keys() & set(run.info.services):
        _empty(run, service)
    if "rag" in run.info.services:
        rag = _before(run, scenario)
        _build_indexes(run, rag, progress)
        if "drift" in run.info.services:
            _make_reference(run, scenario, rag, progress)


def forget(run: Run, service: str) -> None:
    """Throw away what `service`, which must not run, has gathered since the start: what waits in its queue."""
    if service == "moderation":
        _empty(run, service)


def _empty(run: Run, service: str) -> None:
    folder = run.folder / FOLDERS[service]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def _build_indexes(run: Run, rag: Path, progress: Progress) -> None:
    command = ["stack.rag.index", "build", "--config", str(rag)]
    _ask(run, command, "index", lambda said: progress(f"indexes as they were before the incident: {said}"))


def _make_reference(run: Run, scenario: Scenario, rag: Path, progress: Progress) -> None:
    """Of other questions than those that are practised or graded with; the same in every state of the run."""
    made = run.folder / REFERENCE
    if not made.exists():
        site, load = workspace.healthy(scenario)["drift"], scenario.public.load.grading
        wanted = site["reference"]["searches"]
        questions = islice(draw(load_questions(CACHE / "data", "calibration"), random.Random(0)), wanted)
        listed = run.folder / "state/questions.txt"
        listed.write_text("".join(f"{question}\n" for question in questions), encoding="utf-8")
        command = ["stack.drift.replay", "--rag", str(rag), "--collection", site["collection"],
                   "--tenant", load.tenant, "--questions", str(listed), "--out", str(made)]  # fmt: skip
        _ask(run, command, "reference", lambda said: progress(f"searches from before the incident: {said}"))
    shutil.copyfile(made, run.folder / FOLDERS["drift"] / "reference.npz")


def _before(run: Run, scenario: Scenario) -> Path:
    """Retrieval's configuration from before the incident, whatever the one says that is to be served."""
    folder = run.folder / "state"
    folder.mkdir(exist_ok=True)
    configs = workspace.placed(workspace.healthy(scenario), run.ports)
    workspace.write({"rag": workspace.on_all_cores(configs["rag"])}, folder)
    return folder / "rag.yaml"


def _ask(run: Run, command: list[str], name: str, tell: Progress) -> None:
    """Run a module of the stack to its end. Raises RunError."""
    environment = child_environment(os.environ) | {"PYTHONUNBUFFERED": "1"}
    log = run.logs / f"{name}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            for line in process.stdout or ():
                tell(_said(line))
            code = process.wait()
        finally:
            process.kill()
            process.wait()
    if code:
        raise RunError(f"the {name} could not be made; the end of {log}:\n{log.read_text(errors='replace')[-800:]}")


def _said(line: str) -> str:
    """What a line of output says, also where it is a log line."""
    try:
        return str(json.loads(line)["message"])
    except (ValueError, KeyError, TypeError):
        return line.strip()
