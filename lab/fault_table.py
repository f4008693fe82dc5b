"""Runs every known fault through the gate, and tells which suite caught it: `lab eval faults`."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from lab import evaluation
from lab.drill import Progress
from lab.paths import ROOT
from lab.run import RunError
from stack.evals.gate import Verdict
from stack.evals.report import outcome_of
from stack.evals.suite import Mode, Named, load_suites
from stack.settings import ConfigError, Settings, nearest, parse

FAULTS = ROOT / "stack/evals/faults"
CAUGHT = ROOT / "stack/evals/caught.json"


class Fault(Settings):
    """`NAME.yaml`: a change that makes answers worse."""

    title: str
    """What somebody did."""
    catches: tuple[str, ...] = Field(min_length=1)
    """Suites that must block it, one at least."""
    change: dict[str, Any]
    """Service to merge patch."""


@dataclass(frozen=True)
class Caught:
    """What the gate said of a release with a fault, or of one without."""

    fault: str
    title: str
    expected: tuple[str, ...]
    outcome: str
    suites: dict[str, tuple[str, ...]]
    """Suites that blocked, each with the metrics that did."""
    seconds: float

    @property
    def right(self) -> bool:
        """Blocked by a suite that must; or not at all where nothing is wrong."""
        if not self.expected:
            return self.outcome != "block"
        return bool(set(self.expected) & self.suites.keys())


def load_faults(names: Sequence[str] | None = None) -> dict[str, Fault]:
    """The faults by name. Raises ConfigError."""
    paths = {path.stem: path for path in sorted(FAULTS.glob("*.yaml"))}
    for name in names or ():
        if name not in paths:
            raise ConfigError("faults", [f"unknown fault '{name}'; {nearest(name, paths)}"])
    return {name: parse(paths[name].read_text(encoding="utf-8"), Fault, f"{name}.yaml") for name in names or paths}


def run(names: Sequence[str] | None, mode: Mode, rounds: int, progress: Progress) -> list[Caught]:
    """Evaluate each fault, and before them the stack as it is, `rounds` times. What is found is kept as it comes."""
    suites = load_suites()
    healthy = Fault(title="Nothing is wrong", catches=("-",), change={})
    todo = [(f"healthy-{number}", healthy, ()) for number in range(1, rounds + 1)]
    todo += [(name, fault, fault.catches) for name, fault in load_faults(names).items()]
    found = []
    for name, fault, expected in todo:
        progress(f"fault {name}: {fault.title}")
        found.append(_one(name, fault, expected, suites, mode, progress))
        progress(f"fault {name}: {found[-1].outcome} {', '.join(found[-1].suites)}")
        _keep(found[-1])
    return found


def _one(
    name: str, fault: Fault, expected: tuple[str, ...], suites: Sequence[Named], mode: Mode, progress: Progress
) -> Caught:  # fmt: skip
    begun = time.monotonic()
    release = evaluation.release(suites, label=name, patches=[fault.change])
    try:
        _, verdicts = evaluation.evaluate(suites, mode, release, progress)
    except RunError as problem:
        return Caught(name, fault.title, expected, f"does not start: {problem}"[:200], {}, time.monotonic() - begun)
    return Caught(name, fault.title, expected, outcome_of(verdicts), _blocking(verdicts), time.monotonic() - begun)


def _blocking(verdicts: Sequence[Verdict]) -> dict[str, tuple[str, ...]]:
    return {
        verdict.suite: tuple(finding.metric for finding in verdict.findings if finding.outcome == "block")
        for verdict in verdicts
        if verdict.outcome == "block"
    }


def _keep(caught: Caught, path: Path = CAUGHT) -> None:
    kept = {one.fault: one for one in stored(path)} | {caught.fault: caught}
    path.write_text(json.dumps([asdict(one) for one in kept.values()], indent=1) + "\n", encoding="utf-8")


def stored(path: Path = CAUGHT) -> list[Caught]:
    """What was found before."""
    if not path.exists():
        return []
    fields = json.loads(path.read_text(encoding="utf-8"))
    return [
        Caught(**one | {"expected": tuple(one["expected"]), "suites": {k: tuple(v) for k, v in one["suites"].items()}})
        for one in fields
    ]


def table(found: Sequence[Caught]) -> str:
    """Markdown: faults down, suites across, with the metrics that blocked."""
    suites = [suite.name for suite in load_suites()]
    faults = [one for one in found if one.expected]
    lines = [f"| fault | {' | '.join(suites)} |", f"|{' --- |' * (len(suites) + 1)}"]
    for one in faults:
        cells = [", ".join(one.suites.get(suite, ())) for suite in suites]
        pairs = zip(suites, cells, strict=True)
        marked = [f"**{cell}**" if cell and suite in one.expected else cell for suite, cell in pairs]
        lines.append(f"| {one.title} (`{one.fault}`) | {' | '.join(marked)} |")
    healthy = [one for one in found if not one.expected]
    blocked = sum(one.outcome == "block" for one in healthy)
    lines += ["", f"Without a fault: {len(healthy)} runs, {blocked} blocked."]
    return "\n".join(lines)
