"""Runs every known fault through the gate, and tells which suite caught it: `lab eval faults`.

What is found is kept in docs/faults.json, and the table of docs/evaluation.md is made of it, between the comments
`<!-- faults -->` and `<!-- end -->`.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from pydantic import Field

from lab import evaluation
from lab.drill import Progress
from lab.paths import ROOT
from lab.run import RunError
from stack.evals import baseline
from stack.evals.errors import NoBaseline
from stack.evals.gate import Verdict
from stack.evals.report import outcome_of, shortened
from stack.evals.suite import Mode, Named, load_suites
from stack.settings import ConfigError, Settings, load, nearest

FAULTS = ROOT / "stack/evals/faults"
CAUGHT = ROOT / "docs/faults.json"
DOCUMENT = ROOT / "docs/evaluation.md"
_JUDGED = ("pass", "warn", "block")
_PLACE = re.compile(r"(<!-- faults -->\n).*?(<!-- end -->)", re.DOTALL)


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
    identity: str
    """Of the release, the suites, their sizes and baselines: what was found of the same is not asked again."""

    @property
    def right(self) -> bool:
        """Blocked by a suite that must; or not at all where nothing is wrong."""
        if not self.expected:
            return self.outcome in ("pass", "warn")
        return bool(set(self.expected) & self.suites.keys())


def load_faults(names: Sequence[str] | None = None) -> dict[str, Fault]:
    """The faults by name. Raises ConfigError."""
    paths = {path.stem: path for path in sorted(FAULTS.glob("*.yaml"))}
    for name in names or ():
        if name not in paths:
            raise ConfigError("faults", [f"unknown fault '{name}'; {nearest(name, paths)}"])
    return {name: load(paths[name], Fault) for name in names or paths}


def run(
    names: Sequence[str] | None, mode: Mode, rounds: int, progress: Progress, track: str | None = None
) -> list[Caught]:
    """Evaluate each fault with the suites that can see it, and before them the stack as it is, `rounds` times. What is
    found is kept as it comes, and what was found before of the same stack, suites and fault is not asked again."""
    suites = load_suites()
    todo = [_Release(f"healthy-{number}", "Nothing is wrong", (), {}) for number in range(1, rounds + 1)]
    todo += [_Release(name, fault.title, fault.catches, fault.change) for name, fault in load_faults(names).items()]
    known = {(one.fault, one.identity): one for one in stored() if one.outcome in _JUDGED}
    found = []
    for one in todo:
        asked = able_to_see(one.change, suites)
        release = evaluation.release(asked, label=one.name, patches=[one.change])
        identity = _identity(release, asked, mode)
        if before := known.get((one.name, identity)):
            progress(f"fault {one.name}: known from before")
            found.append(replace(before, title=one.title, expected=one.expected))
            _keep(found[-1])
            continue
        progress(f"fault {one.name}: {one.title}")
        found.append(_one(one, release, identity, asked, mode, progress, track))
        progress(f"fault {one.name}: {found[-1].outcome} {', '.join(found[-1].suites)}")
        _keep(found[-1])
    return found


def _identity(release: evaluation.Release, asked: Iterable[Named], mode: Mode) -> str:
    """Of the release, the suites that it is asked, their sizes and baselines."""
    compared = [f"{suite.hash} {baseline.read(suite, mode).made}" for suite in asked]
    return hashlib.sha256("\0".join([mode, evaluation.identity(release).digest, *compared]).encode()).hexdigest()


def stale(found: Iterable[Caught], mode: Mode) -> list[str]:
    """Those of `found` that are of other code, suites, sizes or baselines than the checkout's."""
    suites, faults, names = load_suites(), load_faults(), []
    for one in found:
        change = faults[one.fault].change if one.fault in faults else {}
        asked = able_to_see(change, suites)
        release = evaluation.release(asked, label=one.fault, patches=[change])
        try:
            same = _identity(release, asked, mode) == one.identity
        except NoBaseline:
            same = False
        if not same:
            names.append(one.fault)
    return names


def able_to_see(change: Mapping[str, Any], suites: Sequence[Named]) -> list[Named]:
    """The suites that ask a service that `change` changes; all where it changes none."""
    return [suite for suite in suites if not change or change.keys() & set(suite.suite.services)]


class _Release(NamedTuple):
    name: str
    title: str
    expected: tuple[str, ...]
    change: dict[str, Any]


def _one(
    of: _Release, release: evaluation.Release, identity: str, suites: Sequence[Named], mode: Mode, progress: Progress,
    track: str | None,
) -> Caught:  # fmt: skip
    begun = time.monotonic()
    try:
        results, verdicts = evaluation.evaluate(suites, mode, release, progress)
    except RunError as problem:
        progress(f"fault {of.name} does not start: {problem}")
        return Caught(of.name, of.title, of.expected, "does not start", {}, time.monotonic() - begun, identity)
    seconds = round(time.monotonic() - begun, 1)
    evaluation.record(results, verdicts, track, progress)
    return Caught(of.name, of.title, of.expected, outcome_of(verdicts), _blocking(verdicts), seconds, identity)


def _blocking(verdicts: Sequence[Verdict]) -> dict[str, tuple[str, ...]]:
    return {
        verdict.suite: tuple(finding.metric for finding in verdict.findings if finding.outcome == "block")
        for verdict in verdicts
        if verdict.outcome == "block"
    }


def _keep(caught: Caught) -> None:
    kept = {one.fault: one for one in stored()} | {caught.fault: caught}
    there = load_faults()
    in_order = [kept[name] for name in sorted(kept) if name in there or not kept[name].expected]
    CAUGHT.write_text(json.dumps([asdict(one) for one in in_order], indent=1) + "\n", encoding="utf-8")
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8"), in_order), encoding="utf-8")


def stored() -> list[Caught]:
    """What was found before."""
    if not CAUGHT.exists():
        return []
    fields = json.loads(CAUGHT.read_text(encoding="utf-8"))
    return [
        Caught(**one | {"expected": tuple(one["expected"]), "suites": {k: tuple(v) for k, v in one["suites"].items()}})
        for one in fields
    ]


def table(found: Sequence[Caught]) -> str:
    """Markdown: faults down, suites across, with the first metric that blocked; in bold where the suite must. What
    was not blocked says what became of it."""
    suites = [suite.name for suite in load_suites()]
    faults = [one for one in found if one.expected]
    lines = [f"| fault | {' | '.join(suites)} |", f"|{' --- |' * (len(suites) + 1)}"]
    for one in faults:
        cells = [shortened(one.suites.get(suite, ()), 1) for suite in suites]
        pairs = zip(suites, cells, strict=True)
        marked = [f"**{cell}**" if cell and suite in one.expected else cell for suite, cell in pairs]
        not_blocked = "" if one.outcome == "block" else f" **{one.outcome}**"
        lines.append(f"| {one.title} (`{one.fault}`){not_blocked} | {' | '.join(marked)} |")
    healthy = [one.outcome for one in found if not one.expected and one.outcome in _JUDGED]
    lines += ["", f"Without a fault: {len(healthy)} runs, {healthy.count('block')} blocked."]
    return "\n".join(lines)


def with_table(text: str, found: Sequence[Caught]) -> str:
    """`text` of a document with the table in its place."""
    return _PLACE.sub(lambda place: f"{place[1]}{table(found)}\n\n{place[2]}", text)
