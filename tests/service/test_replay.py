"""Recordings made by hand, replayed in a real Prometheus that must leave nothing behind."""

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from recordings import a_recording, evaluate

from lab import paths
from lab.paths import ROOT, ToolMissing, tool
from lab.prometheus import PrometheusUnreachable
from lab.promql import QueryError
from lab.recording import Recording, RecordingError, save
from lab.replay import Replay


def values(replay: Replay, expression: str) -> list[float]:
    return [sample.value for sample in replay.query("run", expression)]


def test_three_recordings_in_one_replay_do_not_see_each_other(tmp_path: Path) -> None:
    recordings = {}
    for size, name in enumerate(("broken", "healthy", "decoy"), start=1):
        recordings[name] = tmp_path / name
        save(a_recording({"vllm:a": lambda _, size=size: size}, seconds=20 * size), recordings[name])
    found = evaluate(recordings, "vllm:a + count_over_time(vllm:a[15m]) * 100")
    assert {name: samples[0].value for name, samples in found.items()} == {
        "broken": 2001,  # value 1 and 20 samples
        "healthy": 4002,
        "decoy": 6003,
    }


@pytest.mark.parametrize(
    "expression", ["a offset 30m", "a @ 0", "max_over_time(a[17m])", "sum_over_time(a[9m:1s])+rate(a[9m])"]
)
def test_a_query_that_could_reach_another_recording_is_refused(expression: str) -> None:
    """Exploit: look from every recording into the one that has the value wanted."""
    with Replay({"run": a_recording({"a": float})}) as replay, pytest.raises(QueryError):
        replay.query("run", expression)


def test_counters_start_at_zero_with_the_recording() -> None:
    """Exploit: a plain counter tells how long its process had been up, which differs by run and not by fault."""
    metrics = {"a_total": lambda s: 1e6 + 2 * s, "a_bucket": lambda s: 7e6 + s, "a_gauge": lambda _: 1e6}
    with Replay({"run": a_recording(metrics)}) as replay:
        assert values(replay, "a_total") == [2 * 59]
        assert values(replay, "a_bucket") == [59]
        assert values(replay, "a_gauge") == [1e6]
        assert values(replay, "rate(a_total[30s])") == pytest.approx([2])


def test_a_counter_goes_on_counting_when_its_process_starts_again() -> None:
    metrics = {"a_total": lambda second: 100 + second if second < 30 else second - 30}
    with Replay({"run": a_recording(metrics)}) as replay:
        assert values(replay, "a_total") == [29 + 29]


def test_a_counter_that_is_born_in_the_recording_keeps_its_first_event() -> None:
    old, new = a_recording({"old_total": lambda second: second}), a_recording({"new_total": lambda _: 1})
    (labels, points), *_ = new.series
    both = Recording(old.start_ms, old.end_ms, (*old.series, (labels, points[40:])))
    with Replay({"run": both}) as replay:
        assert values(replay, "new_total") == [1]


def test_a_series_that_vanished_is_gone_at_the_end() -> None:
    """An engine that died in the middle of a recording must not look alive at its end."""
    one = a_recording({"a": lambda _: 1})
    (labels, points), *_ = one.series
    with Replay({"run": Recording(one.start_ms, one.end_ms, ((labels, points[:30]),))}) as replay:
        assert values(replay, "a") == []
        assert values(replay, "max_over_time(a[60s])") == [1]


def test_values_that_are_no_numbers_survive() -> None:
    metrics = {"a": lambda _: math.inf, "b": lambda _: -math.inf, "c": lambda _: math.nan, "d": lambda _: 1e-300}
    with Replay({"run": a_recording(metrics)}) as replay:
        assert values(replay, "a") == [math.inf]
        assert values(replay, "b") == [-math.inf]
        assert values(replay, "d") == [1e-300]
        assert math.isnan(values(replay, "c")[0])


def test_a_query_for_nothing_that_was_recorded_gives_nothing(tmp_path: Path) -> None:
    save(a_recording({"a": float}), tmp_path / "run.gz")
    assert evaluate({"run": tmp_path / "run.gz"}, "b") == {"run": []}


def test_a_query_that_takes_too_long_is_an_error_of_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exploit: a query that brings the grader down would turn a bad answer into no grade."""
    monkeypatch.setattr("lab.replay._QUERY_SECONDS", 0.2)
    heavy = "sum_over_time(sum_over_time(a[8m:1ms])[8m:1ms])"
    with Replay({"run": a_recording({"a": float})}) as replay, pytest.raises(QueryError, match="takes more than"):
        replay.query("run", heavy)


def test_a_query_that_needs_too_much_memory_is_an_error_of_the_query() -> None:
    many = a_recording({f'a{{n="{number}"}}': float for number in range(100)})
    with Replay({"run": many}) as replay, pytest.raises(QueryError, match="too many samples"):
        replay.query("run", "sum_over_time(a[60s:1ms])")


def test_a_recording_that_would_not_fit_beside_the_others_is_refused() -> None:
    with pytest.raises(RecordingError, match="longer than the 600 s"):
        Replay({"run": a_recording({"a": float}, seconds=601)})


# ── nothing is left behind ──


def leftovers() -> list[str]:
    children = [process.name() for process in psutil.Process().children(recursive=True)]
    folders = [path.name for path in Path(tempfile.gettempdir()).glob("replay-*")]
    return [name for name in children if "prom" in name] + folders


def test_a_replay_leaves_no_process_and_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = leftovers()
    with Replay({"run": a_recording({"a": float})}):
        assert len(leftovers()) == len(before) + 2
    assert leftovers() == before
    with pytest.raises(ZeroDivisionError), Replay({"run": a_recording({"a": float})}):
        raise ZeroDivisionError
    assert leftovers() == before


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("lab.replay._LOOKBACK", "never")
    before = leftovers()
    with (
        pytest.raises(PrometheusUnreachable, match="parsing commandline arguments"),
        Replay({"run": a_recording({"a": float})}),
    ):
        pass
    assert leftovers() == before


def test_a_replay_dies_with_its_process_even_by_kill_9(tmp_path: Path) -> None:
    script = """if True:
        import time
        from recordings import a_recording
        from lab.replay import Replay
        with Replay({"run": a_recording({"a": float})}) as replay:
            print(replay._server.pid, flush=True)
            time.sleep(60)
    """
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "TMPDIR": str(tmp_path)}
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout
    server = psutil.Process(int(child.stdout.readline()))
    assert server.name() == "prometheus"
    child.send_signal(signal.SIGKILL)
    child.wait()
    end = time.monotonic() + 5
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        time.sleep(0.01)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


def test_a_missing_program_is_an_error_that_names_the_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="make drill"), Replay({"run": a_recording({"a": float})}):
        pass


@pytest.mark.parametrize("place", ["prometheus/promtool", "prometheus/usr/bin/promtool"])
def test_a_program_that_was_set_up_is_found_before_one_on_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    program = tmp_path / place
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tool("promtool").parent))
    assert tool("promtool") == program
