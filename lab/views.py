"""What the terminal shows: tables and panels made from plain data. `--json` prints the same data."""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.markup import escape
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from lab import drill, proof
from lab.calibrate import Baseline
from lab.diagnosis import load_vocabulary
from lab.doctor import Finding
from lab.grade import CheckResult, Grade, margin_in_words
from lab.prometheus import Prometheus
from lab.promql import QueryError, metric_names
from lab.proof_tables import margins_of
from lab.report import ATTEMPT_COST, HINT_COST
from lab.run import Run
from lab.scenario import Scenario

STEP_SECONDS = 10
SHARES = {"slo", "probe"}
COLOURS = {"pass": "green", "fail": "red", "cannot_grade": "yellow", "not_measured": "yellow"}


def plain(text: str) -> str:
    """Text that rich prints as it is."""
    return escape(text)


class Steps:
    """Progress where there is no terminal: a line for each new step, and one every STEP_SECONDS of a long one."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._last, self._told = "", -math.inf

    def __call__(self, text: str) -> None:
        step = "".join(character for character in text if not character.isdigit())
        if step != self._last or self._clock() - self._told >= STEP_SECONDS:
            self._write(text)
            self._last, self._told = step, self._clock()


def entry(scenario: Scenario) -> dict[str, Any]:
    public = scenario.public
    return {
        "id": public.id,
        "title": public.title,
        "level": public.level,
        "covers": list(public.covers),
        "services": list(public.services),
        "proved": proof.proved(scenario),
        "time_box_minutes": public.time_box_minutes,
    }


def catalogue(entries: Sequence[dict[str, Any]]) -> RenderableType:
    table = Table("scenario", "level", "what the pager says", "proved", box=None, pad_edge=False)
    for item in entries:
        table.add_row(item["id"], str(item["level"]), plain(item["title"]), "yes" if item["proved"] else "[red]no[/]")
    return Group(table, "", "Start one: [bold]lab start ID[/]")


def markdown_catalogue(entries: Sequence[dict[str, Any]]) -> str:
    """The table in the README."""
    rows = [f"| `{item['id']}` | {item['level']} | {item['title']} |" for item in entries]
    return "\n".join(["| scenario | level | what the pager says |", "| --- | --- | --- |", *rows])


def metric_rows(run: Run, scenario: Scenario, query: str | None) -> list[dict[str, Any]]:
    """The value of each ready-made query, or of one given; an error is told in its row."""
    watched = scenario.public.watch
    entries = (
        [{"title": query, "query": query, "unit": "", "objective": ""}]
        if query
        else [watch.model_dump() for watch in watched]
    )
    rows: list[dict[str, Any]] = []
    with Prometheus(run.prometheus_url) as prometheus:
        for item in entries:
            try:
                samples = prometheus.query(item["query"])
            except QueryError as problem:
                if query:
                    raise
                rows.append(item | {"error": str(problem), "samples": []})
                continue
            rows.append(item | {"samples": [{"labels": dict(s.labels), "value": s.value} for s in samples]})
            if query and not samples:
                with suppress(QueryError):  # Prometheus reads more than we do
                    rows[-1]["unknown"] = sorted(metric_names(query) - prometheus.names())
    return rows


def metrics(rows: Sequence[dict[str, Any]], run: Run) -> RenderableType:
    table = Table("metric", "now", "objective", box=None, pad_edge=False)
    for row in rows:
        hidden = _hidden([sample["labels"] for sample in row["samples"]])
        for sample in row["samples"] or [{"labels": {}, "value": None}]:
            labels = {k: v for k, v in sample["labels"].items() if k not in hidden}
            shown_labels = ", ".join(f'{key}="{text}"' for key, text in labels.items())
            name = shown_labels if row["title"] == row["query"] and labels else f"{row['title']} {shown_labels}".strip()
            shown = "no data" if sample["value"] is None else f"{sample['value']:.4g} {row['unit']}"
            if unknown := row.get("unknown"):
                shown += f": there is no metric {', '.join(unknown)}"
            table.add_row(plain(name), shown, row["objective"])
    queries = "\n".join(f"  {plain(row['query'])}" for row in rows)
    parts = [table, "", f"Queries, for `lab metrics 'QUERY'` or {run.prometheus_url}/graph:", queries]
    return Group(*(parts if len(rows) > 1 else parts[:1]))


def _hidden(series: Sequence[dict[str, str]]) -> set[str]:
    """The labels that say nothing: name, address and job, where the others tell the series apart."""
    hidden = set()
    for label in ("instance", "job", "__name__"):
        left = {tuple(sorted((k, v) for k, v in one.items() if k not in hidden | {label})) for one in series}
        if len(left) == len(series):
            hidden.add(label)
    return hidden


def difference(diff: str, out_of_service: Sequence[str]) -> RenderableType:
    """What `lab apply` is to bring into service, or to bring back."""
    parts: list[RenderableType] = [Syntax(diff, "diff", background_color="default", word_wrap=False)] if diff else []
    parts += [plain(drill.out_of_service_in_words(out_of_service))] if out_of_service else []
    return Group(*parts)


def grade(grade: Grade, folder: Path) -> RenderableType:
    colour = COLOURS[grade.verdict]
    headline = f"[bold {colour}]{grade.verdict.replace('_', ' ').upper()}[/]"
    table = Table("check", "result", "value", "allowed", "margin", box=None, pad_edge=False)
    for item in grade.checks:
        table.add_row(
            item.id, f"[{COLOURS[item.outcome]}]{item.outcome.replace('_', ' ')}[/]", value_of(item, item.value),
            f"{item.op} {value_of(item, item.threshold)}", margin_of(item),
        )  # fmt: skip
    reasons = "\n".join(f"  {plain(item.reason)}" for item in grade.checks)
    why = "\n".join(f"[{colour}]{plain(reason)}[/]" for reason in grade.reasons) if not grade.checks or (
        grade.verdict == "cannot_grade"
    ) else ""  # fmt: skip
    return Group(headline, *([why] if why else []), "", table, "", reasons, "", f"Evidence: {os.path.relpath(folder)}")


def value_of(item: CheckResult, value: Any) -> str:
    """Shares in per cent, everything else as a number."""
    return f"{value:.1%}" if value is not None and item.kind in SHARES else number(value)


def margin_of(item: CheckResult) -> str:
    """How far the value is from the threshold, as a factor where that says something."""
    if item.kind == "slo" and item.value in (0, 1):
        return "all missed" if item.value == 0 else "none missed"
    if item.margin is not None:
        return margin_in_words(item.margin, item.margin_unit)
    return "-" if item.outcome == "not_measured" else "exact"


def number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, tuple | list):
        return " to ".join(number(part) for part in value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def hint(text: str, number: int, of: int) -> RenderableType:
    return Panel(Markdown(text), title=f"hint {number} of {of}", width=100)


def vocabulary(scenario: Scenario) -> RenderableType:
    words = load_vocabulary()
    table = Table(box=None, pad_edge=False, show_header=False)
    public = scenario.public
    table.add_row("[bold]--component[/]", "")
    for name in public.diagnosis.components:
        table.add_row(f"  {name}", plain(words.components[name]))
    table.add_row("[bold]--mechanism[/]", "")
    for name in public.diagnosis.mechanisms:
        table.add_row(f"  {name}", plain(words.mechanisms[name]))
    if public.predict:
        table.add_row("[bold]--predict ID=NUMBER[/]", "with the first answer, before any check or change; or ID=none")
        for item in public.predict:
            table.add_row(f"  {item.id}", plain(f"{item.ask} ({item.unit})"))
    notes = (
        "--query: PromQL with one value, that in this incident is at least twice, or at most half, of what it is in a "
        "healthy run and in the decoy, a run with the same symptom from another cause; what is below 0 counts as 0. It "
        "is asked of recordings of such runs under the graded load, made where this scenario was proved: their numbers "
        "are not those of your machine, nor of the load that you watch, and healthy is the site as it should be, in "
        "more than one key. --query '' answers without.",
        f"The last answer counts. Each further one costs {ATTEMPT_COST} points of 100, at most what the last earns; "
        f"each hint costs {HINT_COST}.",
    )
    return Group(table, "", *notes)


def diagnosis(result: dict[str, Any]) -> RenderableType:
    lines = [f"[bold]{result['score']:g}[/] of {result['score_of']} points for the diagnosis"]
    if result["deducted"]:
        lines[0] += f", less {result['deducted']:g} for earlier answers"
    lines += [f"  {plain(reason)}" for reason in result["reasons"]]
    lines += [
        f"  Noted: {plain(name)} = {value:g}; the report grades it." for name, value in result["predictions"].items()
    ]
    lines.append(
        f"[dim]The last answer counts; another one costs {result['next_costs']} points, at most what it earns.[/]"
    )
    return Group(*lines)


def proofs(results: Sequence[dict[str, Any]]) -> RenderableType:
    parts: list[RenderableType] = []
    for result in results:
        table = Table("control", "must", "verdict", "", "margins", "s", box=None, pad_edge=False)
        for item in result["controls"]:
            last = item["attempts"][-1]
            margins = margins_of(last["checks"])
            ok = "[green]ok[/]" if item["ok"] else f"[red]{plain('; '.join(last['problems']))}[/]"
            table.add_row(item["control"], item["must"], last["verdict"], ok, margins, f"{last['seconds']:.0f}")
        word = "[green]proved[/]" if result["proved"] else "[red]not proved[/]"
        parts += [f"[bold]{result['scenario']}[/]: {word} in {result['seconds'] / 60:.1f} min", table, ""]
    return Group(*parts)


def baseline(baseline: Baseline) -> RenderableType:
    return Syntax(json.dumps(baseline.as_dict(), indent=1), "json", background_color="default")


def findings(findings: Sequence[Finding]) -> RenderableType:
    table = Table("what", "", "", box=None, pad_edge=False)
    for item in findings:
        mark = "[green]ok[/]" if item.ok else "[red]wrong[/]"
        table.add_row(plain(item.what), mark, plain(item.detail if item.ok else f"{item.detail}: {item.mend}"))
    return table
