"""From `lab start` to the symptom, for each scenario, and the memory of all services together under load.

.venv/bin/python tests/bench/whole_stack.py
"""

import argparse
import sys
import threading
import time
from functools import cached_property
from typing import Any

import psutil

from lab import calibrate, drill, workspace
from lab.run import Run, exclusive
from lab.runtime import control
from lab.scenario import SERVICES, Load, Public, Scenario, all_ids, find
from lab.traffic import rows_so_far, send
from loadtests.plan import Plan

MEMORY_SECONDS = 40
LIMIT_GIB = 6


class AllServices(Scenario):
    """Every service on its healthy configuration, with no incident."""

    @cached_property
    def public(self) -> Public:  # type: ignore[override]
        return find(all_ids()[0]).public.model_copy(update={"services": SERVICES})

    def __init__(self) -> None:
        self.folder = find(all_ids()[0]).folder

    def layer(self, name: str) -> dict[str, dict[str, Any]]:
        return {}


LOADS = ((1.0, "reading_desk", "reading-desk"), (2.0, "library", "encyclopedia"), (3.0, "comments", "-"))
"""What is sent at the same time: requests/s, who, and what is asked."""


def mixed() -> Plan:
    """All loads as one plan: one generator sends them."""
    plans = [
        drill.plan_for(
            Load(user=user, rate=rate, unit="requests/s", seconds=MEMORY_SECONDS, seed=5, split="practice",
                 tenant="demo", target=target),
            rate,
        )
        for rate, user, target in LOADS
    ]  # fmt: skip
    due = sorted((arrival for plan in plans for arrival in plan.arrivals), key=lambda arrival: arrival.offset)
    arrivals = tuple(arrival.model_copy(update={"i": i}) for i, arrival in enumerate(due))
    changes = {"user": "mixed", "rate": sum(rate for rate, _, _ in LOADS), "requests": len(arrivals)}
    return Plan(plans[0].header.model_copy(update=changes), arrivals)


def resident(run: Run) -> float:
    """GiB of the run's processes and of this one's children; what they share counts once (PSS)."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    for pid in control.roots(run):
        root = psutil.Process(pid)
        processes += [root, *root.children(recursive=True)]
    total = 0
    for process in {process.pid: process for process in processes}.values():
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**30


def memory() -> tuple[float, float]:
    """The most that the whole stack held, in GiB, and the share of its requests that were answered."""
    run = drill.start(AllServices(), workspace.defaults(SERVICES), purpose="baseline", progress=tell)
    try:
        folder = run.new_check()
        sender = threading.Thread(target=send, args=(run, mixed(), folder, "mixed"))
        sender.start()
        most = 0.0
        while sender.is_alive():
            most = max(most, resident(run))
            time.sleep(1)
        rows = rows_so_far(folder)
        return most, sum(row.outcome == "ok" for row in rows) / len(rows)
    finally:
        drill.stop(run)


def start_seconds(scenario: Scenario) -> float:
    """From the command to the symptom, on a machine that was measured before."""
    baseline = calibrate.stored_or_new(scenario, tell)
    begun = time.monotonic()
    run = drill.start(scenario, workspace.broken(scenario), purpose="drill", progress=tell, capacity=baseline.capacity)
    try:
        drill.start_practice(run)
        drill.wait_for_symptom(run, scenario.public.wait_for, tell)
        return time.monotonic() - begun
    finally:
        drill.stop(run)


def tell(text: str) -> None:
    """On one line of a terminal; a log gets the results only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text[:100]}", end="", file=sys.stderr, flush=True)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with exclusive("measure"):
        for scenario_id in all_ids():
            print(f"{scenario_id}: symptom {start_seconds(find(scenario_id)):.0f} s after the start")
        most, answered = memory()
    print(
        f"all services under load: {most:.2f} GiB, {most / LIMIT_GIB:.2f} of the {LIMIT_GIB} GiB allowed; "
        f"{answered:.1%} of the requests answered"
    )


if __name__ == "__main__":
    main()
