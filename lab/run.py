"""A run is a folder: everything about one drill, so that its grade can be repeated from the folder alone.

run.json         what was started: scenario, digests, ports, versions (written once)
events.jsonl     what happened since, append-only, on two clocks
workspace/       the configuration that the learner edits
applied/         the configuration that is to run; the events tell what each service was started with
keys/            API keys of this run's tenants, readable by the owner only
logs/ prometheus/ supervisord.conf
load/practice/   plan and rows of the practice load
checks/<n>/      one graded load: plan, rows, host CPU, anchors, measurements, verdict
"""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from lab.paths import RUNS

CURRENT = RUNS / "current"
Progress = Callable[[str], None]
"""Takes a line that says what goes on."""
SCHEMA = 1
NO_DRILL = "no drill has been started: `make drill`, or `lab list` and `lab start ID`"


class RunError(Exception):
    """A drill cannot be started, found or changed; the message says why and what to do."""


def local_url(port: int, path: str = "") -> str:
    """Of a service on this machine."""
    return f"http://127.0.0.1:{port}{path}"


@dataclass(frozen=True)
class Ports:
    """The loopback ports of a run, counted from its base."""

    base: int

    @property
    def gateway(self) -> int:
        return self.base

    @property
    def llm(self) -> int:
        return self.base + 1

    @property
    def ready(self) -> int:
        """The engine launcher's readiness and canary metrics."""
        return self.base + 2

    @property
    def prometheus(self) -> int:
        return self.base + 3

    @property
    def loadgen(self) -> int:
        return self.base + 4

    @property
    def rag(self) -> int:
        return self.base + 5

    @property
    def moderation(self) -> int:
        return self.base + 6

    @property
    def drift(self) -> int:
        return self.base + 7

    @property
    def gate(self) -> int:
        return self.base + 8

    def all(self) -> dict[str, int]:
        """Every port of a run, whatever runs in it."""
        names = ("gateway", "llm", "ready", "prometheus", "loadgen", "rag", "moderation", "drift", "gate")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class RunInfo:
    """run.json"""

    schema: int
    run_id: str
    purpose: str  # "drill", "baseline", "proof" or "evaluation"
    scenario: str  # empty for an evaluation
    digest: str  # of the scenario
    services: tuple[str, ...]  # what runs, in the order in which it is waited for
    code: str  # digest of the services' code and the lock files
    port_base: int
    socket: str  # of the process manager
    practice: str  # the practice load in words; empty without one
    time_box_seconds: float
    started: float  # unix seconds
    versions: dict[str, str]
    without_rules: tuple[str, ...] = ()  # files of dashboards/rules that this site does not have

    @property
    def ends(self) -> float:
        """When its time box is over, unix seconds."""
        return self.started + self.time_box_seconds


@dataclass(frozen=True)
class Run:
    """One run's folder."""

    folder: Path

    @cached_property
    def info(self) -> RunInfo:
        try:
            fields = json.loads((self.folder / "run.json").read_text())
            return RunInfo(**{name: tuple(it) if isinstance(it, list) else it for name, it in fields.items()})
        except (OSError, ValueError, TypeError, KeyError) as problem:
            raise RunError(f"{self.folder / 'run.json'} cannot be read: {problem}") from problem

    @property
    def ports(self) -> Ports:
        return Ports(self.info.port_base)

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def applied(self) -> Path:
        return self.folder / "applied"

    @property
    def keys_file(self) -> Path:
        """JSON {tenant: key} for the load generator."""
        return self.folder / "keys/keys.json"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def audit_file(self) -> Path:
        """The gateway's audit trail: each prompt that went to the engine."""
        return self.folder / "audit/prompts.jsonl"

    @property
    def prometheus_url(self) -> str:
        return local_url(self.ports.prometheus)

    @property
    def gateway_url(self) -> str:
        return local_url(self.ports.gateway)

    def event(self, kind: str, **data: Any) -> None:
        """Append to events.jsonl: unix and monotonic seconds, kind, data; whole lines even from several processes."""
        line = json.dumps({"schema": SCHEMA, "time": time.time(), "monotonic": time.monotonic(), "kind": kind, **data})
        with (self.folder / "events.jsonl").open("a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{_line_end(file)}{line}\n")

    def events(self, kind: str | None = None) -> Iterator[dict[str, Any]]:
        """The events so far, oldest first; of one kind or of all. Half a line of a writer that was killed is none."""
        path = self.folder / "events.jsonl"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if kind in (None, event["kind"]):
                yield event

    def new_check(self) -> Path:
        """The folder of the next graded load."""
        number = 1 + max((int(path.name) for path in (self.folder / "checks").glob("[0-9]*")), default=0)
        folder = self.folder / "checks" / str(number)
        folder.mkdir(parents=True)
        return folder

    def last_check(self) -> Path | None:
        """The newest graded load that has a verdict."""
        graded = [path.parent for path in (self.folder / "checks").glob("*/verdict.json")]
        return max(graded, key=lambda path: int(path.name), default=None)


def _line_end(file: TextIO) -> str:
    """What ends the line that a killed writer left half: nothing where there is none."""
    end = file.seek(0, os.SEEK_END)
    return "\n" if end and os.pread(file.fileno(), 1, end - 1) != b"\n" else ""


def create(info: RunInfo) -> Run:
    """The folder of a new run with its run.json."""
    folder = RUNS / info.run_id
    for name in ("workspace", "applied", "keys", "logs", "prometheus", "load/practice", "audit", "checks"):
        (folder / name).mkdir(parents=True)
    (folder / "keys").chmod(0o700)
    (folder / "run.json").write_text(json.dumps(asdict(info), indent=1) + "\n")
    return Run(folder)


def new_id() -> str:
    """A run id that sorts by time and tells nothing about the scenario."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)


def set_current(run: Run) -> None:
    """Point runs/current at `run`."""
    temporary = CURRENT.with_name(f".current-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(run.folder.name)
    os.replace(temporary, CURRENT)


def current() -> Run:
    """The run that runs/current names; raises RunError when there is none."""
    if not CURRENT.exists():
        raise RunError(NO_DRILL)
    return Run(RUNS / CURRENT.readlink())  # as it was created: RUNS itself may be a link


def last_drill() -> Run:
    """The drill that was started last, whatever was proved, measured or evaluated since; raises RunError."""
    for path in sorted(RUNS.glob("[0-9]*/run.json"), reverse=True):  # their names sort by time
        run = Run(path.parent)
        with suppress(RunError):  # a damaged one
            if run.info.purpose == "drill":
                return run
    raise RunError(NO_DRILL)


@contextmanager
def exclusive(what: str) -> Iterator[None]:
    """One command at a time that changes what runs here; raises RunError while another one is at it."""
    RUNS.mkdir(exist_ok=True)
    with (RUNS / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"cannot {what}: another lab command is changing this drill; wait for it or end it"
            ) from None
        yield
