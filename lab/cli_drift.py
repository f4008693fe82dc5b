"""`lab drift`: does traffic differ from what the release was made for?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lab.paths import ROOT, RUNS
from lab.run import RunError, last_drill
from lab.terminal import FAIL, PASS, Json, console, emit, fail, guarded
from lab.views import plain
from stack.settings import load

CANNOT_JUDGE = 3
DEFAULT = ROOT / "stack/config/drift.yaml"

app = typer.Typer(no_args_is_help=True)


@app.callback()
def drift() -> None:
    """Drift of logged traffic against a reference from a time when all was well."""


@app.command()
@guarded(CANNOT_JUDGE)
def report(
    traffic: Annotated[Path | None, typer.Argument(help="the log of retrieval; default: the last drill's")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="detectors, window and limits; default: those of the drill's monitor, else the shipped ones"),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="one that the monitor kept; default: the drill's, else the log's first searches")
    ] = None,
    out: Annotated[Path, typer.Option(help="the page")] = RUNS / "drift.html",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Compare a traffic log window by window, and write a page with plots.

    Without TRAFFIC: that of the last drill, with the reference of its monitor. What a draft would make of it, before it
    is applied: --config runs/current/workspace/drift.yaml.

    Exit codes: 0 no window drifts; 1 one does; 3 it cannot be told: too few searches, or no log.
    """
    from lab import drift_report
    from stack.drift.config import DriftConfig
    from stack.drift.monitor import load as load_reference

    if traffic is None:
        applied = _of_the_drill()
        monitor = load(applied, DriftConfig)
        config = config or applied
        traffic, reference = applied.parent / monitor.traffic, reference or applied.parent / monitor.reference.file
    settings = load(config or DEFAULT, DriftConfig)
    try:
        kept = load_reference(reference) if reference else None
        looked = drift_report.look(settings, traffic, kept)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(drift_report.page(settings, looked), encoding="utf-8")
    except (OSError, ValueError) as problem:
        fail(str(problem), CANNOT_JUDGE)
    drifting = [one.number for one in looked if one.drift]
    detectors = drift_report.summary(settings, looked)
    if as_json:
        emit({"windows": len(looked), "drifting": drifting, "detectors": detectors, "page": str(out)})
    else:
        numbers = f": {', '.join(map(str, drifting))}" if 0 < len(drifting) < len(looked) else ""
        console.print(f"{len(drifting)} of {len(looked)} windows of {settings.window.searches} searches drift{numbers}")
        console.print(_table(detectors, len(looked)), "", f"Page: {out}", sep="\n")
    raise typer.Exit(FAIL if drifting else PASS)


def _table(detectors: Sequence[dict[str, Any]], windows: int) -> Table:
    columns = ("detector", "distance", "usual without drift", "limit", "median of the windows", "beyond")
    table = Table(*columns, box=None, pad_edge=False)
    for one in detectors:
        figures = (f"{one[name]:.4f}" for name in ("usual", "limit", "median"))
        row = (one["detector"], f"{one['distance']} of {one['signal']}", *figures, f"{one['beyond']} of {windows}")
        table.add_row(*map(plain, row))
    return table


def _of_the_drill() -> Path:
    """The monitor's configuration as it was applied last. Raises RunError."""
    run = last_drill()
    if "drift" not in run.info.services:
        raise RunError(
            f"the drill of {run.info.scenario} has no drift monitor: name the traffic log that is to be looked at"
        )
    return run.applied / "drift.yaml"
