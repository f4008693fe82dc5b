"""A run's folder: events from several processes, one command at a time, which run is the current one."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from handmade import a_run, info

import lab.run
from lab.paths import ROOT
from lab.run import Run, RunError, create, current, exclusive, last_drill, new_id, set_current


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for runs."""
    monkeypatch.setattr(lab.run, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(lab.run, "CURRENT", tmp_path / "runs/current")
    return tmp_path / "runs"


def python(program: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """A process of its own that runs `program` on the checkout's modules."""
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


# ── events ──


def test_an_event_has_both_clocks_its_kind_and_its_data(tmp_path):
    run = a_run(tmp_path / "run")
    run.event("apply", services=["llm"], diff="- a\n+ b\n")
    (event,) = run.events()
    assert (event["kind"], event["services"], event["diff"]) == ("apply", ["llm"], "- a\n+ b\n")
    assert event["schema"] == 1
    assert event["time"] > 1e9
    assert event["monotonic"] > 0


def test_events_come_back_in_order_all_or_of_one_kind(tmp_path):
    run = a_run(tmp_path / "run")
    assert list(run.events()) == []
    for number, kind in enumerate(["hint", "check", "hint"]):
        run.event(kind, number=number)
    assert [event["number"] for event in run.events()] == [0, 1, 2]
    assert [event["number"] for event in run.events("hint")] == [0, 2]


def test_events_of_several_processes_stay_whole_lines(tmp_path):
    """Bug: a long diff is written in pieces, and another process's event would land between them."""
    run = a_run(tmp_path / "run")
    writers = [
        python(
            """
            import sys
            from pathlib import Path
            from lab.run import Run
            sys.stdin.read(1)
            for number in range(25):
                Run(Path(sys.argv[1])).event("noise", writer=sys.argv[2], number=number, text=sys.argv[2] * 40_000)
            """,
            run.folder,
            name,
        )
        for name in "abc"
    ]
    for writer in writers:  # all at once, as far as that goes
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [writer.wait(timeout=30) for writer in writers] == [0, 0, 0]
    events = list(run.events("noise"))
    assert all(event["text"] == event["writer"] * 40_000 for event in events)
    for name in "abc":
        assert [event["number"] for event in events if event["writer"] == name] == list(range(25))


def test_half_a_line_of_a_writer_that_was_killed_costs_that_event_only(tmp_path):
    """Bug: kill -9 or a full disk in the middle of a line must not make a whole drill unreadable."""
    run = a_run(tmp_path / "run")
    run.event("first")
    with (run.folder / "events.jsonl").open("a") as file:
        file.write('{"schema": 1, "time": 1.0, "ki')
    run.event("second")
    assert [event["kind"] for event in run.events()] == ["first", "second"]


# ── one command at a time ──


def test_a_second_command_is_refused_at_once_and_says_what_it_could_not_do(runs):
    with (
        exclusive("start a drill"),
        pytest.raises(RunError, match=r"cannot check: another lab command is changing this drill"),
        exclusive("check"),
    ):
        pass
    with exclusive("check"):
        pass


def test_a_command_that_fails_lets_the_next_one_in(runs):
    with pytest.raises(ZeroDivisionError), exclusive("check"):
        raise ZeroDivisionError
    with exclusive("check"):
        pass


def test_a_command_that_was_killed_lets_the_next_one_in(runs):
    """Bug: a lock file that has to be removed by hand after kill -9."""
    runs.mkdir()
    holder = python(
        """
        import sys
        from pathlib import Path
        import lab.run
        lab.run.RUNS = Path(sys.argv[1])
        with lab.run.exclusive("check"):
            print("held", flush=True)
            sys.stdin.read()
        """,
        runs,
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunError), exclusive("apply"):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(timeout=10)
    with exclusive("apply"):
        pass


# ── which run ──


def test_without_a_run_the_error_says_how_to_start_one(runs):
    with pytest.raises(RunError, match=r"no drill has been started: `make drill`, or `lab list` and `lab start ID`"):
        current()


def test_the_current_run_is_the_one_that_was_set_last(runs):
    first, second = create(info("one")), create(info("two"))
    for run in (first, second):
        set_current(run)
        assert current() == run
    assert sorted(path.name for path in runs.iterdir()) == ["current", "one", "two"]


def test_a_folder_for_runs_that_is_a_link_makes_no_difference(runs, tmp_path):
    """Bug: the current run had another path than it was started with, and counted as dead while it ran."""
    (tmp_path / "elsewhere").mkdir()
    runs.symlink_to("elsewhere")
    run = create(info("one"))
    set_current(run)
    assert current() == run


def test_a_current_run_whose_folder_was_removed_is_no_run(runs):
    runs.mkdir()
    set_current(Run(runs / "gone"))
    with pytest.raises(RunError, match="no drill has been started"):
        current()


def test_the_last_drill_is_neither_what_ran_since_nor_a_damaged_one(runs):
    with pytest.raises(RunError, match="no drill has been started"):
        last_drill()
    drill = create(info("20270115-080000-aaaa"))
    proof = create(replace(info("20270115-090000-bbbb"), purpose="proof"))
    (create(info("20270115-100000-cccc")).folder / "run.json").write_text("{")
    set_current(proof)
    assert last_drill() == drill


def test_a_new_run_tells_what_it_was_started_with_and_hides_its_keys(runs):
    run = create(info("one"))
    assert Run(run.folder).info == info("one")
    assert (run.folder / "keys").stat().st_mode & 0o777 == 0o700
    assert list(run.ports.all().values()) == list(range(20000, 20009))


@pytest.mark.parametrize("content", [None, "", "{", '{"schema": 1}', '{"unknown": 1}'])
def test_a_run_that_cannot_be_read_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        Run(tmp_path).info  # noqa: B018


def test_run_ids_are_a_time_and_chance_and_nothing_else():
    """Exploit: an id that names the scenario's cause gives it away in every path and process name."""
    ids = {new_id() for _ in range(20)}
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", one) for one in ids)
    assert len(ids) > 15


# ── graded loads ──


def test_checks_are_numbered_and_the_last_graded_one_is_found_beyond_nine(tmp_path):
    """Bug: as text, 9 comes after 10."""
    run = a_run(tmp_path / "run")
    assert run.last_check() is None
    folders = [run.new_check() for _ in range(11)]
    assert [folder.name for folder in folders] == [str(number) for number in range(1, 12)]
    for folder in folders[:10]:
        (folder / "verdict.json").write_text(json.dumps({}))
    assert run.last_check() == folders[9]
