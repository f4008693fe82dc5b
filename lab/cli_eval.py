"""`lab eval`: does a release answer worse than the one before?"""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn
from urllib.parse import urlsplit

import typer
from rich.table import Table

from lab import doctor, views
from lab.run import exclusive
from lab.terminal import FAIL, PASS, USAGE, Json, console, emit, errors, fail, guarded, progress
from stack.evals.errors import NoBaseline
from stack.evals.stack_client import JudgeEndpoint, missing
from stack.evals.suite import Mode, Named, load_suites

if TYPE_CHECKING:
    from lab.evaluation import Sizes
    from stack.evals.gate import Verdict
    from stack.evals.results import Manifest, Results

CANNOT_JUDGE = 3
BASELINE = "baseline"  # what its run is called
HELP = """Evaluate a release: run suites of examples against it, compare with the baseline, say whether it may ship.

  lab eval run --quick                       the stack as it is configured
  lab eval run --quick --change change.yaml  with a change: {rag: {prompt: {context_tokens: 64}}}

Exit codes: 0 nothing is worse (or a warning only); 1 blocked; 2 a suite, a change or a command line is wrong; 3 it
cannot be judged: no baseline, the release does not start, a run is damaged, the judge is down; 130 interrupted."""

app = typer.Typer(help=HELP, no_args_is_help=True)

Quick = Annotated[bool, typer.Option("--quick/--full", help="the small sizes of the suites, or all of them")]
Suites = Annotated[list[str] | None, typer.Option("--suite", help="only this suite; may be given several times")]
Changes = Annotated[
    list[Path] | None,
    typer.Option("--change", help="a YAML file {service: merge patch} over stack/config; may be given several times"),
]
Label = Annotated[str, typer.Option(help="what the run is called in reports: a branch, a pull request")]
Track = Annotated[
    str | None,
    typer.Option(help="MLflow's tracking URL; default: a SQLite file under runs/; 'off' records nothing",
                 envvar="MLFLOW_TRACKING_URI"),
]  # fmt: skip


JudgeUrl = Annotated[
    str | None,
    typer.Option("--judge", help="an OpenAI-compatible endpoint without /v1; default: the stack's own engine"),
]
JudgeModel = Annotated[str, typer.Option(help="its model; a key is taken from EVAL_JUDGE_KEY")]


@app.command()
@guarded(CANNOT_JUDGE)
def run(
    quick: Quick = True, suite: Suites = None, change: Changes = None, label: Label = "", track: Track = None,
    judge: JudgeUrl = None, judge_model: JudgeModel = "smollm2-135m-instruct", as_json: Json = False,
) -> None:  # fmt: skip
    """Start the release, run the suites, compare with the baseline, and say whether it may ship."""
    from lab import evaluation  # takes a second: not for --help
    from stack.evals import baseline

    mode = _mode(quick)
    suites = load_suites(suite)
    if not suite and (lost := baseline.without_suite(suites)):
        fail(f"there is a baseline of {', '.join(lost)}, and no such suite: what it looked after would pass unseen; "
             "remove the baseline with it", USAGE)  # fmt: skip
    with exclusive("evaluate"), progress(as_json) as tell:
        doctor.require_setup()
        release = evaluation.release(suites, change or (), label)
        endpoint = _judge(judge, judge_model) if judge else None
        results, verdicts = evaluation.evaluate(suites, mode, release, tell, judge=endpoint)
    _show(results.folder, results.manifest(), verdicts, as_json)
    evaluation.record(results, verdicts, track, _warn)
    _end(verdicts)


@app.command(name="baseline")
@guarded(CANNOT_JUDGE)
def baseline_(quick: Quick = False, suite: Suites = None, track: Track = None, as_json: Json = False) -> None:
    """Run the suites against the stack as it is, and store the scores as what releases are compared with.

    One of --full serves quick runs too; one of --quick replaces it, and then there is none for full runs.
    """
    from lab import evaluation
    from stack.evals import baseline
    from stack.evals.tasks import task_of

    mode = _mode(quick)
    suites = load_suites(suite)
    with exclusive("evaluate"), progress(as_json) as tell:
        doctor.require_setup()
        release = evaluation.release(suites, label=BASELINE)
        results, _ = evaluation.evaluate(suites, mode, release, tell, against_baseline=False)
    evaluation.record(results, [], track, _warn)
    manifest = results.manifest()
    found = {one.name: results.rows(one.name) for one in suites}
    for name, rows in found.items():
        failed = [row for row in rows.values() if row.error is not None]
        if failed:
            fail(f"{name}: {len(failed)} of {len(rows)} examples failed, the first: {failed[0].error}; a baseline has "
                 "no failures, and none was changed", CANNOT_JUDGE)  # fmt: skip
    written = {}
    for one in suites:
        rows = found[one.name]
        quick_ones = {example.id for example in task_of(one).examples(one, "quick", evaluation.PLACES)}
        made = baseline.make(one, mode, vars(manifest.identity), manifest.machine, time.time(), rows, quick_ones)
        written[one.name] = baseline.write(made)
        if not as_json:
            console.print(f"{one.name}: {len(rows)} examples in {written[one.name]}")
    if as_json:
        emit({"baselines": {name: str(path) for name, path in written.items()}})


@app.command()
@guarded(CANNOT_JUDGE)
def compare(
    run_id: Annotated[str | None, typer.Argument(metavar="RUN", help="of `lab eval history`; the latest one")] = None,
    other: Annotated[
        str | None, typer.Argument(metavar="BEFORE", help="a run to compare it with, instead of the baseline")
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Compare a run that was made before with the baseline as it is now, or with another run. Nothing is started.

    What a judging model preferred was said of the baseline's answers: two runs are compared without it.
    """
    from lab import evaluation
    from stack.evals import baseline, report

    runs = evaluation.runs()
    results = _run_of(runs, run_id)
    manifest, folder = results.manifest(), results.folder
    suites = load_suites(manifest.suites)
    if other is None:
        verdicts = [evaluation.verdict(suite, results, baseline.read(suite, manifest.mode)) for suite in suites]
    else:
        before = _run_of(runs, other)
        if before.manifest().mode != manifest.mode:
            fail(f"{folder.name} is {manifest.mode} and {other} is {before.manifest().mode}: they were asked different "
                 "examples", USAGE)  # fmt: skip
        judged = [suite.name for suite in suites if suite.suite.judge]
        verdicts = [evaluation.verdict(suite, results, before) for suite in suites if not suite.suite.judge]
        manifest, folder = replace(manifest, unasked=(*manifest.unasked, *judged)), folder / f"with-{other}"
        folder.mkdir(exist_ok=True)
    report.write_all(folder, manifest, verdicts)
    _show(folder, manifest, verdicts, as_json)
    _end(verdicts)


def _run_of(runs: "dict[str, Results]", run_id: str | None) -> "Results":
    """The run of that id, or the latest that is no baseline; fails where it did not come to its end."""
    if run_id is None:
        ids = [name for name, results in runs.items() if results.manifest().label != BASELINE]
        if not ids:
            fail("no run yet: lab eval run --quick", CANNOT_JUDGE)
        run_id = ids[-1]
    if run_id not in runs:
        fail(f"no run '{run_id}'; `lab eval history` lists them", USAGE)
    if runs[run_id].manifest().finished is None:
        fail(f"the run {run_id} did not come to its end: give its command again, and it goes on; or name another one",
             CANNOT_JUDGE)  # fmt: skip
    return runs[run_id]


@app.command()
@guarded(CANNOT_JUDGE)
def history(as_json: Json = False) -> None:
    """The runs, and what became of them. One that did not come to its end goes on when its command is given again."""
    from lab import evaluation
    from stack.evals import report

    manifests = [results.manifest() for results in evaluation.runs().values()]
    if as_json:
        emit({"runs": [{"run": one.run_id, "label": one.label, "mode": one.mode, "started": one.started,
                        "finished": one.finished, "outcome": one.outcome, "suites": list(one.suites)}
                       for one in manifests]})  # fmt: skip
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("run", "when", "took", "outcome", "mode", "label", "suites"):
        table.add_column(head)
    for one in manifests:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.started))
        took = "" if one.finished is None else f"{one.finished - one.started:.0f} s"
        outcome = "not finished" if one.finished is None else report.WORDS.get(one.outcome, "")
        table.add_row(one.run_id, when, took, outcome, one.mode, one.label, ", ".join(one.suites))
    console.print(table if manifests else "No run yet: lab eval run --quick")


@app.command()
@guarded(CANNOT_JUDGE)
def suites(as_json: Json = False) -> None:
    """What is evaluated: each suite with its metrics, how many examples they have, and the smallest loss that is seen.

    "sees from": so much worse a metric must really be to be blocked four times in five.
    """
    from stack.evals import report

    doctor.require_setup()
    found = [(one, *_sizes(one)) for one in load_suites()]
    if as_json:
        emit({"suites": [
            {"suite": one.name, "hash": one.hash, "sizes": sizes, **one.suite.model_dump(by_alias=True)}
            for one, sizes, _ in found
        ]})  # fmt: skip
        return
    for one, sizes, problem in found:
        console.print(f"[bold]{one.name}[/]  {one.suite.about}")
        if problem:
            console.print(f"  {problem}\n", style="yellow", markup=False)
            continue
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("metric")
        for mode in one.suite.examples:
            table.add_column(f"{mode}: examples", justify="right")
            table.add_column("sees from", justify="right")
        for metric, by_mode in sizes.items():
            cells = ((f"{size['examples']:,}", report.number(size["sees_from"])) for size in by_mode.values())
            table.add_row(metric, *(cell for pair in cells for cell in pair))
        console.print(table)
        console.print()


def _sizes(suite: Named) -> "tuple[Sizes, str | None]":
    """What its metrics see; none, and why, where it has no baseline yet."""
    from lab import evaluation

    try:
        return evaluation.sizes(suite), None
    except NoBaseline as problem:
        return {}, str(problem)


@app.command()
@guarded(CANNOT_JUDGE)
def faults(
    only: Annotated[list[str] | None, typer.Option(help="only this fault; may be given several times")] = None,
    rounds: Annotated[int, typer.Option(min=0, help="runs without a fault before")] = 1,
    quick: Quick = True,
    track: Track = None,
    show: Annotated[bool, typer.Option("--show", help="run nothing, print the table of what was found before")] = False,
) -> None:
    """Run every known fault through the gate, and tell which suite catches it."""
    from lab import fault_table

    found = fault_table.stored()
    stale = fault_table.stale(found, _mode(quick)) if show else []
    if not show:
        with exclusive("evaluate"), progress() as tell:
            doctor.require_setup()
            found = fault_table.run(only, _mode(quick), rounds, tell, track)
    if not found:
        fail("no fault has been run yet: lab eval faults", CANNOT_JUDGE)
    print(fault_table.table(found))
    if stale:
        print(f"\nOf other code, suites or baselines than the checkout's: {', '.join(stale)}.")
    raise typer.Exit(PASS if all(one.right for one in found) else FAIL)


def _mode(quick: bool) -> Mode:
    return "quick" if quick else "full"


def _warn(text: str) -> None:
    errors.print(views.plain(text), style="yellow")


def _judge(url: str, model: str) -> JudgeEndpoint:
    """Fails where `url` is none, or has a password in it: it is kept with the run; or does not have the model, which
    would be found out after minutes otherwise."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        fail(f"--judge {url}: write a URL such as http://127.0.0.1:8000", USAGE)
    if parts.username or parts.password:
        fail("--judge: a password in a URL is kept with the run; give the key in EVAL_JUDGE_KEY", USAGE)
    judge = JudgeEndpoint(url, model, os.environ.get("EVAL_JUDGE_KEY"))
    if problem := missing(judge):
        fail(f"--judge {url}: {problem}", CANNOT_JUDGE)
    return judge


def _show(folder: Path, manifest: "Manifest", verdicts: "list[Verdict]", as_json: bool) -> None:
    from lab import evaluation
    from stack.evals import report

    if as_json:
        emit(evaluation.as_dict(manifest, verdicts))
    else:
        console.print(report.table(verdicts))
        for problem in (verdict.problem for verdict in verdicts if verdict.problem):
            console.print(f"  {problem}", style="bold red", markup=False)
        for note in report.notes(manifest, verdicts):
            console.print(f"  {note}", markup=False)
        for failure in report.failures(verdicts):
            console.print(f"  failed: {failure}", markup=False)
        console.print(f"\n[bold]{report.sentence(verdicts, manifest.unasked)}[/]")
        console.print(f"Reports: {folder}/report.html, report.md, junit.xml")


def _end(verdicts: "list[Verdict]") -> NoReturn:
    """With the exit code that says what became of the release."""
    from stack.evals import report

    outcome = report.outcome_of(verdicts)
    raise typer.Exit({"block": FAIL, "unjudged": CANNOT_JUDGE}.get(outcome, PASS))
