"""One graded load: fresh traffic on the stack as it is, everything that a grade needs written into a folder."""

import json
import secrets
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from lab import state, workspace
from lab.anchor import measure as measure_anchor
from lab.calibrate import Baseline
from lab.code import code_digest
from lab.drill import Progress, out_of_service, out_of_service_in_words, plan_for, rate, wait_ready
from lab.grade import Grade, grade, same_speed
from lab.host import HostMeter, use_over
from lab.measure import metric_figures, wait_scraped
from lab.prompts import clear, prompt_figures
from lab.run import Run
from lab.runtime import control, launch
from lab.scenario import Loads, Scenario
from lab.traffic import Watcher, rows_so_far, send, to_the_end
from loadtests.plan import Plan
from loadtests.rows import Row

ANCHOR_ATTEMPTS = 3
IDLE_SHARE, IDLE_WAIT_SECONDS = 0.10, 20  # of the whole machine's CPU


def ungradable(run: Run, scenario: Scenario) -> str | None:
    """Why a load would prove nothing, whatever came of it, and what to do; None where it can be graded."""
    return _changed(run, scenario, out_of_service(run))


def check(
    run: Run,
    scenario: Scenario,
    baseline: Baseline,
    progress: Progress,
    watch: Watcher = to_the_end,
    stopped: Collection[str] = (),
) -> tuple[Path, Grade]:
    """Send the grading load and grade it; the folder of the evidence and the grade.

    `watch` may end the load early (see `lab.traffic.send`); each load of a run draws other requests than the last one,
    whose prompts the engine still has in its prefix cache. All services but `stopped` have to run.
    """
    public = scenario.public
    folder = run.new_check()
    run.event("check", folder=folder.name)
    grading = public.load.grading
    load = grading.model_copy(update={"seed": grading.seed + int(folder.name)})
    plan = plan_for(load, rate(load, baseline.capacity))
    control.stop(run, "load")
    _warm_up(run, public.load, plan.header.rate, progress)
    _restart_fresh(run, public.fresh, progress)
    _wait_idle(run, progress)
    absent = set(run.info.services) - control.running(run)
    clear(run.audit_file)
    anchors = {"calibrated": baseline.anchor, "before": _anchor_before(baseline, progress)}
    progress(f"sending {plan.header.requests} requests in {plan.header.seconds:g} s")
    meter = HostMeter(lambda: control.roots(run)).start()
    start = time.time()
    send(run, plan, folder, secrets.token_hex(3), _telling(watch, progress))
    host = meter.stop()
    wait_scraped()
    end = time.time()
    _wait_idle(run, progress)  # a load that was cut short, or was too much, leaves work behind
    anchors["after"] = measure_anchor()
    site = workspace.healthy(scenario)["gateway"].get("documents", {})
    prompts = prompt_figures(run.audit_file, public, plan, rows_so_far(folder), site)
    from lab.alarms import alarm_figures  # brings scikit-learn, a second and more, which only a check is to wait for

    outdated = {*launch.outdated(run)}  # before and after the files are read, which takes its time
    alarms = alarm_figures(run, public, start, progress)
    config = workspace.effective(run.applied, run.info.services)
    measured = {
        "schema_version": 1,
        "scenario": scenario.id,
        "window": {"start": start, "end": end},
        "conditions": {
            "host": host.as_dict(),
            "anchors": anchors,
            "ended": _ended(run, start, end),
            "changed": _changed(run, scenario, sorted({*absent, *outdated, *launch.outdated(run)} - {*stopped})),
        },
        "metrics": metric_figures(run, public, start, end),
        "prompts": prompts,
        "alarms": alarms,
        "config": config,
        "healthy": baseline.as_dict(),
    }
    (folder / "measurements.json").write_text(json.dumps(measured, indent=1) + "\n")
    result = grade(folder, public)
    (folder / "verdict.json").write_text(json.dumps(result.as_dict(), indent=1) + "\n")
    run.event("verdict", folder=folder.name, verdict=result.verdict, reasons=list(result.reasons))
    return folder, result


def _warm_up(run: Run, loads: Loads, rate: float, progress: Progress) -> None:
    """The graded load's like, with other questions: a mend has emptied caches that are full in a day's work."""
    if loads.warm_up_seconds:
        progress(f"warming up for {loads.warm_up_seconds:g} s")
        plan = plan_for(loads.grading, rate, loads.warm_up_seconds, split="calibration")
        send(run, plan, run.new_check(), secrets.token_hex(3))


def _anchor_before(baseline: Baseline, progress: Progress) -> float:
    """The machine's speed now; measured again while it is another one than at calibration, for it may come back."""
    for _ in range(ANCHOR_ATTEMPTS):
        progress("measuring the machine's speed")
        anchor = measure_anchor()
        if same_speed(anchor, baseline.anchor):
            break
    return anchor


def _telling(watch: Watcher, progress: Progress) -> Watcher:
    def tell(plan: Plan, rows: list[Row], elapsed: float) -> bool:
        answered = sum(row.outcome == "ok" for row in rows)
        progress(f"load: {elapsed:.0f} s, {answered} answered of {plan.header.requests} planned")
        return watch(plan, rows, elapsed)

    return tell


def _restart_fresh(run: Run, names: Iterable[str], progress: Progress) -> None:
    """Start those of `names` anew that run, without what they have gathered; what was stopped stays so."""
    running = control.running(run)
    restarted = [name for name in names if name in running]
    for name in restarted:
        try:
            control.stop(run, name)
            state.forget(run, name)
        finally:
            control.start(run, name)
    wait_ready(run, progress, restarted)


def _wait_idle(run: Run, progress: Progress) -> None:
    """Until the stack does nothing any more: what a load left behind must not count, nor slow the measurement of speed.

    An engine that was told to drop its requests still finishes the step that it is in, and its gauges do not show that;
    the CPU time of its processes does.
    """
    deadline = time.monotonic() + IDLE_WAIT_SECONDS
    while time.monotonic() < deadline:
        if use_over(1, lambda: control.roots(run), with_self=False).own_share < IDLE_SHARE:
            return
        progress("waiting for the stack to end what a load left")


def _ended(run: Run, start: float, end: float) -> list[str]:
    """Services that ended by themselves or by somebody's hand during the window, each with how it ended."""
    return sorted(
        {
            f"{event['service']} ({'killed' if event['exit_status'] in control.KILLED_STATUS else 'ended'})"
            for event in run.events("process")
            if start <= event["time"] <= end and event["state"] in control.OVER and event["service"] != "load"
        }
    )


def _changed(run: Run, scenario: Scenario, out_of_service: list[str]) -> str | None:
    if scenario.digest != run.info.digest:
        return "the scenario's files were changed since this drill was started: `lab stop` and start it again"
    if code_digest(scenario.public.services) != run.info.code:
        return "the code of the stack was changed since this drill was started: `lab stop` and start it again"
    if out_of_service:
        return out_of_service_in_words(out_of_service)
    return None
