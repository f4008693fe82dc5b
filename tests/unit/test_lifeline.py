"""No orphans: real trees of processes, Python and not, whose upper part is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from lab.paths import ROOT
from stack.lifeline import child_environment

PATIENCE_SECONDS = 15

# Each notes its pid under its name and stays. The non-Python child is forked, as supervisord and a shell's exec do it.
NOTE = """
import os, sys, time, subprocess, multiprocessing
from pathlib import Path

def note(name):
    part = Path(sys.argv[1], f".{name}")
    part.write_text(str(os.getpid()))
    part.rename(Path(sys.argv[1], name))

def stay():
    while True:
        time.sleep(60)
"""
LEAF = f"""{NOTE}
note("leaf")
stay()
"""
MIDDLE = f"""{NOTE}
subprocess.Popen([sys.executable, "-c", {LEAF!r}, sys.argv[1]])
if os.fork() == 0:
    note("sleep")
    os.execvp("sleep", ["sleep", "300"])
note("middle")
stay()
"""
TOP = f"""{NOTE}
subprocess.Popen([sys.executable, "-c", {MIDDLE!r}, sys.argv[1]])
note("top")
stay()
"""

Tree = dict[str, psutil.Process]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., Tree]]:
    """Starts a program and returns the processes that noted themselves; nothing of them is left at the end."""
    found: Tree = {}

    def start(program: str, *names: str, environment: dict[str, str] | None = None) -> Tree:
        command = [sys.executable, "-c", program, str(tmp_path)]
        subprocess.Popen(command, env=environment or child_environment(os.environ), cwd=ROOT)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not all((tmp_path / name).exists() for name in names):
            assert time.monotonic() < deadline, f"started: {os.listdir(tmp_path)}"
            time.sleep(0.02)
        found.update({name: psutil.Process(int((tmp_path / name).read_text())) for name in names})
        return found

    yield start
    for process in found.values():
        if process.is_running():
            process.kill()


def ended(processes: list[psutil.Process]) -> bool:
    """Whether all of them end; one that nobody has buried yet is over."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_kill_9_of_the_top_ends_the_whole_tree(spawn):
    tree = spawn(TOP, "top", "middle", "leaf", "sleep")
    tree["top"].kill()
    assert ended(list(tree.values()))


def test_kill_9_in_the_middle_ends_what_is_below_and_nothing_above(spawn):
    tree = spawn(TOP, "top", "middle", "leaf", "sleep")
    tree["middle"].kill()
    assert ended([tree["middle"], tree["leaf"], tree["sleep"]])
    assert tree["top"].is_running()


def test_workers_that_multiprocessing_spawns_die_too(spawn):
    """Bug: an engine's workers are started anew by `spawn`, which runs no hook of their parent's."""
    program = f"""{NOTE}
note("top")
multiprocessing.get_context("spawn").Process(target=exec, args=({LEAF!r}, {{}})).start()
stay()
"""
    tree = spawn(program, "top", "leaf")
    tree["top"].kill()
    assert ended(list(tree.values()))


@pytest.mark.parametrize("hold", ["os.register_at_fork(after_in_child=lambda: time.sleep(0.3))", "time.sleep(0.3)"])
def test_a_child_whose_parent_dies_while_it_starts_does_not_live_on(tmp_path, hold):
    """Bug: what is killed in the moment in which it starts a process leaves that process behind."""
    site = ROOT / "stack/lifeline/site/sitecustomize.py"
    (tmp_path / "sitecustomize.py").write_text(f"import os, runpy, time\n{hold}\nrunpy.run_path({str(site)!r})\n")
    child = f"{NOTE}\nnote('child')\n"
    program = f"""{NOTE}
if "fork" in sys.argv:
    if os.fork() == 0:
        note("child")
        sys.exit()
else:
    subprocess.Popen([sys.executable, "-c", {child!r}, sys.argv[1]])
os.kill(os.getpid(), 9)
"""
    how = "fork" if "fork" in hold else "start"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program, str(tmp_path), how], env=environment, timeout=PATIENCE_SECONDS)
    time.sleep(1.0)
    assert not (tmp_path / "child").exists()


def test_the_end_of_a_parent_in_good_order_ends_its_children_too(spawn):
    tree = spawn(TOP, "top", "middle", "leaf", "sleep")
    tree["top"].send_signal(signal.SIGTERM)
    assert ended(list(tree.values()))


def test_without_the_lifeline_a_child_lives_on(spawn):
    """What the tests above would show if the lifeline did nothing."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    tree = spawn(TOP, "top", "middle", "leaf", "sleep", environment=plain)
    tree["top"].kill()
    tree["top"].wait(PATIENCE_SECONDS)
    time.sleep(0.2)
    assert tree["middle"].is_running()
    assert tree["leaf"].is_running()


def test_the_module_path_of_a_child_keeps_what_was_on_it():
    site = str(ROOT / "stack/lifeline/site")
    given = {"PYTHONPATH": f"/one{os.pathsep}/two", "HOME": "/home"}
    assert child_environment(given) == {"PYTHONPATH": os.pathsep.join([site, "/one", "/two"]), "HOME": "/home"}
    assert given["PYTHONPATH"] == f"/one{os.pathsep}/two"


@pytest.mark.parametrize("path", [{}, {"PYTHONPATH": ""}])
def test_an_empty_module_path_gets_no_empty_entry(path):
    """Bug: an empty entry is the current folder, whose files would hide modules of the same name."""
    assert child_environment(path)["PYTHONPATH"] == str(ROOT / "stack/lifeline/site")


def test_a_child_of_a_child_does_not_get_it_twice():
    once = child_environment({"PYTHONPATH": "/one"})
    assert child_environment(once) == once
