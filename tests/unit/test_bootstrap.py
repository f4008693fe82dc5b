"""The set-up: when a step is done, what an interrupt leaves, what is said when something is missing."""

import fcntl
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from lab import bootstrap
from lab.provision import checks, debian, main, steps, work
from lab.provision.checkout import Checkout, exclusive
from lab.provision.display import Display
from lab.provision.schedule import make_all
from lab.provision.step import Step
from lab.provision.work import Children, StepFailed, Work

PATIENCE_SECONDS = 30  # until a wait counts as forever


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    (tmp_path / "things.lock").write_text("one==1\n")
    return Checkout(tmp_path)


@pytest.fixture
def bench(checkout: Checkout) -> Work:
    """A place to call build functions by hand."""
    checkout.scratch.mkdir(parents=True)
    return Work(checkout, checkout.cache / "log", Children(lock=_lock(checkout)))


def _lock(checkout: Checkout) -> int:
    return os.open(checkout.cache / "bootstrap.lock", os.O_RDWR | os.O_CREAT)


def _step(name: str = "things", build: Callable[[Work], object] | None = None, **settings: object) -> Step:
    def fill(work: Work) -> None:
        (work.checkout.cache / name).mkdir()
        (work.checkout.cache / name / "made").touch()

    step = Step(name, "", build or fill, f".cache/{name}", ("made",), gigabytes=0.0, inputs=("things.lock",))
    return replace(step, **settings)


def _make(checkout: Checkout, *wanted: Step) -> dict[str, str]:
    checkout.cache.mkdir(exist_ok=True)
    return make_all(wanted, checkout, Children(_lock(checkout)), Display(wanted, io.StringIO()))


def _program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def _wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_a_step_is_done_once_it_was_made(checkout):
    step = _step()
    assert not step.is_done(checkout)
    assert _make(checkout, step) == {}
    assert step.is_done(checkout)


def test_a_step_is_stale_when_its_lock_file_changed(checkout):
    _make(checkout, _step())
    (checkout.root / "things.lock").write_text("one==2\n")
    assert not _step().is_done(checkout)


def test_a_step_is_stale_when_its_version_was_raised(checkout):
    _make(checkout, _step())
    assert not _step(version=2).is_done(checkout)


def test_a_step_is_stale_when_what_it_made_has_vanished(checkout):
    _make(checkout, _step())
    (checkout.cache / "things/made").unlink()
    assert not _step().is_done(checkout)


def test_a_step_is_stale_when_its_interpreter_has_vanished(checkout):
    def build(work: Work) -> None:
        (checkout.cache / "things").mkdir()
        (checkout.cache / "things/made").symlink_to(checkout.root / "python")

    (checkout.root / "python").touch()
    _make(checkout, _step(build=build))
    assert _step().is_done(checkout)
    (checkout.root / "python").unlink()
    assert not _step().is_done(checkout)


def test_a_checkout_that_was_moved_is_set_up_again(tmp_path):
    (tmp_path / "before").mkdir()
    _make(Checkout(tmp_path / "before"), _step())
    (tmp_path / "before").rename(tmp_path / "after")
    assert not _step().is_done(Checkout(tmp_path / "after"))


def test_only_what_an_install_reads_of_pyproject_makes_the_environment_stale(checkout):
    pyproject = checkout.root / "pyproject.toml"
    pyproject.write_text('[project.scripts]\nlab = "a:b"\n[tool.ruff]\nline-length = 100\n')
    step = _step(inputs=("pyproject.toml",))
    _make(checkout, step)
    pyproject.write_text('[project.scripts]\nlab = "a:b"\n[tool.ruff]\nline-length = 110\n')
    assert step.is_done(checkout)
    pyproject.write_text('[project.scripts]\nlab = "a:c"\n')
    assert not step.is_done(checkout)


def test_a_build_without_its_product_is_no_success(checkout):
    failures = _make(checkout, _step(build=lambda work: (work.checkout.cache / "things").mkdir()))
    assert "made is missing after the build" in failures["things"]
    assert not _step().is_done(checkout)


SLEEPS = ["sh", "-c", "sleep 600 & echo $$ > pid; wait"]  # a command with a child of its own


def _group_of_sleeper(checkout: Checkout) -> int:
    pid = checkout.root / "pid"
    _wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))
    return os.getpgid(int(pid.read_text()))


def test_an_interrupted_step_is_made_again_from_nothing(checkout):
    def interrupted(work: Work) -> None:
        (checkout.cache / "things").mkdir()
        (checkout.cache / "things/made").touch()
        raise KeyboardInterrupt

    _make(checkout, _step())
    (checkout.root / "things.lock").write_text("one==2\n")
    with pytest.raises(KeyboardInterrupt):
        _make(checkout, _step(build=interrupted))
    assert not _step().is_done(checkout)
    assert _make(checkout, _step()) == {}  # its build makes the folder, so it fails on a folder that is there
    assert _step().is_done(checkout)
    assert not checkout.trash.exists()


def test_an_interrupt_kills_the_commands_of_other_steps(checkout):
    groups: list[int] = []

    def sleeps(work: Work) -> None:
        work.run(*SLEEPS)

    def is_interrupted(work: Work) -> None:
        groups.append(_group_of_sleeper(checkout))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _make(checkout, _step("a", sleeps), _step("b", is_interrupted))
    _wait_until(lambda: not _alive(groups[0]))


def _set_up_that_hangs(checkout: Checkout) -> tuple[subprocess.Popen[bytes], int]:
    """A set-up in a process of its own, in the middle of a command, and the process group of that command."""
    script = f"""
import os
from pathlib import Path
from lab.provision.checkout import Checkout, exclusive
from lab.provision.work import Children
checkout = Checkout(Path({str(checkout.root)!r}))
with exclusive(checkout, print) as lock:
    Children(lock).call({SLEEPS}, checkout.root, dict(os.environ), checkout.root / "log")
"""
    set_up = subprocess.Popen([sys.executable, "-c", script], cwd=main.ROOT)
    return set_up, _group_of_sleeper(checkout)


def test_no_command_outlives_a_set_up_that_was_killed(checkout):
    set_up, group = _set_up_that_hangs(checkout)
    set_up.kill()
    set_up.wait()
    _wait_until(lambda: not _alive(group))


def test_the_lock_of_a_killed_set_up_lasts_as_long_as_its_last_command(checkout):
    set_up, group = _set_up_that_hangs(checkout)
    os.kill(group, signal.SIGSTOP)  # the leash cannot end its command for now
    set_up.kill()
    set_up.wait()
    try:
        with (checkout.cache / "bootstrap.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(group, signal.SIGCONT)
    with exclusive(checkout, print):
        _wait_until(lambda: not _alive(group))


def _alive(group: int) -> bool:
    """Whether any process of a process group runs; one that is dead and not yet reaped does not."""
    return any(_runs_in(process, group) for process in psutil.process_iter())


def _runs_in(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def test_a_second_set_up_says_whom_it_waits_for_and_waits(checkout):
    said: list[str] = []
    spoke, entered = threading.Event(), threading.Event()

    def second() -> None:
        with exclusive(checkout, lambda text: (said.append(text), spoke.set())):
            entered.set()

    waiter = threading.Thread(target=second)
    with exclusive(checkout, print):
        waiter.start()
        assert spoke.wait(PATIENCE_SECONDS)
        assert not entered.is_set()
        assert f"(process {os.getpid()})" in said[0]
    assert entered.wait(PATIENCE_SECONDS)
    waiter.join()


def test_a_step_after_a_failed_one_is_skipped_and_the_others_go_on(checkout):
    def fails(work: Work) -> None:
        work.run("sh", "-c", "echo it broke; exit 3")

    failures = _make(checkout, _step("a", fails), _step("b", after=("a",)), _step("c"))
    assert failures.keys() == {"a"}
    assert "it broke" in failures["a"]
    assert ".cache/logs/bootstrap-a.log" in failures["a"]
    assert not _step("b").is_done(checkout)
    assert _step("c").is_done(checkout)


def test_a_step_starts_after_those_that_it_needs(checkout):
    def needs_a(work: Work) -> None:
        (work.checkout.cache / "a/made").rename(work.checkout.cache / "a/used")
        (work.checkout.cache / "b").mkdir()
        (work.checkout.cache / "b/made").touch()

    assert _make(checkout, _step("b", needs_a, after=("a",)), _step("a")) == {}


def test_naming_a_step_brings_the_steps_that_it_needs():
    assert [step.name for step in steps.with_needs(["data", "model"])] == ["engine", "lab", "data", "model"]


def test_the_inputs_of_every_step_are_in_the_checkout():
    for step in steps.STEPS:
        assert [name for name in step.inputs if not (main.ROOT / name).is_file()] == []


def test_a_set_up_that_is_up_to_date_says_so_in_one_line(checkout, capsys):
    _make(checkout, _step())
    capsys.readouterr()
    assert main.set_up([_step()], checkout) == 0
    assert capsys.readouterr().out == "The set-up is up to date.\n"


@pytest.mark.parametrize(("optional", "status"), [(True, 0), (False, 1)])
def test_the_failure_of_an_optional_step_is_a_warning(checkout, capsys, optional, status):
    def fails(work: Work) -> None:
        raise StepFailed("no such package")

    assert main.set_up([_step(build=fails, optional=optional)], checkout) == status
    assert "no such package" in capsys.readouterr().out
    assert not _step().is_done(checkout)  # so that the next run tries again


def test_another_python_is_told_which_one_to_install():
    message = bootstrap.wrong_python_message((3, 9, 2))
    assert "This is Python 3.9" in message
    assert "built for Python 3.11" in message
    assert "apt install python3" in message


def test_a_name_on_path_that_is_not_that_python_does_not_count(tmp_path):
    _program(tmp_path, "python3.11", "echo the version is not active >&2; exit 127")
    assert bootstrap.find_python((3, 11), which=lambda name: str(tmp_path / name)) is None
    assert bootstrap.find_python((3, 11), which=lambda name: None) is None
    running = sys.version_info[:2]
    assert bootstrap.find_python(running, which=lambda name: sys.executable) == sys.executable


def test_a_python_without_ensurepip_is_told_the_package():
    with pytest.raises(checks.Unfit, match=r"lacks the module ensurepip.*\n.*apt install python3\.\d+-venv"):
        checks.check_venv(find=lambda module: None if module == "ensurepip" else module)


def test_a_machine_of_another_kind_is_refused():
    checks.check_platform("Linux", "x86_64")
    with pytest.raises(checks.Unfit, match="this is Darwin on arm64"):
        checks.check_platform("Darwin", "arm64")


def test_a_disk_too_small_is_refused_before_anything_is_touched(checkout):
    checkout.cache.mkdir()
    with pytest.raises(checks.Unfit, match=r"needs about 9000000000\.0 GB in .*GB are free"):
        main.set_up([_step(gigabytes=9e9)], checkout)
    assert [path.name for path in checkout.cache.iterdir()] == ["bootstrap.lock"]


def test_a_missing_cpu_build_of_torch_is_found_at_once_and_explained(bench):
    pip = ("sh", "-c", "echo 'Available versions: 2.14.0, 2.13.0'", "pip")
    with pytest.raises(StepFailed, match=r"no torch 2\.13\.0\+cpu(.|\n)*PIP_EXTRA_INDEX_URL(.|\n)*PIP_FIND_LINKS"):
        steps.check_torch(bench, pip, "one==1\ntorch==2.13.0+cpu \\\n    --hash=sha256:00\n")
    steps.check_torch(bench, pip, "one==1\ntorch==2.13.0 \\\n    --hash=sha256:00\n")


def test_a_failure_of_the_network_is_named():
    assert "network" in work.known_cause("Retrying after connection broken by 'NewConnectionError(…)'")
    assert "network" in work.known_cause("E: Failed to fetch …  Temporary failure resolving 'somewhere'")
    assert work.known_cause("ERROR: Hash mismatch") == ""


def test_the_environment_of_the_steps_is_offline_and_not_bent(checkout):
    environment = work.child_environment({"PYTHONPATH": "/elsewhere", "PIP_FIND_LINKS": "/wheels"}, checkout)
    assert "PYTHONPATH" not in environment
    assert environment["PIP_FIND_LINKS"] == "/wheels"  # pip's own settings are the user's
    assert environment["HF_HUB_OFFLINE"] == environment["TRANSFORMERS_OFFLINE"] == "1"


def test_programs_on_path_are_linked_when_they_are_new_enough(bench, tmp_path, monkeypatch):
    for tool in steps.PROMETHEUS_TOOLS:
        _program(tmp_path / "bin", tool, f"echo '{tool}, version 2.53.1 (branch: x)'")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    steps.build_prometheus(bench)
    assert (bench.checkout.cache / "prometheus/promtool").resolve() == tmp_path / "bin/promtool"


def test_programs_on_path_that_are_too_old_do_not_count(bench, tmp_path, monkeypatch):
    for tool in steps.PROMETHEUS_TOOLS:
        _program(tmp_path / "bin", tool, f"echo '{tool}, version 2.31.0 (branch: x)'")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(StepFailed, match=r"2\.42 or newer, are not both on PATH"):
        steps.build_prometheus(bench)


def test_without_package_lists_a_private_copy_of_them_is_made(bench, tmp_path, monkeypatch):
    _program(tmp_path / "bin", "apt-get", 'case "$*" in download*) exit 100;; *download*) touch it.deb;; esac')
    _program(tmp_path / "bin", "dpkg-deb", 'mkdir -p "$3/usr/bin"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    debian.unpack(bench, "prometheus", tmp_path / "unpacked")
    assert (tmp_path / "unpacked/usr/bin").is_dir()
    private, log = bench.checkout.scratch / "apt", bench.log.read_text()
    assert f"Dir::State={private}/state -o Dir::Cache={private}/cache -o APT::Sandbox::User=root update" in log


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _show(out: io.StringIO, log: Path) -> str:
    now = iter(range(0, 1000, 10))
    display = Display([_step("a"), _step("b")], out, clock=lambda: float(next(now)))
    log.write_text("Collecting one\nCollecting two\n")
    display.start("a", log)
    display.refresh()
    display.end("a", "failed")
    display.skip("b")
    display.refresh()
    return out.getvalue()


def test_off_a_terminal_each_event_is_a_line(tmp_path):
    assert _show(io.StringIO(), tmp_path / "log") == "a: started\na: failed after 10 s\nb: skipped\n"


def test_on_a_terminal_the_table_is_rewritten_in_place(tmp_path):
    first, *_, last = _show(_Terminal(), tmp_path / "log").split("\x1b[2F")
    assert "Collecting two" in first
    assert "waiting" in first
    assert [line.split()[-1] for line in last.splitlines()] == ["failed", "skipped"]
