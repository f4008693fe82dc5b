"""What the engine was really asked: the prompts of a graded load, from the gateway's audit trail, against a check.

Not a rendering made for the check: a template can tell another moment or another id from a graded request.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lab.scenario import PromptHolds, Public
from loadtests.plan import Plan
from loadtests.rows import Row

WRITTEN_SECONDS = 5  # the gateway writes its trail beside its work


def trail(path: Path) -> dict[str, str]:
    """The text of each prompt in the audit trail at `path` by request id, its white space and case evened out."""
    found = {}
    for file in (path.with_name(f"{path.name}.1"), path):
        if file.exists():
            for line in file.read_bytes().split(b"\n")[:-1]:
                entry = json.loads(line)
                found[entry["request_id"]] = _squeezed(" ".join(m["content"] for m in entry["messages"]))
    return found


def clear(path: Path) -> None:
    """Empty the audit trail: what the practice load left need not be read at each check."""
    path.with_name(f"{path.name}.1").unlink(missing_ok=True)
    if path.exists():
        os.truncate(path, 0)  # the gateway appends, so it goes on from here


def prompt_figures(
    path: Path, public: Public, plan: Plan, rows: Iterable[Row], documents: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """For each check on prompts: the share of required texts that the answered requests' prompts held, and what was
    missing first.

    `path` is the audit trail, `documents` are the site's as they were before the incident. An answered request that is
    not in the trail counts as holding nothing; without any answer there is no share.
    """
    checks = [check for check in public.checks if isinstance(check, PromptHolds)]
    if not checks:
        return {}
    answered = [row for row in rows if row.outcome == "ok"]
    prompts = _wait_for(path, [row.request_id for row in answered])
    bodies = {arrival.i: arrival.body for arrival in plan.arrivals}
    return {check.id: _held(check, answered, bodies, prompts, documents) for check in checks}


def _wait_for(path: Path, request_ids: list[str]) -> dict[str, str]:
    deadline = time.monotonic() + WRITTEN_SECONDS
    while True:
        found = trail(path)
        if all(name in found for name in request_ids) or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def _held(
    check: PromptHolds,
    answered: Iterable[Row],
    bodies: Mapping[int, dict[str, Any]],
    prompts: Mapping[str, str],
    documents: Mapping[str, str],
) -> dict[str, Any]:
    lines = [(name, line) for name in check.documents for line in documents[name].splitlines() if line.strip()]
    fixed = {_squeezed(line): f"{name}: {line}" for name, line in sorted(lines, key=lambda one: -len(one[1]))}
    brought = {row.request_id: _variables(check, row, bodies[row.i]) for row in answered}
    every = {text for texts in brought.values() for text in texts}
    held, required, missing = 0, 0, None
    for request_id, texts in brought.items():
        rest = prompts.get(request_id, "")
        found = set()
        for text in [*fixed, *sorted(texts, key=len, reverse=True)]:
            if text in rest:
                found.add(text)
                rest = rest.replace(text, "\n")  # else the rules that speak of a desk would do for the desk
        if any(text in rest for text in every):  # what other requests brought: no prompt tells which is its own
            found -= texts.keys()
        for text, what in (fixed | texts).items():
            required += 1
            if text in found:
                held += 1
            elif missing is None:
                missing = f"{what[:80]} (request {request_id})"
    return {"share": held / required if required else None, "missing": missing}


def _variables(check: PromptHolds, row: Row, body: Mapping[str, Any]) -> dict[str, str]:
    """What a request itself brings: texts by what they are called."""
    values = {
        "question": body["messages"][-1]["content"],
        "request_id": row.request_id,
        "desk": body.get("metadata", {}).get("desk", ""),
    }
    return {_squeezed(values[name]): f"its {name}" for name in check.variables}


def _squeezed(text: str) -> str:
    """White space and case do not count: a template may wrap its lines as it likes."""
    return " ".join(text.split()).casefold()
