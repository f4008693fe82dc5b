"""Talking to a run's supervisord: what runs, start, stop, restart; the whole tree's beginning and end."""

import http.client
import os
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from supervisor.xmlrpc import SupervisorTransport

from lab.paths import ROOT
from lab.run import Run, RunError
from lab.runtime.programs import write_configuration
from stack.lifeline import child_environment

UNREACHABLE = (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError)
STOP_SECONDS = 30
KILLED_STATUS = {-1, 137}  # supervisor's word for "ended by a signal", and a launcher's for SIGKILL of its child
OVER = frozenset({"exited", "backoff", "fatal"})  # in process events; backoff: it ended in its first second


@dataclass(frozen=True)
class Process:
    """One program of a run as supervisord sees it."""

    name: str
    state: str  # RUNNING, STARTING, STOPPED, EXITED, FATAL, BACKOFF …
    pid: int
    uptime_seconds: float
    exit_status: int


def client(run: Run) -> xmlrpc.client.ServerProxy:
    """supervisord's XML-RPC interface (https://supervisord.org/api.html) over the run's Unix socket."""
    transport = SupervisorTransport(None, None, f"unix://{run.info.socket}")
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport, allow_none=True)


def supervisor_pid(run: Run) -> int | None:
    """The process id of the run's supervisord while it lives, else None."""
    try:
        pid = int((run.folder / "supervisord.pid").read_text())
        command = psutil.Process(pid).cmdline()
    except (OSError, ValueError, psutil.Error):
        return None
    return pid if str(run.folder / "supervisord.conf") in command else None


def roots(run: Run) -> list[int]:
    """What `lab.host.HostMeter` counts as the run's own: its supervisord, while it lives, with all below."""
    pid = supervisor_pid(run)
    return [] if pid is None else [pid]


def alive(run: Run) -> bool:
    return supervisor_pid(run) is not None


def start_supervisor(run: Run, detached: bool) -> None:
    """supervisord in a session of its own; returns when it answers. Raises RunError.

    A detached one lives on when this process ends; the other one dies with it.
    """
    configuration = write_configuration(run)
    with (run.logs / "supervise.out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "lab.runtime.supervise", "-c", str(configuration)],
            cwd=ROOT,
            env=dict(os.environ) if detached else child_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    answers = False
    try:
        answers = _answers(run, process, seconds=15)
    finally:
        if not answers:  # also after Ctrl-C: before its pid file is written nobody else could find it
            process.kill()
            process.wait()
    if not answers:
        output = (run.logs / "supervise.out").read_text(errors="replace").strip()
        raise RunError(f"the process manager did not start: {output[-500:] or 'no output'} (logs in {run.logs})")


def _answers(run: Run, process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Waits until the supervisord of `run` answers; whether it does before it ends and within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client(run).supervisor.getState()
            return True
        except UNREACHABLE:
            time.sleep(0.05)
    return False


def processes(run: Run) -> list[Process]:
    """The programs of the run; raises RunError when its supervisord is gone."""
    try:
        found = client(run).supervisor.getAllProcessInfo()
    except (*UNREACHABLE, xmlrpc.client.Fault):  # a fault: it is shutting down
        raise RunError(gone(run)) from None
    return [
        Process(i["name"], i["statename"], i["pid"], max(0, i["now"] - i["start"]), i["exitstatus"])
        for i in found
        if i["name"] != "watch"
    ]


def running(run: Run) -> set[str]:
    """The names of the programs that run; raises RunError when the run's supervisord is gone."""
    return {process.name for process in processes(run) if process.state == "RUNNING"}


def gone(run: Run) -> str:
    """Why nothing of `run` runs, in one sentence."""
    kinds = [event["kind"] for event in run.events() if event["kind"] in ("stopped", "time_box")]
    if not kinds:
        why = "its process manager was killed or the machine restarted, and everything ended with it"
    else:
        why = {"stopped": "it was stopped", "time_box": "its time box was over"}[kinds[-1]]
    return f"drill {run.info.run_id} does not run any more: {why}. Start it again with `lab start {run.info.scenario}`"


def start(run: Run, name: str) -> None:
    """Start one program, after its end when it is just being stopped; nothing happens when it runs already."""
    while any((process.name, process.state) == (name, "STOPPING") for process in processes(run)):
        time.sleep(0.05)
    _call(run, "startProcess", name, ignore="ALREADY_STARTED")


def stop(run: Run, name: str) -> None:
    """Stop one program and wait for its end."""
    _call(run, "stopProcess", name, ignore="NOT_RUNNING")


def restart(run: Run, name: str) -> None:
    stop(run, name)
    start(run, name)


def _call(run: Run, method: str, name: str, ignore: str) -> None:
    try:
        getattr(client(run).supervisor, method)(name, True)
    except xmlrpc.client.Fault as fault:
        if not fault.faultString.startswith(ignore):
            log = run.logs / f"{name}.log"
            raise RunError(f"{method} {name}: {fault.faultString}; see {log}\n{tail(log)}") from None
    except UNREACHABLE:
        raise RunError(gone(run)) from None


def shut_down(run: Run, at_once: bool = False) -> None:
    """End the whole tree: asked first, unless `at_once`, then killed by its ids. Nothing is left when this returns."""
    pid = supervisor_pid(run)
    if pid is not None:
        tree = left = _tree(pid)
        if not at_once:
            try:
                client(run).supervisor.shutdown()
            except (*UNREACHABLE, xmlrpc.client.Fault):
                with suppress(ProcessLookupError):  # its time box is over just now
                    os.kill(pid, signal.SIGTERM)
            _, left = psutil.wait_procs(tree, timeout=STOP_SECONDS)
        for process in left:
            with suppress(psutil.NoSuchProcess):  # it ended with its parent
                process.kill()
        psutil.wait_procs(left, timeout=5)
    Path(run.info.socket).unlink(missing_ok=True)
    (run.folder / "supervisord.pid").unlink(missing_ok=True)


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def tail(log: Path, lines: int = 12) -> str:
    """The last lines of a log file; empty where there is none."""
    try:
        with log.open("rb") as file:
            return _text(deque(file, maxlen=lines)).rstrip("\n")
    except OSError:
        return ""


def follow(log: Path, lines: int) -> Iterator[str]:
    """The last lines of a log file and then, without end, what is added to it; twice a second. Raises OSError."""
    file = log.open("rb")
    try:
        yield _text(deque(file, maxlen=lines))
        while True:
            yield _text(file)
            if log.exists() and not os.path.samestat(os.fstat(file.fileno()), log.stat()):  # a new one was begun
                yield _text(file)
                file.close()
                file = log.open("rb")
            time.sleep(0.5)
    finally:
        file.close()


def _text(lines: Iterable[bytes]) -> str:
    return b"".join(lines).decode("utf-8", "replace")
