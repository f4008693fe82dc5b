"""A run's processes under a real supervisord, with harmless programs in place of the services."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from lab.check import _ended
from lab.paths import ROOT
from lab.run import Run, RunError, RunInfo
from lab.runtime import control, programs

PATIENCE_SECONDS = 60
SLEEP = ["sleep", "300"]
# A service with a worker, both in Python; the worker says when it is up.
WORKER = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(300)"
SPAWN = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WORKER!r}, sys.argv[1]])"
FAMILY = [sys.executable, "-c", SPAWN]
DEAF = [sys.executable, "-c", "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); time.sleep(300)"]
FAILS = [sys.executable, "-c", "print('port 23456 is taken'); raise SystemExit(2)"]


def write_configuration(run: Run) -> Path:
    """Programs that do nothing; the listener that writes the run's events is the real one."""
    parts = [
        programs._HEAD.format(logs=run.logs, folder=run.folder, socket=run.info.socket),
        programs._program(run, "llm", [*FAMILY, str(run.folder / "worker")]),
        programs._program(run, "gateway", SLEEP),
        programs._program(run, "load", SLEEP, autostart=False),
        programs._program(run, "deaf", DEAF, autostart=False, stop_seconds=1),
        programs._program(run, "broken", FAILS, autostart=False, exitcodes="0,2"),
        programs._program(run, "absent", ["/no/such/program"], autostart=False),
        programs._LISTENER.format(
            command=programs._shell([sys.executable, "-m", "lab.runtime.watch", str(run.folder)]),
            directory=ROOT, environment=programs._environment(), log=run.logs / "watch.log",
        ),
    ]  # fmt: skip
    path = run.folder / "supervisord.conf"
    path.write_text("".join(parts))
    return path


@contextmanager
def a_run(time_box_seconds: float = 600.0) -> Iterator[Run]:
    """A run whose services are those programs; whatever a test leaves of it is killed."""
    with tempfile.TemporaryDirectory(prefix="lab-") as name, pytest.MonkeyPatch.context() as monkeypatch:
        folder = Path(name).resolve() / "run"
        (folder / "logs").mkdir(parents=True)
        # A short path: that of a socket has at most 107 characters.
        info = RunInfo(1, "run", "drill", "slow", "", (), "", 20000, f"{name}/s", "", time_box_seconds, time.time(), {})
        (folder / "run.json").write_text(json.dumps(asdict(info)))
        monkeypatch.setattr(control, "write_configuration", write_configuration)
        run = Run(folder)
        try:
            yield run
        finally:
            for process in tree(run):
                with suppress(psutil.NoSuchProcess):  # it may end by itself just now
                    process.kill()


@contextmanager
def started() -> Iterator[Run]:
    with a_run() as run:
        control.start_supervisor(run, detached=True)
        assert eventually(lambda: state(run, "llm") == state(run, "gateway") == "RUNNING")
        assert eventually((run.folder / "worker").exists)
        yield run


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """One that many tests share; each leaves it as it was."""
    with started() as run:
        yield run


def _process(run: Run, name: str) -> control.Process:
    return next(process for process in control.processes(run) if process.name == name)


def state(run: Run, name: str) -> str:
    return _process(run, name).state


def pid(run: Run, name: str) -> int:
    """Of a program that runs, when need be by and by: supervisord gives 0 for one that does not (yet, or again)."""
    assert eventually(lambda: _process(run, name).pid), f"{name} does not run"
    return _process(run, name).pid


def kill(run: Run, name: str) -> int:
    """The id of the process that was killed."""
    killed = pid(run, name)
    assert killed > 0  # 0 would be the group that these tests themselves belong to
    os.kill(killed, signal.SIGKILL)
    return killed


def tree(run: Run) -> list[psutil.Process]:
    top = control.supervisor_pid(run)
    return [] if top is None else [psutil.Process(top), *psutil.Process(top).children(recursive=True)]


def eventually(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def all_gone(processes: list[psutil.Process]) -> bool:
    """One that nobody has buried yet is over."""
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


# ── one program ──


def test_services_start_by_themselves_and_the_load_does_not(run):
    states = {process.name: process.state for process in control.processes(run)}
    assert states == {
        "llm": "RUNNING", "gateway": "RUNNING", "load": "STOPPED", "deaf": "STOPPED", "broken": "STOPPED",
        "absent": "STOPPED",
    }  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not group by session")
def test_the_whole_run_gives_way_to_programs_of_other_sessions(run):
    """Bug: `nice` had no effect between sessions, and the stack made the load generator late."""
    groups = {Path(f"/proc/{process.pid}/autogroup").read_text().split("nice")[-1].strip() for process in tree(run)}
    assert groups == {str(programs.STACK_NICENESS)}


def test_a_program_is_started_and_stopped_once_however_often_it_is_asked(run):
    control.start(run, "load")
    assert state(run, "load") == "RUNNING"
    first = pid(run, "load")
    control.start(run, "load")
    assert pid(run, "load") == first
    for _ in range(2):
        control.stop(run, "load")
        assert state(run, "load") == "STOPPED"
    assert not psutil.pid_exists(first)


def test_a_restart_is_a_new_process_and_leaves_nothing_of_the_old_one(run):
    old = psutil.Process(pid(run, "llm"))
    family = [old, *old.children(recursive=True)]
    assert len(family) == 2
    control.restart(run, "llm")
    assert state(run, "llm") == "RUNNING"
    assert pid(run, "llm") != old.pid
    assert eventually(lambda: all_gone(family))


def test_a_program_that_does_not_hear_is_killed(run):
    control.start(run, "deaf")
    deaf = psutil.Process(pid(run, "deaf"))
    control.stop(run, "deaf")
    assert all_gone([deaf])


def test_a_program_that_cannot_run_is_named_with_what_it_said(run):
    with pytest.raises(RunError, match=r"startProcess broken: (ABNORMAL_TERMINATION|SPAWN_ERROR)") as caught:
        control.start(run, "broken")
    assert str(run.logs / "broken.log") in str(caught.value)
    assert "port 23456 is taken" in str(caught.value)
    control.stop(run, "broken")


@pytest.mark.parametrize(("name", "why"), [("absent", "NO_FILE"), ("nobody", "BAD_NAME")])
def test_a_program_that_does_not_exist_is_a_clear_error(run, name, why):
    with pytest.raises(RunError, match=f"startProcess {name}: {why}"):
        control.start(run, name)


def test_a_service_that_was_killed_comes_back_and_the_run_tells_of_it(run):
    begun = time.time()
    old = kill(run, "gateway")
    assert eventually(lambda: state(run, "gateway") == "RUNNING" and pid(run, "gateway") != old)
    assert eventually(lambda: _ended(run, begun, time.time()))
    assert [one.split()[0] for one in _ended(run, begun, time.time())] == ["gateway"]
    (event,) = (e for e in run.events("process") if e["time"] >= begun and e["state"] == "exited")
    assert (event["service"], event["pid"]) == ("gateway", old)


def test_a_service_that_was_killed_is_not_told_as_one_that_ended_well(run):
    begun = time.time()
    kill(run, "gateway")
    assert eventually(lambda: _ended(run, begun, time.time()))
    assert _ended(run, begun, time.time()) == ["gateway (killed)"]


def test_a_service_that_was_killed_in_its_first_second_has_ended_too(run):
    """Bug: supervisord has another word for such an end, and it went unnoticed."""
    begun = time.time()
    first = kill(run, "gateway")
    assert eventually(lambda: pid(run, "gateway") != first and _ended(run, begun, time.time()))
    begun = time.time()
    kill(run, "gateway")
    assert eventually(lambda: _ended(run, begun, time.time()))
    assert _ended(run, begun, time.time()) == ["gateway (killed)"]
    assert eventually(lambda: state(run, "gateway") == "RUNNING")


def test_a_service_that_was_stopped_by_the_lab_did_not_end(run):
    """Exploit: stop the service that hurts. If that counted as an accident, its check could not be graded."""
    begun = time.time()
    control.restart(run, "gateway")
    assert eventually(lambda: any(e["time"] >= begun and e["state"] == "running" for e in run.events("process")))
    assert _ended(run, begun, time.time()) == []


# ── all of them ──


def test_shutting_down_leaves_no_process_and_no_socket():
    with started() as run:
        processes = tree(run)
        control.shut_down(run)
        assert all_gone(processes)
        assert not control.alive(run)
        assert not Path(run.info.socket).exists()
        control.shut_down(run)
        run.event("stopped")
        with pytest.raises(RunError, match="does not run any more: it was stopped"):
            control.processes(run)


def test_kill_9_of_supervisord_leaves_nothing_and_is_what_the_error_says():
    with started() as run:
        processes = tree(run)
        os.kill(processes[0].pid, signal.SIGKILL)
        assert eventually(lambda: all_gone(processes))
        assert not control.alive(run)
        for ask in (lambda: control.processes(run), lambda: control.stop(run, "llm")):
            with pytest.raises(RunError, match="its process manager was killed or the machine restarted"):
                ask()


def test_the_time_box_ends_the_run():
    with a_run(time_box_seconds=0.1) as run:
        control.start_supervisor(run, detached=True)
        assert eventually(lambda: (run.folder / "worker").exists() or not control.alive(run))
        processes = tree(run)
        assert eventually(lambda: not control.alive(run))
        assert eventually(lambda: all_gone(processes))
        assert [event["seconds"] for event in run.events("time_box")] == [0.1]
        assert "its time box was over" in control.gone(run)


def test_a_closed_terminal_is_no_reason_to_start_anew():
    with started() as run:
        before = pid(run, "gateway")
        os.kill(control.supervisor_pid(run), signal.SIGHUP)
        time.sleep(0.3)
        assert pid(run, "gateway") == before


def test_asking_while_everything_is_being_stopped_is_a_clear_error():
    """Bug: `lab status` beside `lab stop`, or at the end of the time box, ended in a traceback."""
    with started() as run:
        control.start(run, "deaf")
        control.client(run).supervisor.shutdown()
        with pytest.raises(RunError):
            control.processes(run)


COMMAND = """
import sys
from pathlib import Path
from lab.run import Run
from lab.runtime import control
run = Run(Path(sys.argv[1]))
control.write_configuration = lambda run: run.folder / "supervisord.conf"
control.start_supervisor(run, detached=sys.argv[2] == "detached")
print("up", flush=True)
input()
"""


@pytest.mark.parametrize("way", ["detached", "attached"])
def test_a_drill_outlives_its_command_and_a_proof_dies_with_it(way):
    with a_run() as run:
        write_configuration(run)
        command = subprocess.Popen(
            [sys.executable, "-c", COMMAND, run.folder, way], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert command.stdout.readline() == b"up\n"
        assert eventually((run.folder / "worker").exists)
        processes = tree(run)
        command.kill()
        command.wait()
        if way == "detached":
            time.sleep(0.3)
            assert all(process.is_running() for process in processes)
        else:
            assert eventually(lambda: all_gone(processes))


def test_a_process_manager_that_does_not_start_says_why():
    with a_run() as run:
        control.write_configuration = lambda run: run.folder / "no such file"
        with pytest.raises(RunError, match=r"the process manager did not start: .*no such file"):
            control.start_supervisor(run, detached=True)
        assert not control.alive(run)


def test_a_process_id_that_another_program_has_by_now_is_not_the_run():
    """Bug: after a restart of the machine the number in the file belongs to somebody else, who must not be killed."""
    with a_run() as run:
        (run.folder / "supervisord.pid").write_text(str(os.getpid()))
        assert control.supervisor_pid(run) is None
        control.shut_down(run)
