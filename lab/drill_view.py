"""A running drill on the terminal: its services, the symptom beside the objectives, what is graded, what to do next."""

import math
import os
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.panel import Panel
from rich.table import Table

from lab import drill, report, workspace
from lab.grade import WORDS
from lab.measure import good, load_figures
from lab.prometheus import Prometheus, PrometheusUnreachable
from lab.quality import means
from lab.run import Run
from lab.runtime import control
from lab.scenario import Bound, Check, Cost, Goodput, PromptHolds, Quality, Scenario, Work
from lab.views import plain
from loadtests import LoadError
from loadtests.plan import read_plan
from loadtests.rows import read_rows

RECENT_SECONDS = 30
AFTER_CHECK_SECONDS = 60  # no ready-made query and no rule looks further back
QUALITY = {
    "ranking": "ranking of the right document, nDCG@10",
    "abuse_stopped": "abuse blocked or held for review",
    "clean_passed": "harmless texts that appear at once",
}


def state(run: Run, scenario: Scenario) -> dict[str, Any]:
    """Everything `lab status` knows: services, the symptom, recent load figures, addresses."""
    public = scenario.public
    services = [vars(process) for process in control.processes(run)]
    return {
        "running": True,
        "run_id": run.info.run_id,
        "scenario": scenario.id,
        "title": public.title,
        "services": services,
        "incidents": [e for e in run.events("process") if e["state"] in control.OVER][-5:],
        "seconds_left": max(0.0, round(run.info.ends - time.time())),
        "practice_load": run.info.practice,
        "objectives": public.objectives.model_dump() | {"goodput": public.least_goodput},
        # Of a load that was stopped, all that is due since would be missed.
        "recent": recent(run, scenario) if load_runs(services) else None,
        "alerts": alerts(run),
        "seconds_since_check": since_check(run),
        "asks_prediction": bool(public.predict) and not report.too_late(run),
        "pending_changes": bool(workspace.diff(run.applied, run.workspace, run.info.services)),
        "out_of_service": drill.out_of_service(run),
        "workspace": str(run.workspace),
        "prometheus": run.prometheus_url,
        "gateway": run.gateway_url,
        "keys_file": str(run.keys_file),
    }


def load_runs(services: Sequence[dict[str, Any]]) -> bool:
    """Whether the practice load is among those of `services` that run."""
    return any((one["name"], one["state"]) == ("load", "RUNNING") for one in services)


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


def since_check(run: Run) -> float | None:
    """Seconds since the last graded load ended, while what looks back over the last minute still shows it."""
    ended = max((event["time"] for event in run.events("verdict")), default=-math.inf)
    since = time.time() - ended
    return since if since < AFTER_CHECK_SECONDS else None


def of_the_check(seconds: float) -> str:
    return f"A check ended {seconds:.0f} s ago: what looks back over the last minute still shows its traffic."


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
    if state["seconds_since_check"] is not None:
        parts.append(of_the_check(state["seconds_since_check"]))
    parts += [symptom(state["recent"], state["objectives"], load_runs(state["services"])), ""]
    if state["out_of_service"]:
        parts.append(plain(drill.out_of_service_in_words(state["out_of_service"])))
    if state["pending_changes"]:
        parts.append("The workspace differs from what runs: [bold]lab diff[/], [bold]lab apply[/].")
    parts.append(f"The drill ends by itself in {state['seconds_left'] / 60:.0f} minutes; its folder stays.")
    parts.append(next_steps(state["workspace"], state["prometheus"], state["gateway"], state["asks_prediction"]))
    return Group(*parts)


def symptom(recent: dict[str, float | None] | None, objectives: dict[str, float], load: bool) -> RenderableType:
    """What callers saw of late; `load` is whether the practice load runs."""
    if recent is None:
        if load:
            return f"No request of the practice load has ended in the last {RECENT_SECONDS} s, or it has just begun."
        return "No practice load runs: `lab apply` starts it again, as does the end of each `lab check`."
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


def next_steps(workspace_path: str, prometheus: str, gateway: str, asks_prediction: bool) -> str:
    files = os.path.relpath(workspace_path)
    prediction = "; a prediction before any check" if asks_prediction else ""
    return (
        f"[bold]Look[/]   lab metrics · lab logs llm · Prometheus {prometheus}/graph · "
        f"gateway {gateway}\n"
        f"[bold]Change[/] edit {files}/*.yaml, then lab diff, lab apply\n"
        f"[bold]Say[/]    lab diagnose (component, mechanism, a query as evidence{prediction}) · lab hint\n"
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
        case Bound() if check.key.endswith("_bytes"):
            return f"{WORDS[check.op]} {check.value:,.12g} bytes"
        case _:
            return f"{WORDS[check.op]} {check.value:,.12g}"
