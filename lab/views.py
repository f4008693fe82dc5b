"""What the terminal shows: tables and panels made from plain data. `--json` prints the same data."""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.markup import escape
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from lab import drill, proof, workspace
from lab.calibrate import Baseline
from lab.diagnosis import load_vocabulary
from lab.doctor import Finding
from lab.grade import WORDS, CheckResult, Grade, margin_in_words
from lab.measure import good, load_figures
from lab.prometheus import Prometheus, PrometheusUnreachable
from lab.promql import QueryError
from lab.proof_tables import margins_of
from lab.quality import means
from lab.report import ATTEMPT_COST, HINT_COST
from lab.run import Run
from lab.runtime import control
from lab.scenario import Check, Cost, Goodput, PromptHolds, Quality, Scenario, Work
from loadtests import LoadError
from loadtests.plan import read_plan
from loadtests.rows import read_rows

RECENT_SECONDS = 30
STEP_SECONDS = 10
SHARES = {"slo", "probe"}
QUALITY = {
    "ranking": "ranking of the right document, nDCG@10",
    "abuse_stopped": "abuse blocked or held for review",
    "clean_passed": "harmless texts that appear at once",
}
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


def state(run: Run, scenario: Scenario) -> dict[str, Any]:
    """Everything `lab status` knows: services, the symptom, recent load figures, addresses."""
    public = scenario.public
    return {
        "running": True,
        "run_id": run.info.run_id,
        "scenario": scenario.id,
        "title": public.title,
        "services": [vars(process) for process in control.processes(run)],
        "incidents": [e for e in run.events("process") if e["state"] in control.OVER][-5:],
        "seconds_left": max(0.0, round(run.info.ends - time.time())),
        "practice_load": run.info.practice,
        "objectives": public.objectives.model_dump() | {"goodput": public.least_goodput},
        "recent": recent(run, scenario),
        "alerts": alerts(run),
        "pending_changes": bool(workspace.diff(run.applied, run.workspace, run.info.services)),
        "out_of_service": drill.out_of_service(run),
        "workspace": str(run.workspace),
        "prometheus": run.prometheus_url,
        "gateway": run.gateway_url,
        "keys_file": str(run.keys_file),
    }


def recent(run: Run, scenario: Scenario) -> dict[str, float | None] | None:
    """What ended in the last RECENT_SECONDS of the practice load, as callers saw it; None without load.

    `goodput` counts what is certain: an overdue request is a miss though it has not ended yet.
    """
    objectives = scenario.public.objectives
    try:
        load, plan = (
            read_rows(run.folder / "load/practice/rows.jsonl"),
            read_plan(run.folder / "load/practice/plan.jsonl"),
        )
    except LoadError:
        return None
    now = min(time.time() - load.header.start, plan.header.seconds)
    begun = max(0.0, now - RECENT_SECONDS)
    seconds = max(1.0, now - begun)
    ended = [row for row in load.rows if row.end is not None and row.end >= begun]
    if plan.header.mode == "closed":
        due, offered = {row.i for row in ended}, None
    else:
        # Whoever came later than this may still be served in time.
        first, last = begun - objectives.longest_seconds, now - objectives.longest_seconds
        due = {arrival.i for arrival in plan.arrivals if first <= arrival.offset <= last}
        offered = sum(begun <= arrival.offset <= now for arrival in plan.arrivals) / seconds
    if not ended and not due:
        return None
    served = sum(good(row, objectives) for row in load.rows if row.i in due)
    figures = load_figures(ended, max(1, len(ended)), objectives)
    return figures | {
        "quality": means(plan.arrivals, ended),
        "goodput": served / len(due) if due else None,
        "offered_per_second": offered,
        "answered_per_second": sum(row.outcome == "ok" for row in ended) / seconds,
    }


def alerts(run: Run) -> list[dict[str, str]]:
    """The alerts that fire; none where Prometheus does not answer, which `services` tells."""
    try:
        with Prometheus(run.prometheus_url) as prometheus:
            return [dict(alert) for alert in prometheus.firing()]
    except PrometheusUnreachable:
        return []


def status(state: dict[str, Any]) -> RenderableType:
    services = Table("service", "state", "pid", "up", box=None, pad_edge=False)
    for process in state["services"]:
        colour = "green" if process["state"] == "RUNNING" else "red"
        services.add_row(
            process["name"], f"[{colour}]{process['state'].lower()}[/]", str(process["pid"] or ""),
            f"{process['uptime_seconds']} s" if process["state"] == "RUNNING" else "",
        )  # fmt: skip
    parts: list[RenderableType] = [f"[bold]{plain(state['title'])}[/]  ({state['scenario']})", "", services, ""]
    parts += [f"[red]{item['service']} {item['state']}[/] (pid {item['pid']})" for item in state["incidents"]]
    parts += [f"[red]alert {plain(item['alertname'])}[/] {plain(item.get('summary', ''))}" for item in state["alerts"]]
    parts += [symptom(state["recent"], state["objectives"]), ""]
    if state["out_of_service"]:
        parts.append(plain(drill.out_of_service_in_words(state["out_of_service"])))
    if state["pending_changes"]:
        parts.append("The workspace differs from what runs: [bold]lab diff[/], [bold]lab apply[/].")
    parts.append(f"The drill ends by itself in {state['seconds_left'] / 60:.0f} minutes; its folder stays.")
    parts.append(next_steps(state["workspace"], state["prometheus"], state["gateway"]))
    return Group(*parts)


def symptom(recent: dict[str, float | None] | None, objectives: dict[str, float]) -> RenderableType:
    if recent is None:
        return "No load right now."
    table = Table("as callers see it", "now", "objective", box=None, pad_edge=False)
    offered = recent["offered_per_second"]
    rows = [  # name, value, format, the worst good value, whether more is better
        ("time to first token, p50", recent["ttft_p50"], "{:.2f} s", objectives["first_token_seconds"], False),
        ("time to first token, p95", recent["ttft_p95"], "{:.2f} s", objectives["first_token_seconds"], False),
        (
            "time per output token, p95",
            recent["tpot_p95"],
            "{:.3f} s",
            objectives["time_per_output_token_seconds"],
            False,
        ),
        ("answers in one piece, p50", recent["whole_p50"], "{:.2f} s", objectives["whole_seconds"], False),
        ("answers in one piece, p95", recent["whole_p95"], "{:.2f} s", objectives["whole_seconds"], False),
        ("requests that met every objective", recent["goodput"], "{:.0%}", objectives["goodput"], True),
        ("requests answered per second", recent["answered_per_second"], "{:.2f}", 0.8 * (offered or 0.0), True),
    ]
    for name, value, form, limit, more in rows:
        if limit is None:
            continue
        good_now = value is not None and (value >= limit if more else value <= limit)
        shown = "-" if value is None else form.format(value)
        wanted = f"{'≥' if more else '≤'} {form.format(limit)}"
        if "answered" in name:
            wanted = "each caller waits for the answer" if offered is None else f"{offered:.2f} offered"
        table.add_row(name, f"[{'green' if good_now else 'red'}]{shown}[/]", wanted)
    for measure, value in recent["quality"].items():
        table.add_row(QUALITY[measure], f"{value:.2f}", "")
    return Group(table, f"[dim]requests that ended in the last {RECENT_SECONDS} s of the practice load[/]")


def next_steps(workspace_path: str, prometheus: str, gateway: str) -> str:
    files = os.path.relpath(workspace_path)
    return (
        f"[bold]Look[/]   lab metrics · lab logs llm · Prometheus {prometheus}/graph · "
        f"gateway {gateway}\n"
        f"[bold]Change[/] edit {files}/*.yaml, then lab diff, lab apply\n"
        "[bold]Say[/]    lab diagnose (component, mechanism, and a query as evidence) · lab hint\n"
        "[bold]End[/]    lab check grades the stack with fresh traffic · lab report · lab stop"
    )


def briefing(run: Run, scenario: Scenario) -> RenderableType:
    brief = Panel(Markdown(scenario.brief), title=plain(scenario.public.title), width=110)
    return Group(brief, graded(scenario.public.checks), "", status(state(run, scenario)))


def graded(checks: Sequence[Check]) -> RenderableType:
    """What `lab check` asks for, before anything is changed."""
    table = Table("what is graded", "allowed", box=None, pad_edge=False)
    for check in checks:
        table.add_row(plain(check.title), allowed(check))
    return table


def allowed(check: Check) -> str:
    """A check's limit in words."""
    match check:
        case Work() | Cost() | Quality():
            ratio = check.ratio_to_healthy
            if isinstance(ratio, tuple):
                return f"{ratio[0]:g} to {ratio[1]:g} × the healthy stack's"
            return f"{WORDS[check.op]} {ratio:g} × the healthy stack's"
        case Goodput() | PromptHolds():
            return f"{WORDS[check.op]} {check.value:.0%}"
        case _:
            return f"{WORDS[check.op]} {check.value:,.12g}"


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
            rows.append(item | {"samples": [{"labels": dict(s.labels), "value": _finite(s.value)} for s in samples]})
    return rows


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def metrics(rows: Sequence[dict[str, Any]], run: Run) -> RenderableType:
    table = Table("metric", "now", "objective", box=None, pad_edge=False)
    for row in rows:
        several = len({sample["labels"].get("__name__") for sample in row["samples"]}) > 1
        hidden = ("instance", "job") if several else ("instance", "job", "__name__")
        for sample in row["samples"] or [{"labels": {}, "value": None}]:
            labels = {k: v for k, v in sample["labels"].items() if k not in hidden}
            shown_labels = ", ".join(f'{key}="{text}"' for key, text in labels.items())
            name = shown_labels if row["title"] == row["query"] and labels else f"{row['title']} {shown_labels}".strip()
            shown = "no data" if sample["value"] is None else f"{sample['value']:.4g} {row['unit']}"
            table.add_row(plain(name), shown, row["objective"])
    queries = "\n".join(f"  {plain(row['query'])}" for row in rows)
    parts = [table, "", f"Queries, for `lab metrics 'QUERY'` or {run.prometheus_url}/graph:", queries]
    return Group(*(parts if len(rows) > 1 else parts[:1]))


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
        table.add_row("[bold]--predict ID=VALUE[/]", "before the first lab apply; afterwards it is a measurement")
        for item in public.predict:
            table.add_row(f"  {item.id}", plain(f"{item.ask} ({item.unit})"))
    notes = (
        "--query: PromQL with one value, that in this incident is at least twice, or at most half, of what it is in a "
        "healthy run and in a run with the same symptom from another cause. It is asked of recordings of such runs, "
        "while their load was on.",
        f"The last answer counts. Each further one costs {ATTEMPT_COST} points of 100, each hint {HINT_COST}.",
    )
    return Group(table, "", *notes)


def diagnosis(result: dict[str, Any]) -> RenderableType:
    lines = [f"[bold]{result['score']:g}[/] of {result['score_of']} points for the diagnosis"]
    if result["deducted"]:
        lines[0] += f", less {result['deducted']} for earlier answers"
    lines += [f"  {plain(reason)}" for reason in result["reasons"]]
    lines += [
        f"  Noted: {plain(name)} = {value:g}; the report grades it." for name, value in result["predictions"].items()
    ]
    lines.append(f"[dim]The last answer counts; another one costs {result['next_costs']} points.[/]")
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
