"""Disturbs graded loads on purpose and writes down what the verdict was: `python -m lab.disturb SCENARIO`.

A disturbance may cost a verdict (`cannot grade`), but must never turn one round. What disturbs ends with the load, or
by itself after ten minutes. The table goes to `hidden/proof/disturbances.json` and to standard output.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from lab import calibrate, proof
from lab.check import check
from lab.paths import CACHE
from lab.proof_tables import disturbed
from lab.run import Progress, Run, exclusive
from lab.runtime import control
from lab.scenario import Scenario, find
from lab.traffic import Watcher, to_the_end
from loadtests.plan import Plan
from loadtests.rows import Row

BURN = """
import time
end = time.monotonic() + 600
while time.monotonic() < end:
    pass
"""
WRITE = """
import os, sys, time
block, end = os.urandom(1 << 20), time.monotonic() + 600
while time.monotonic() < end:
    with open(sys.argv[1], "wb") as file:
        for _ in range(512):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
"""
TOUCH = """
import sys, time
block, end = bytearray(int(sys.argv[1])), time.monotonic() + 600
while time.monotonic() < end:
    for offset in range(0, len(block), 4096):
        block[offset] = 1
    time.sleep(1)
"""
FROZEN_SECONDS = 5
STRIKE_AFTER_SECONDS = 15

Disturbance = Callable[[Run], Watcher]


def _quiet(run: Run) -> Watcher:
    return to_the_end


def _once(strike: Callable[[], None]) -> Watcher:
    """A watcher that strikes once, in the middle of the load."""
    done: list[bool] = []

    def watch(plan: Plan, rows: list[Row], elapsed: float) -> bool:
        if elapsed > STRIKE_AFTER_SECONDS and not done:
            done.append(True)
            strike()
        return False

    return watch


def _killing(name: str) -> Disturbance:
    def arm(run: Run) -> Watcher:
        pid = next(process.pid for process in control.processes(run) if process.name == name)
        return _once(psutil.Process(pid).kill)  # refuses 0, supervisord's word for "does not run" and os.kill's for us

    return arm


def _freezing_the_generator(run: Run) -> Watcher:
    def strike() -> None:
        locust = next(child for child in psutil.Process().children() if "locust" in child.cmdline())
        locust.suspend()
        time.sleep(FROZEN_SECONDS)
        locust.resume()

    return _once(strike)


# Starts a program and ends, so that the program is nobody's child here: the lab must not count it as its own.
_LEAVE = """
import subprocess, sys
null = subprocess.DEVNULL
print(subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=null, stdout=null, stderr=null).pid)
"""


@contextmanager
def _beside(programs: Sequence[Sequence[str]]) -> Iterator[None]:
    """Programs of somebody else, beside the load."""
    started: list[psutil.Process] = []
    try:
        for program in programs:
            command = [sys.executable, "-c", _LEAVE, "-c", *program]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            started.append(psutil.Process(int(told)))
        yield
    finally:
        for process in started:
            with suppress(psutil.NoSuchProcess):  # nor is another one killed that has its number now
                process.kill()


def disturbances(folder: Path) -> dict[str, tuple[list[list[str]], Disturbance]]:
    """By name: programs beside the load, and what strikes during it."""
    half_of_memory = str(psutil.virtual_memory().available // 2)
    return {
        "nothing": ([], _quiet),
        "a program that burns one core": ([[BURN]], _quiet),
        "programs that burn both cores": ([[BURN], [BURN]], _quiet),
        "a program that writes to the disk without pause": ([[WRITE, str(folder / "written")]], _quiet),
        "a program that uses half of the free memory": ([[TOUCH, half_of_memory]], _quiet),
        "Locust frozen for 5 s": ([], _freezing_the_generator),
        "Prometheus killed": ([], _killing("prometheus")),
        "the gateway killed": ([], _killing("gateway")),
    }


def disturb(scenario: Scenario, progress: Progress) -> dict[str, Any]:
    """The broken configuration and the reference fix under each disturbance; what the verdicts were."""
    baseline = calibrate.undisturbed(scenario, progress)
    reference = f"fix {next(iter(scenario.fixes))}"
    wrong = {"broken": "pass", reference: "fail"}
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        chosen = [item for item in proof.controls(scenario) if item.name in wrong]
        with proof.stack(scenario, chosen[0].configs, progress) as run:
            for item in chosen:
                for name, (programs, arm) in disturbances(Path(folder)).items():
                    proof.serve(run, scenario, item, progress)
                    progress(f"{item.name} under: {name}")
                    with _beside(programs):
                        _, grade = check(run, scenario, baseline, progress, watch=arm(run))
                    said = {"configuration": item.name, "disturbance": name}
                    results.append(said | {"wrong": grade.verdict == wrong[item.name]} | grade.as_dict())
    return {"schema_version": 1, "scenario": scenario.id, "machine": baseline.machine, "results": results}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.disturb", description=__doc__)
    parser.add_argument("scenario", help="a scenario of `lab list`")
    scenario = find(parser.parse_args().scenario)
    with exclusive("disturb"):
        made = disturb(scenario, lambda text: print(text, file=sys.stderr, flush=True))
    path = proof.proof_path(scenario).with_name("disturbances.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=1) + "\n")
    print(disturbed(made))
    return 1 if any(item["wrong"] for item in made["results"]) else 0


if __name__ == "__main__":
    sys.exit(main())
