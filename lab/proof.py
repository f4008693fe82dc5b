"""Proves that a scenario's grade is right: every control must come out as the scenario says, with margin.

    healthy                            passes
    broken, left alone                 fails
    fixes/01-reference, other fixes    pass
    cheats/*                           fail, each on the check that it declares
    roll-back to the defaults          fails on the check that truth.yaml declares

All controls run on one stack, one after the other, each brought into service as `lab apply` does it. A control that
must fail is cut short as soon as its outcome is certain. Every attempt is kept in `hidden/proof/proof.json`.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import calibrate, drill, state, workspace
from lab.check import check
from lab.code import code_digest, grader_digest
from lab.drill import Configs, Progress
from lab.grade import MARGIN, CheckResult, Grade
from lab.measure import certain_miss
from lab.quality import scores
from lab.recording import record
from lab.run import Run
from lab.runtime import control
from lab.scenario import AlarmCheck, Cost, Goodput, Level, Public, Quality, Scenario, Work
from lab.traffic import Watcher, to_the_end
from loadtests.plan import Plan
from loadtests.rows import Row
from stack.settings import ConfigError

STANDARD_ERRORS = 3.0  # for quality, over paired texts
CUT_MARGIN = 2.0  # a failing control is cut short when it has so many times the allowed misses
SETTLED_SECONDS, SETTLED_ROWS = 15, 10  # when a control that fails on another check has shown enough
ATTEMPTS = 3  # of a control that could not be graded
RECORDED = ("healthy", "broken", "decoy")  # whole loads, kept for the grading of diagnoses


@dataclass(frozen=True)
class Control:
    """One configuration and what must come of it: no `fails_on` means that it must pass."""

    name: str
    configs: Configs
    fails_on: str | None = None
    stop: tuple[str, ...] = ()


def controls(scenario: Scenario) -> Iterator[Control]:
    """Every control of the scenario, in the order in which they run."""
    broken, truth = workspace.broken(scenario), scenario.truth
    yield Control("healthy", workspace.healthy(scenario))
    yield Control("broken", broken, fails_on=truth.broken_fails_on)
    for name, fix in scenario.fixes.items():
        yield Control(f"fix {name}", workspace.patched(broken, fix.patch))
    for name, cheat in scenario.cheats.items():
        yield Control(f"cheat {name}", workspace.patched(broken, cheat.patch), cheat.fails_on, cheat.stop)
    yield Control("decoy", workspace.patched(broken, truth.decoy.patch), fails_on=truth.broken_fails_on)
    # The last one: it restarts every service, and so would whatever came after it.
    yield Control("roll-back", workspace.defaults(scenario.public.services), fails_on=truth.rollback_fails_on)


def prove(scenario: Scenario, progress: Progress, only: list[str] | None = None) -> dict[str, Any]:
    """Run the controls (those named in `only`, else all); the proof, which is stored when all of them ran."""
    drill.refuse_second_run()  # before anything is told: the names of the controls are the solution of a drill
    every = {control_.name: control_ for control_ in controls(scenario)}
    if unknown := sorted(set(only or ()) - set(every)):
        raise ConfigError("--only", [f"no control {', '.join(unknown)}; the controls are: {', '.join(every)}"])
    chosen = [control_ for name, control_ in every.items() if only is None or name in only]
    baseline = calibrate.undisturbed(scenario, progress)
    begun = time.time()
    with stack(scenario, chosen[0].configs, progress) as run:
        results = [_prove_one(run, scenario, baseline, control_, progress) for control_ in chosen]
    proof = {
        "schema_version": 1,
        "scenario": scenario.id,
        **_holds_for(scenario),
        "machine": baseline.machine,
        "made": begun,
        "seconds": round(time.time() - begun, 1),
        "proved": all(result["ok"] for result in results),
        "baseline": {"capacity": baseline.capacity, "figures": baseline.figures, "costs": baseline.costs},
        "controls": results,
    }
    if only is None:
        path = proof_path(scenario)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(proof, indent=1) + "\n")
    return proof


@contextmanager
def stack(scenario: Scenario, configs: Configs, progress: Progress) -> Iterator[Run]:
    """A run for proofs that is stopped at the end, whatever happens."""
    run = drill.start(scenario, configs, purpose="proof", progress=progress)
    try:
        yield run
    finally:
        drill.stop(run)


def proof_path(scenario: Scenario) -> Path:
    return scenario.folder / "hidden/proof/proof.json"


def proved(scenario: Scenario) -> bool:
    """Whether the stored proof is complete and speaks of the scenario, its code and its grader as they are."""
    try:
        proof = json.loads(proof_path(scenario).read_text())
    except (OSError, ValueError):
        return False
    return bool(proof["proved"]) and proof.items() >= _holds_for(scenario).items()


def _holds_for(scenario: Scenario) -> dict[str, str]:
    """The scenario, the code that serves it and the code that grades it."""
    return {
        "digest": scenario.digest,
        "code": code_digest(scenario.public.services),
        "grader": grader_digest(),
    }


def _prove_one(
    run: Run, scenario: Scenario, baseline: calibrate.Baseline, chosen: Control, progress: Progress
) -> dict[str, Any]:
    attempts: list[dict[str, Any]] = []
    for _ in range(ATTEMPTS):
        serve(run, scenario, chosen, progress)
        begun = time.time()
        folder, result = check(
            run, scenario, baseline, _prefixed(progress, chosen.name), watcher(chosen, scenario.public), chosen.stop
        )
        problems = shortfalls(chosen, result, scenario)
        attempts.append({"seconds": round(time.time() - begun, 1), "problems": problems} | result.as_dict())
        if chosen.name in RECORDED and not problems:
            _record(run, scenario, folder, chosen.name)
        if result.verdict != "cannot_grade":
            break
    ok = not attempts[-1]["problems"]
    progress(f"{chosen.name}: {attempts[-1]['verdict']}, {'as it must be' if ok else '; '.join(problems)}")
    return {"control": chosen.name, "must": _must(chosen), "ok": ok, "attempts": attempts}


def serve(run: Run, scenario: Scenario, chosen: Control, progress: Progress) -> None:
    """Bring a control's configuration into service, on the state that the incident starts from; stop what it stops."""
    placed, old = workspace.placed(chosen.configs, run.ports), workspace.read(run.applied, run.info.services)
    differing = workspace.changed_services(old, placed)
    for name in state.FOLDERS.keys() & set(run.info.services):
        control.stop(run, name)
    state.restore(run, scenario, progress)
    stopped = {p.name for p in control.processes(run) if p.state in ("STOPPED", "EXITED", "FATAL")} - {"load"}
    unchanged = [name for name in run.info.services if name in stopped - set(differing)]
    begun = time.monotonic()
    for name in unchanged:
        control.start(run, name)
    # Before others: an engine takes longer than a gateway waits for it.
    drill.wait_ready(run, progress, unchanged, since=begun)
    drill.put_in_service(run, differing, placed, old, progress)
    drill.wait_ready(run, progress)
    for name in chosen.stop:
        control.stop(run, name)


def shortfalls(chosen: Control, result: Grade, scenario: Scenario) -> list[str]:
    """What is not as the control must be; empty when all is, with margin."""
    if result.verdict == "cannot_grade":
        return [f"could not be graded: {'; '.join(result.reasons)}"]
    if chosen.fails_on is None:
        if result.verdict != "pass":
            return [f"must pass, but: {'; '.join(result.reasons)}"]
        weighed = [item for item in result.checks if _has_margin(item.id, scenario, passing=True)]
    else:
        declared = [item for item in result.checks if item.id == chosen.fails_on]
        if not declared or declared[0].outcome != "fail":
            return [f"must fail on {chosen.fails_on}, but that check did not fail"]
        weighed = [item for item in declared if _has_margin(item.id, scenario, passing=False)]
    return [
        f"{item.id}: margin {item.margin:.2f} {item.margin_unit} is below {_wanted(item)}"
        for item in weighed
        if item.margin is not None and item.margin < _wanted(item)
    ]


def _wanted(item: CheckResult) -> float:
    return STANDARD_ERRORS if item.margin_unit == "SE" else MARGIN


def _has_margin(check_id: str, scenario: Scenario, passing: bool) -> bool:
    """Exact checks have none; the tokens of an honest answer are held by their spread over repeats instead."""
    check = next(check for check in scenario.public.checks if check.id == check_id)
    return isinstance(check, Goodput | Cost | Level | AlarmCheck | Quality) or (isinstance(check, Work) and not passing)


def watcher(chosen: Control, public: Public) -> Watcher:
    """Ends the load of a control whose outcome is certain; recorded controls and those that pass run in full."""
    declared = next((check for check in public.checks if check.id == chosen.fails_on), None)
    if declared is None or isinstance(declared, Level | AlarmCheck) or chosen.name in RECORDED:
        return to_the_end  # a level needs the whole window, and no request shows what an alarm does

    def certain(plan: Plan, rows: list[Row], elapsed: float) -> bool:
        if elapsed <= SETTLED_SECONDS:
            return False
        if isinstance(declared, Goodput):
            misses = sum(certain_miss(row, elapsed, public.objectives) for row in rows)
            return misses > CUT_MARGIN * (1 - declared.value) * plan.header.requests
        if isinstance(declared, Quality):  # compares texts, and needs all of them; later ones are the same again
            answered = scores(declared.measure, plan.arrivals, rows, only_ended=True)
            return answered.keys() == scores(declared.measure, plan.arrivals, ()).keys()
        return sum(row.outcome == "ok" for row in rows) >= SETTLED_ROWS

    return certain


def _record(run: Run, scenario: Scenario, folder: Path, name: str) -> None:
    window = json.loads((folder / "measurements.json").read_text())["window"]
    out = scenario.folder / f"hidden/recordings/{name}.json.gz"
    out.parent.mkdir(parents=True, exist_ok=True)
    record(run.prometheus_url, window["start"], window["end"], [*run.info.services, "loadgen"], out)


def _must(chosen: Control) -> str:
    return "pass" if chosen.fails_on is None else f"fail on {chosen.fails_on}"


def _prefixed(progress: Progress, name: str) -> Progress:
    return lambda text: progress(f"{name}: {text}")


def repeat(scenario: Scenario, times: int, progress: Progress) -> dict[str, Any]:
    """Healthy, broken and reference fix `times` each, in turn; kept as repeats.json."""
    baseline = calibrate.undisturbed(scenario, progress)
    reference = next(iter(scenario.fixes))
    chosen = [c for c in controls(scenario) if c.name in ("healthy", "broken", f"fix {reference}")]
    results: dict[str, list[dict[str, Any]]] = {c.name: [] for c in chosen}
    with stack(scenario, chosen[0].configs, progress) as run:
        for round_ in range(times):
            for item in chosen:
                serve(run, scenario, item, progress)
                tell = _prefixed(progress, f"{item.name} {round_ + 1} of {times}")
                _, result = check(run, scenario, baseline, tell)
                results[item.name].append({"problems": shortfalls(item, result, scenario)} | result.as_dict())
    made = {
        "schema_version": 1,
        "scenario": scenario.id,
        **_holds_for(scenario),
        "machine": baseline.machine,
        "proved": not any(attempt["problems"] for attempts in results.values() for attempt in attempts),
        "repeats": results,
    }
    path = proof_path(scenario).with_name("repeats.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=1) + "\n")
    return made
