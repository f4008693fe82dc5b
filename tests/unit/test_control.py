"""Starting and stopping through supervisord's interface."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from handmade import a_run

from lab.runtime import control


def test_what_is_still_being_stopped_is_started_when_it_has_ended(tmp_path, monkeypatch):
    """Bug: after Ctrl-C in the middle of a stop supervisord refused the start, and the service stayed stopped."""
    states, asked = iter(["STOPPING", "STOPPING", "STOPPED"]), []

    def processes():
        asked.append(next(states))
        return [{"name": "llm", "statename": asked[-1], "pid": 0, "now": 0, "start": 0, "exitstatus": 0}]

    supervisor = SimpleNamespace(
        getAllProcessInfo=processes, startProcess=lambda name, wait: asked.append(f"start {name}")
    )
    monkeypatch.setattr(control, "client", lambda run: SimpleNamespace(supervisor=supervisor))
    control.start(a_run(tmp_path / "run"), "llm")
    assert asked == ["STOPPING", "STOPPING", "STOPPED", "start llm"]


def test_an_interrupted_start_leaves_no_process_manager(tmp_path, monkeypatch):
    """Bug: Ctrl-C before it had written its process id, and the whole stack came up with nobody to stop it."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    def interrupted(run):
        raise KeyboardInterrupt

    monkeypatch.setattr(control.subprocess, "Popen", lambda *_, **__: process)
    monkeypatch.setattr(control, "write_configuration", lambda run: run.folder)
    monkeypatch.setattr(control, "client", interrupted)
    with pytest.raises(KeyboardInterrupt):
        control.start_supervisor(a_run(tmp_path / "run"), detached=True)
    assert process.returncode is not None


def test_as_many_lines_of_a_log_are_shown_as_were_asked_for(tmp_path):
    """Bug: never more than the last 20 kB, the first line of them cut in half."""
    log = tmp_path / "llm.log"
    log.write_text("".join(f"{n} {'x' * 300}\n" for n in range(500)))
    lines = control.tail(log, 400).splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(100, 500))
    assert control.tail(tmp_path / "none.log") == ""


def test_a_log_is_followed_into_the_next_file_without_losing_a_line(tmp_path, monkeypatch):
    log = tmp_path / "llm.log"
    log.write_text("1\n2\n3\n")
    monkeypatch.setattr(control.time, "sleep", lambda seconds: None)
    told = control.follow(log, 2)
    assert next(told) == "2\n3\n"
    with log.open("a") as file:
        file.write("4\n")
    assert next(told) == "4\n"
    with log.open("a") as file:
        file.write("5\n")
    log.rename(tmp_path / "llm.log.1")
    log.write_text("6\n")
    assert "".join(next(told) for _ in range(4)) == "5\n6\n"
