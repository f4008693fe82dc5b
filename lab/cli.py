"""`lab`: start a drill, look at it, change it, have it graded."""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from lab import calibrate, cli_drift, cli_eval, doctor, drill, drill_view, proof, proof_tables, report, views, workspace
from lab.check import check as run_check
from lab.check import ungradable
from lab.grade import Grade, Verdict
from lab.run import Run, RunError, current, exclusive, last_drill
from lab.runtime import control
from lab.scenario import SERVICES, Scenario, all_ids, find
from lab.terminal import FAIL, PASS, USAGE, Json, console, emit, errors, fail, guarded, progress

CANNOT_GRADE = 3
EXIT_CODES: dict[Verdict, int] = {"pass": PASS, "fail": FAIL, "cannot_grade": CANNOT_GRADE}
OTHER_LOGS = ("prometheus", "load", "supervisord")

HELP = """Practise the design of production LLM systems on a real stack.

A drill goes: lab start ID, look (status, metrics, logs), edit the files in runs/current/workspace, lab apply,
lab check, lab stop.

Exit codes: 0 done, or the check passed; 1 the check failed, or another command could not do what it should; 2 wrong
usage or a configuration that is refused; 3 the check cannot be graded."""

app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(cli_eval.app, name="eval")
app.add_typer(cli_drift.app, name="drift")
ScenarioId = Annotated[str, typer.Argument(help="a scenario of `lab list`", metavar="ID")]
Service = Annotated[str, typer.Argument(help=f"one of {', '.join((*SERVICES, *OTHER_LOGS))}")]


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Register a command whose expected errors end in one clear message instead of a traceback."""
    return app.command()(guarded()(function))


def running() -> tuple[Run, Scenario]:
    """The drill, which must be alive, and its scenario."""
    run = last_drill()
    if not control.alive(run):
        raise RunError(control.gone(run))
    return run, find(run.info.scenario)


def last() -> tuple[Run, Scenario]:
    """The drill that was started last, and its scenario; says so where it has ended."""
    run = last_drill()
    if not control.alive(run):
        errors.print(f"[dim]The drill of {run.info.scenario} ({run.info.run_id}) has ended; this is about it.[/]")
    return run, find(run.info.scenario)


@command
def list_(
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="the table of the README")] = False,
) -> None:
    """Show the scenarios, and whether each has a current proof."""
    entries = [views.entry(find(scenario_id)) for scenario_id in all_ids()]
    if markdown:
        return print(views.markdown_catalogue(entries))
    emit({"scenarios": entries}) if as_json else console.print(views.catalogue(entries))


@command
def start(scenario_id: Annotated[str | None, typer.Argument(metavar="ID")] = None) -> None:
    """Start a drill: the broken stack, its load, and the symptom. Without ID the first scenario of the list."""
    scenario = find(scenario_id or all_ids()[0])
    with exclusive("start a drill"), progress() as tell:
        doctor.require_setup()
        drill.refuse_second_run()
        baseline = calibrate.stored_or_new(scenario, tell)
        run = drill.start(
            scenario, workspace.broken(scenario), purpose="drill", progress=tell, capacity=baseline.capacity
        )
        try:
            drill.start_practice(run)
            drill.wait_for_symptom(run, scenario.public.wait_for, tell)
        except BaseException:
            drill.abort(run)
            raise
    console.print(drill_view.briefing(run, scenario))
    if baseline.problem:
        errors.print(views.plain(f"No grade on this drill: {baseline.problem}. Then `lab stop` and `lab start` again."))


@command
def status(as_json: Json = False) -> None:
    """Show the services, the symptom beside the objectives, and what to do next."""
    run = last_drill()
    if not control.alive(run):
        if as_json:
            return emit({"running": False, "reason": control.gone(run)})
        raise RunError(control.gone(run))
    state = drill_view.state(run, find(run.info.scenario))
    emit(state) if as_json else console.print(drill_view.status(state))


@command
def metrics(
    query: Annotated[str | None, typer.Argument(help="a PromQL expression; default: the scenario's list")] = None,
    as_json: Json = False,
) -> None:
    """Evaluate ready-made queries, or one of your own, on the drill's Prometheus."""
    run, scenario = running()
    rows = views.metric_rows(run, scenario, query)
    if as_json:
        return emit({"prometheus": run.prometheus_url, "metrics": rows})
    console.print(views.metrics(rows, run))
    if (seconds := drill_view.since_check(run)) is not None:
        console.print(drill_view.of_the_check(seconds))


@command
def logs(
    service: Service,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, max=10_000)] = 40,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on until Ctrl-C")] = False,
) -> None:
    """Show the end of a service's log."""
    run, _ = last()
    path = run.logs / f"{service}.log"
    known = (*run.info.services, *OTHER_LOGS)
    if service not in known or not path.is_file():
        fail(f"no log of '{service}': one of {', '.join(known)}", USAGE)
    if follow:
        for text in control.follow(path, lines):
            print(text, end="", flush=True)
    print(control.tail(path, lines) or f"({service} has logged nothing yet)")


@command
def diff(as_json: Json = False) -> None:
    """Show what the workspace changes against the configuration that runs."""
    run, _ = last()
    text = workspace.diff(run.applied, run.workspace, run.info.services)
    left = drill.out_of_service(run) if control.alive(run) else []
    if as_json:
        return emit({"diff": text, "out_of_service": left})
    console.print(views.difference(text, left) if text or left else "The workspace is what was applied last.")


@command
def apply(as_json: Json = False) -> None:
    """Validate the workspace, show the difference, restart only what changed."""
    with exclusive("apply a configuration"):
        run, _ = running()
        text = workspace.diff(run.applied, run.workspace, run.info.services)
        left = drill.out_of_service(run)
        if (text or left) and not as_json:
            console.print(views.difference(text, left))
        with progress(as_json) as tell:
            changed = drill.apply(run, tell)
            drill.start_practice(run)
    if as_json:
        return emit({"restarted": changed, "diff": text})
    done = f"[green]In service.[/] Restarted: {', '.join(changed)}." if changed else "Nothing to apply."
    console.print(f"{done} `lab status` shows the effect, `lab check` grades it.")


@app.command()
@guarded(CANNOT_GRADE)
def check(as_json: Json = False) -> None:
    """Grade the stack as it is: fresh traffic, every check with its value, threshold, margin and reason."""
    with exclusive("check"):
        run, scenario = running()
        if problem := ungradable(run, scenario):
            return _cannot_grade(problem, as_json)
        baseline = calibrate.stored(scenario)
        if baseline is None:
            raise RunError("this machine was not measured for this scenario: `lab stop`, `lab start` again")
        with progress(as_json) as tell:
            try:
                folder, grade = run_check(run, scenario, baseline, tell)
            finally:
                if control.alive(run):
                    drill.start_practice(run)
    if as_json:
        emit({"verdict": grade.verdict, "folder": str(folder), **grade.as_dict()})
    else:
        console.print(views.grade(grade, folder))
    raise typer.Exit(EXIT_CODES[grade.verdict])


def _cannot_grade(problem: str, as_json: bool) -> NoReturn:
    """End a check before its load."""
    if not as_json:
        fail(f"cannot grade: {problem}", CANNOT_GRADE)
    emit({"folder": None, **Grade("cannot_grade", (problem,), (), {}, {}).as_dict()})
    raise typer.Exit(CANNOT_GRADE)


@command
def hint() -> None:
    """Show the next hint of the ladder; each one costs points."""
    run, scenario = last()
    if any(run.events("debrief")):
        raise RunError("the debrief of this drill was read already: it tells more than hints that cost points")
    hints = scenario.hints
    taken = sum(1 for _ in run.events("hint"))
    if taken >= len(hints):
        console.print(f"There are no more hints: all {len(hints)} were given.")
        return
    run.event("hint", number=taken + 1)
    console.print(views.hint(hints[taken], taken + 1, len(hints)))
    console.print(f"{report.HINT_COST} points are deducted for each hint, {report.HINT_COST * (taken + 1)} so far.")


@command
def diagnose(
    component: Annotated[str | None, typer.Option(help="where the fault sits")] = None,
    mechanism: Annotated[str | None, typer.Option(help="how it does harm")] = None,
    query: Annotated[str | None, typer.Option(help="PromQL that tells this incident from others; '' for none")] = None,
    predict: Annotated[
        list[str] | None,
        typer.Option(help="ID=NUMBER with the first answer, before lab check and lab apply; once for each ID"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what is wrong, with evidence. Without options: the words to choose from. The last answer counts."""
    run, scenario = last()
    if all(given is None for given in (component, mechanism, query, predict)):
        return console.print(views.vocabulary(scenario))
    if component is None or mechanism is None:
        fail(f"--{'component' if component is None else 'mechanism'} is missing; `lab diagnose` lists the words", USAGE)
    if query is None:
        fail("--query is missing, a third of the points: PromQL as evidence; --query '' answers without", USAGE)
    result = report.diagnose(run, scenario, component, mechanism, query, predict or [])
    emit(result) if as_json else console.print(views.diagnosis(result))


@command
def report_(
    out: Annotated[Path | None, typer.Option(help="file to write instead of the run's folder")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before the solution is told")] = False,
    as_json: Json = False,
) -> None:
    """Write the report of the drill (Markdown): what was seen, changed, measured, graded.

    After a pass or the drill's end it tells the solution, and no diagnosis is graded any more.
    """
    run, scenario = last()
    closes = report.tells_solution(run) and not any(run.events("diagnosis")) and not any(run.events("debrief"))
    if closes and not yes and sys.stdin.isatty() and not as_json:
        typer.confirm("The report tells the solution; after it no diagnosis is graded. Write it?", abort=True)
    path = report.write(run, scenario, out)
    emit({"report": str(path)}) if as_json else console.print(f"Report: {os.path.relpath(path)}")


@command
def stop() -> None:
    """End the drill: stack, load, Prometheus. The run's folder stays."""
    try:
        run = current()
    except RunError:
        console.print("Nothing to stop.")
        return
    was = control.alive(run)
    # What another command started for itself is that command's to end, unless it has gone.
    # A drill that is not up yet is still being started by one.
    ours = was and run.info.purpose == "drill"
    alone = nullcontext() if ours else exclusive(f"stop what runs for a {run.info.purpose}")
    with alone, progress() as tell:
        tell("stopping")
        drill.stop(run)
    console.print(f"Stopped {run.info.run_id}." if was else "Nothing was running.")


@command
def prove(
    scenario_id: Annotated[str | None, typer.Argument(metavar="ID")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every scenario")] = False,
    only: Annotated[list[str] | None, typer.Option(help="only this control; may be given several times")] = None,
    repeats: Annotated[int, typer.Option(min=0, help="instead: repeat healthy, broken, reference so often")] = 0,
    as_json: Json = False,
) -> None:
    """Run the controls that prove a scenario's grade, and store the evidence beside it."""
    if (scenario_id is None) == (not everything):
        fail("name a scenario, or give --all", USAGE)
    if only and repeats:
        fail("--repeats takes healthy, broken and the reference fix: leave --only out", USAGE)
    results = []
    with exclusive("prove"), progress(as_json) as tell:
        doctor.require_setup()
        for scenario in map(find, all_ids() if everything else [scenario_id]):
            tell(f"proving {scenario.id}")
            made = proof.repeat(scenario, repeats, tell) if repeats else proof.prove(scenario, tell, only)
            results.append(made)
    if as_json:
        emit({"proofs": results})
    elif repeats:
        for result in results:
            print(f"{result['scenario']}: {repeats} rounds\n\n{proof_tables.spread(result)}")
    else:
        console.print(views.proofs(results))
    raise typer.Exit(PASS if all(result["proved"] for result in results) else FAIL)


@command
def calibrate_(scenario_id: ScenarioId, as_json: Json = False) -> None:
    """Measure this machine again for a scenario: its speed, its capacity, the healthy run."""
    with exclusive("calibrate"), progress(as_json) as tell:
        doctor.require_setup()
        baseline = calibrate.calibrate(find(scenario_id), tell)
    emit(baseline.as_dict()) if as_json else console.print(views.baseline(baseline))
    raise typer.Exit(CANNOT_GRADE if baseline.problem else PASS)


@command
def doctor_(as_json: Json = False) -> None:
    """Look for what is missing or wrong on this machine, and say how to mend it."""
    findings = doctor.examine()
    emit({"findings": [finding.as_dict() for finding in findings]}) if as_json else console.print(
        views.findings(findings)
    )
    raise typer.Exit(PASS if all(finding.ok for finding in findings) else FAIL)


for registered in app.registered_commands:
    registered.name = registered.callback.__name__.rstrip("_")
