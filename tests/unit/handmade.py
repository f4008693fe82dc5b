"""Runs, loads and scenarios made by hand, for tests: small, healthy unless a test says otherwise."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.grade import CheckResult, Grade, grade
from lab.run import Run, RunInfo
from lab.scenario import Public
from loadtests.plan import Arrival, Header, Plan
from loadtests.rows import Row

KV_BUDGET = 268_435_456
CHECKS: tuple[dict[str, Any], ...] = (
    {"id": "goodput", "kind": "slo", "title": "Good requests", "value": 0.9},
    {"id": "prompt", "kind": "probe", "title": "Rules in the prompt", "probe": "prompt_holds",
     "documents": ["rules"], "variables": ["question", "request_id"], "op": ">="},
    {"id": "answer_work", "kind": "work", "title": "Output tokens", "field": "completion_tokens",
     "ratio_to_healthy": 0.75},
    {"id": "cost", "kind": "cost", "title": "Computed tokens", "query": "sum(increase(a_total[$window]))",
     "ratio_to_healthy": 3},
    {"id": "budget", "kind": "bound", "title": "KV cache", "key": "llm.engine.kv_cache_memory_bytes", "op": "<=",
     "value": KV_BUDGET},
)  # fmt: skip


def a_public(checks: Sequence[dict[str, Any]] = CHECKS, **changes: Any) -> Public:
    """The public part of a scenario with these checks; first token within 1 s, 0.15 s a token, all within 8 s."""
    load = {"user": "reading_desk", "rate": 0.5, "seed": 1, "tenant": "acme", "target": "desk"}
    fields = {
        "schema": 1, "id": "desk-is-slow", "title": "The desk is slow", "question": "Why?", "level": 1,
        "covers": ["serving-latency"], "services": ["llm", "gateway"],
        "load": {"practice": load, "grading": {**load, "split": "grading"}},
        "objectives": {"first_token_seconds": 1.0, "time_per_output_token_seconds": 0.15, "latency_seconds": 8.0},
        "wait_for": {"query": "up", "op": ">", "value": 0.5}, "checks": list(checks), "watch": [],
        "diagnosis": {"components": ["a", "b", "c"], "mechanisms": ["w", "x", "y", "z"]}, "time_box_minutes": 45,
    }  # fmt: skip
    return Public.model_validate({**fields, **changes})


def a_row(i: int = 0, **changes: Any) -> Row:
    """A good request, due at `i` half seconds; `first_token` and `end` may be given as seconds after that."""
    due = i * 0.5
    times = {"first_token": 0.3, "end": 1.3, **{k: v for k, v in changes.items() if k in ("first_token", "end")}}
    fields: dict[str, Any] = {
        "i": i, "request_id": f"check1-{i}", "tenant": "acme", "intended": due, "sent": due + 0.001,
        "outcome": "ok", "status": 200, "error": None, "prompt_tokens": 1500, "completion_tokens": 21,
        "answer": "Yes, it is.", **changes,
        **{name: None if after is None else due + after for name, after in times.items()},
    }  # fmt: skip
    return Row(**fields)


def rows(good: int, bad: int = 0, **how_bad: Any) -> list[Row]:
    """Good requests and then bad ones, by default too slow."""
    changes = how_bad or {"first_token": 3.0, "end": 4.0}
    return [a_row(i) for i in range(good)] + [a_row(i, **changes) for i in range(good, good + bad)]


def a_plan(requests: int) -> Plan:
    """Requests due each half second."""
    body = {"model": "desk", "messages": [{"role": "user", "content": "Is water wet?"}], "metadata": {"desk": "maps"}}
    header = Header(user="reading_desk", shape="steady", rate=2.0, seconds=max(1.0, requests / 2), seed=1,
                    split="grading", requests=requests)  # fmt: skip
    arrivals = (
        Arrival(i=i, offset=i * 0.5, tenant="acme", path="/v1/chat/completions", body=body) for i in range(requests)
    )
    return Plan(header, tuple(arrivals))


def measurements(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """What `lab check` measures beside the rows, on a quiet machine; `changes` by dotted path."""
    measured: dict[str, Any] = {
        "schema_version": 1,
        "scenario": "desk-is-slow",
        "window": {"start": 1000.0, "end": 1050.0},
        "conditions": {
            "host": {"seconds": 50.0, "own_share": 0.9, "outside_share": 0.02, "steal_share": 0.01,
                     "worst_stall_seconds": 0.1},
            "anchors": {"calibrated": 100.0, "before": 98.0, "after": 101.0},
            "ended": [],
            "changed": None,
        },
        "metrics": {"window_seconds": 50, "problem": None, "costs": {"cost": 110.0}, "services_up": {"llm": 1.0}},
        "prompts": {"prompt": {"share": 1.0, "missing": None}},
        "config": {"llm": {"engine": {"kv_cache_memory_bytes": KV_BUDGET}}, "gateway": {}},
        "healthy": {
            "figures": {"prompt_tokens": 1500.0, "completion_tokens": 20.0},
            "costs": {"cost": 100.0},
            "problem": None,
        },
    }  # fmt: skip
    for path, value in (changes or {}).items():
        *way, last = path.split(".")
        place = measured
        for part in way:
            place = place[part]
        place[last] = copy.deepcopy(value)
    return measured


def write_load(
    folder: Path,
    rows: Sequence[Row],
    *,
    planned: int | None = None,
    ended: bool = True,
    cut_at: float | None = None,
    measured: dict[str, Any] | None = None,
) -> Path:
    """The folder of a graded load; `cut_at`: ended by us after so many seconds; not `ended`: without an end line."""
    plan = a_plan(planned if planned is not None else len(rows))
    plan.write(folder / "plan.jsonl")
    lines: list[dict[str, Any]] = [{"start": 1000.0, "plan": plan.header.model_dump()}]
    lines += [row.model_dump() for row in rows]
    if ended:
        seconds = plan.header.seconds if cut_at is None else cut_at
        lines.append({"end": {"planned": plan.header.requests, "sent": len(rows), "seconds": seconds}})
    text = "".join(json.dumps({"schema": 1, **line}) + "\n" for line in lines)
    (folder / "rows.jsonl").write_text(text)
    if cut_at is not None:
        (folder / "cut_short").touch()
    (folder / "measurements.json").write_text(json.dumps(measurements() if measured is None else measured))
    return folder


PUBLIC = a_public()


def graded(folder: Path, found: Sequence[Row], changes: dict[str, Any] | None = None, **load: Any) -> Grade:
    """The grade of a load on a quiet machine, but for `changes` by dotted path."""
    return grade(write_load(folder, found, measured=measurements(changes), **load), PUBLIC)


def result(found: Grade, check: str) -> CheckResult:
    """What a grade says of one check."""
    return next(item for item in found.checks if item.id == check)


def a_run(folder: Path, **changes: Any) -> Run:
    """A run's folder with its run.json, as if its stack had ended long ago."""
    for name in ("workspace", "applied", "keys", "logs", "load/practice", "checks"):
        (folder / name).mkdir(parents=True)
    fields: dict[str, Any] = {
        "schema": 1, "run_id": folder.name, "purpose": "drill", "scenario": "desk-is-slow", "digest": "d",
        "services": ["llm", "gateway"], "code": "c",
        "port_base": 20000, "socket": str(folder / "none.sock"), "practice": "2 requests/s", "time_box_seconds": 2700.0,
        "started": 1_800_000_000.0, "versions": {}, **changes,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(fields))
    (folder / "keys/keys.json").write_text(json.dumps({"acme": "lab-secret"}))
    return Run(folder)


def info(run_id: str) -> RunInfo:
    """What `lab.run.create` is given."""
    services = ("llm", "gateway")
    return RunInfo(
        1, run_id, "drill", "desk-is-slow", "d", services, "c", 20000, "none.sock", "", 2700.0, 1_800_000_000.0, {}
    )
