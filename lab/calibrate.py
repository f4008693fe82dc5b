"""What this machine can do: its speed, the capacity for a scenario's requests, and the healthy run's figures.

Measured once per scenario and machine, on the healthy configuration, kept in `.cache/baselines/`.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from lab import drill, workspace
from lab.anchor import measure as measure_anchor
from lab.code import code_digest, grader_digest
from lab.drill import Progress, plan_for, rate
from lab.grade import MARGIN, same_speed
from lab.host import QUIET_SHARE, HostMeter, HostUse, use_over
from lab.measure import load_figures, metric_figures, wait_scraped
from lab.paths import CACHE
from lab.quality import scores
from lab.recording import record
from lab.run import Run, RunError
from lab.runtime.control import roots
from lab.scenario import Goodput, Load, Public, Quality, Scenario
from lab.traffic import delivery, send
from loadtests.plan import MAX_RATE, Plan
from loadtests.rows import read_rows
from loadtests.users import USERS

BASELINES = CACHE / "baselines"
CONCURRENCY = 16  # in flight while capacity is measured: what the engine runs at once
CAPACITY_SECONDS, WARM_SECONDS, HEALTHY_SECONDS = 40, 4, 45
LONGEST_PAUSE_SECONDS = (CAPACITY_SECONDS - WARM_SECONDS) / 8  # without an answer while CONCURRENCY wait
QUIET_SECONDS, QUIET_WAIT_SECONDS = 2, 30
ATTEMPTS = 3
LABELLED_CONCURRENCY, LABELLED_SECONDS = 4, 300  # to ask the healthy stack about every labelled text


@dataclass(frozen=True)
class Baseline:
    """The healthy run of one scenario on this machine."""

    schema: int
    key: str
    machine: dict[str, Any]
    made: float  # unix seconds
    anchor: float  # rounds per second, see lab.anchor
    capacity: float  # requests/s that the healthy stack completes at saturation
    figures: dict[str, float | None]
    costs: dict[str, float | None]
    labelled: dict[str, dict[str, float]]  # by measure of lab.quality and key of the text: scores of the healthy stack
    host: dict[str, float]  # see lab.host.HostUse
    problem: str | None  # what disturbed the measurement: enough for a drill, nothing to grade by

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def machine() -> dict[str, Any]:
    """What identifies this machine, as far as speed goes."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    return {"cpu": model, "cores": psutil.cpu_count(), "memory_gib": round(psutil.virtual_memory().total / 2**30)}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def key_of(scenario: Scenario) -> str:
    """What a baseline holds for: this healthy configuration, these checks, this code and its graders, this machine."""
    code = [code_digest(scenario.public.services), grader_digest()]
    parts = [scenario.digest, *code, json.dumps(machine(), sort_keys=True)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def stored(scenario: Scenario) -> Baseline | None:
    """The baseline that still holds, or None."""
    path = BASELINES / f"{scenario.id}.json"
    try:
        baseline = Baseline(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return baseline if baseline.key == key_of(scenario) else None


def calibrate(scenario: Scenario, progress: Progress) -> Baseline:
    """Start the healthy stack, measure, stop it; raises RunError when it does not serve."""
    progress("measuring this machine with the healthy configuration (two to four minutes, once)")
    run = drill.start(scenario, workspace.healthy(scenario), purpose="baseline", progress=progress)
    try:
        baseline = measure(run, scenario, progress)
    finally:
        drill.stop(run)
    BASELINES.mkdir(parents=True, exist_ok=True)
    path = BASELINES / f"{scenario.id}.json"
    path.write_text(json.dumps(baseline.as_dict(), indent=1) + "\n")
    return baseline


def stored_or_new(scenario: Scenario, progress: Progress) -> Baseline:
    """The stored baseline where it still holds and was not disturbed, else a new one, which may have been."""
    baseline = stored(scenario)
    return calibrate(scenario, progress) if baseline is None or baseline.problem else baseline


def undisturbed(scenario: Scenario, progress: Progress) -> Baseline:
    """The same, never a disturbed one; raises RunError when this machine is too busy to be measured."""
    baseline = stored_or_new(scenario, progress)
    if baseline.problem:
        raise RunError(baseline.problem)
    return baseline


def measure(run: Run, scenario: Scenario, progress: Progress) -> Baseline:
    """The baseline from `run`, which serves the healthy configuration; tried again while the machine is disturbed."""
    for attempt in range(1, ATTEMPTS + 1):
        _wait_quiet(run, progress)
        baseline = _measure_once(run, scenario, progress)
        if baseline.problem is None:
            break
        progress(f"attempt {attempt} of {ATTEMPTS}: {baseline.problem}")
    return baseline


def _wait_quiet(run: Run, progress: Progress) -> None:
    """Until other programs have ended what they do, for some time; what set-up wrote goes to the disk first."""
    os.sync()
    deadline = time.monotonic() + QUIET_WAIT_SECONDS
    while time.monotonic() < deadline:
        if use_over(QUIET_SECONDS, lambda: roots(run)).others_share <= QUIET_SHARE:
            return
        progress("waiting for other programs to end what they do")


def _measure_once(run: Run, scenario: Scenario, progress: Progress) -> Baseline:
    load = scenario.public.load.grading
    meter = HostMeter(lambda: roots(run)).start()
    progress("measuring the machine's speed")
    before = measure_anchor()
    progress(f"measuring the capacity: {CONCURRENCY} requests in flight for {CAPACITY_SECONDS} s")
    capacity, pause = _capacity(run, load)
    progress(f"capacity {capacity:.2f} requests/s; recording the healthy run ({HEALTHY_SECONDS} s)")
    healthy = plan_for(load, rate=rate(load, capacity), seconds=HEALTHY_SECONDS, split="calibration")
    figures, costs, late = _healthy(run, scenario, healthy)
    labelled = _labelled(run, scenario, progress)
    progress("measuring the machine's speed again")
    after = measure_anchor()
    use = meter.stop()
    problem = _problem(use, pause, late) or unsteady(before, after) or too_slow(figures, scenario.public)
    return Baseline(1, key_of(scenario), machine(), time.time(), (before + after) / 2, capacity, figures, costs,
                    labelled, use.as_dict(), problem)  # fmt: skip


def unsteady(before: float, after: float) -> str | None:
    """Why figures measured between these two speeds (rounds/s of lab.anchor) are of no one machine, or None."""
    slow, fast = sorted([before, after])
    if same_speed(slow, fast):
        return None
    return (
        f"this machine's speed changed while it was measured: to {after / before:.0%} of what it was. Other programs, "
        "or other guests of its host, may do that"
    )


def too_slow(figures: Mapping[str, float | None], public: Public) -> str | None:
    """Why this machine cannot carry the healthy stack well enough to grade another one, or None.

    A control that must pass has to miss its objectives MARGIN times less often than it may; so has the healthy run.
    """
    asked, met = next(check.value for check in public.checks if isinstance(check, Goodput)), figures["goodput"]
    if met is not None and (1 - met) * MARGIN <= 1 - asked:
        return None
    return (
        f"the healthy stack met every objective in {met or 0:.0%} of the requests on this machine, and a graded one "
        f"has to in {asked:.0%}: that leaves no room to tell them apart. Close other programs, or use a faster machine"
    )


def _problem(use: HostUse, pause: float, late: str | None) -> str | None:
    """Why the measurement says less about this machine than about other programs or a start, or None."""
    outside = use.others_share
    if outside > QUIET_SHARE:
        return (
            f"other programs used {outside:.0%} of this machine while it was measured (at most {QUIET_SHARE:.0%}): "
            "close them"
        )
    if pause > LONGEST_PAUSE_SECONDS:
        return (
            f"the stack answered nothing for {pause:.1f} s while its capacity was measured (at most "
            f"{LONGEST_PAUSE_SECONDS:g} s): it may not have been warm yet, or this machine stood still"
        )
    if late:
        return (
            f"this machine was disturbed while it was measured: {late} (other programs used {outside:.1%} of its CPU, "
            f"and it stood still for {use.worst_stall_seconds:.1f} s at most)"
        )
    return None


def _capacity(run: Run, load: Load) -> tuple[float, float]:
    """Completed requests per second with CONCURRENCY in flight, after WARM_SECONDS, and the longest time without."""
    folder = run.new_check()
    # More requests than a generator can send, so that the plan is never used up.
    plan = plan_for(load, rate=MAX_RATE, seconds=2 * CAPACITY_SECONDS, split="calibration", mode="closed",
                    concurrency=CONCURRENCY)  # fmt: skip
    send(run, plan, folder, "capacity", watch=lambda plan, rows, elapsed: elapsed > CAPACITY_SECONDS + 1)
    ends = [row.end for row in read_rows(folder / "rows.jsonl").rows if row.outcome == "ok" and row.end is not None]
    done = [end for end in ends if WARM_SECONDS < end <= CAPACITY_SECONDS]
    if len(done) < 5:
        raise RunError(f"only {len(done)} requests were answered in {CAPACITY_SECONDS} s: see {run.logs} and {folder}")
    return len(done) / (CAPACITY_SECONDS - WARM_SECONDS), longest_pause(done)


def longest_pause(ends: Sequence[float]) -> float:
    """The longest time in seconds without an answer between WARM_SECONDS and CAPACITY_SECONDS."""
    moments = [WARM_SECONDS, *sorted(ends), CAPACITY_SECONDS]
    return max(after - before for before, after in pairwise(moments))


def _labelled(run: Run, scenario: Scenario, progress: Progress) -> dict[str, dict[str, float]]:
    """What the healthy stack makes of every text that may be graded; empty without checks of quality."""
    measures = {check.measure for check in scenario.public.checks if isinstance(check, Quality)}
    if not measures:
        return {}
    load = scenario.public.load.grading
    user = USERS[load.user].reference or load.user
    texts = len({text.text for text in USERS[user].texts(CACHE / "data", load.split)})
    progress(f"asking the healthy stack about {texts} texts whose right answer is known")
    folder = run.new_check()
    plan = plan_for(load.model_copy(update={"user": user}), texts / LABELLED_SECONDS, LABELLED_SECONDS, mode="closed",
                    concurrency=LABELLED_CONCURRENCY)  # fmt: skip
    send(run, plan, folder, "labelled")
    rows = read_rows(folder / "rows.jsonl").rows
    if failed := [row for row in rows if row.outcome != "ok"]:
        raise RunError(f"the healthy stack failed on {len(failed)} of {texts} texts, first: {failed[0].error}")
    if len(rows) < texts:
        raise RunError(f"the healthy stack answered {len(rows)} of {texts} texts in {LABELLED_SECONDS} s: see {folder}")
    return {measure: scores(measure, plan.arrivals, rows) for measure in sorted(measures)}


def _healthy(
    run: Run, scenario: Scenario, plan: Plan
) -> tuple[dict[str, float | None], dict[str, float | None], str | None]:
    """Figures and costs of the healthy run, and why its load was not as planned, or None."""
    folder = run.new_check()
    start = time.time()
    send(run, plan, folder, "healthy")
    wait_scraped()
    end = time.time()
    rows = read_rows(folder / "rows.jsonl")
    metrics = metric_figures(run, scenario.public, start, end)
    if metrics["problem"]:
        raise RunError(f"the healthy run has no metrics: {metrics['problem']}")
    record(run.prometheus_url, start, end, [*run.info.services, "loadgen"], folder / "recording.json.gz")
    figures = load_figures(rows.rows, plan.header.requests, scenario.public.objectives)
    return figures, metrics["costs"], delivery(folder, plan, rows).problem
