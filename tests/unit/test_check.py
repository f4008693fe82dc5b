"""The graded load: what is done before it is sent, and whether what it was sent to may be graded."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from handmade import a_run

from lab import check, workspace
from lab.code import code_digest
from lab.grade import Grade
from lab.run import Run
from lab.runtime import launch
from lab.scenario import find


def test_what_must_forget_is_restarted_and_what_was_stopped_stays_so(monkeypatch):
    """Bug: an alarm from the check before was graded. And what a learner stopped must not come back."""
    done = []
    states = {"drift": "RUNNING", "gate": "STOPPED", "rag": "RUNNING"}
    running = [SimpleNamespace(name=name, state=state) for name, state in states.items()]
    monkeypatch.setattr(check.control, "processes", lambda run: running)
    monkeypatch.setattr(check.control, "stop", lambda run, name: done.append(f"stop {name}"))
    monkeypatch.setattr(check.state, "forget", lambda run, name: done.append(f"forget {name}"))
    monkeypatch.setattr(check.control, "start", lambda run, name: done.append(f"start {name}"))
    monkeypatch.setattr(check, "wait_ready", lambda run, progress, names: done.append(list(names)))
    check._restart_fresh(None, ("drift", "gate"), print)
    assert done == ["stop drift", "forget drift", "start drift", ["drift"]]


@pytest.mark.parametrize("at", [(check.control, "stop"), (check.state, "forget")])
def test_what_must_forget_runs_again_when_a_check_is_interrupted_before_it(monkeypatch, at):
    """Bug: it stayed stopped, the next check took that for wanted, and the right mend failed."""

    def ctrl_c(*_):
        raise KeyboardInterrupt

    started = []
    monkeypatch.setattr(check.control, "running", lambda run: {"drift", "gate"})
    monkeypatch.setattr(check.control, "stop", lambda run, name: None)
    monkeypatch.setattr(check.control, "start", lambda run, name: started.append(name))
    monkeypatch.setattr(*at, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        check._restart_fresh(None, ("drift", "gate"), print)
    assert started == ["drift"]


def test_a_queue_that_practice_has_filled_is_empty_for_the_graded_load(tmp_path):
    """Bug: after eleven minutes of practice there was no room in the queue for people, and the right mend failed."""
    run = a_run(tmp_path / "run")
    for name in ("moderation/review.sqlite", "traffic/reference.npz"):
        (run.folder / name).parent.mkdir()
        (run.folder / name).write_text("x")
    for service in ("moderation", "drift"):
        check.state.forget(run, service)
    assert list((run.folder / "moderation").iterdir()) == []
    assert (run.folder / "traffic/reference.npz").exists()


def test_what_warms_the_stack_up_is_other_questions_and_not_the_graded_load(tmp_path, monkeypatch):
    """Bug: with an empty prefix cache the first prompts took longer than allowed, and a right mend failed."""
    run, sent = a_run(tmp_path / "run"), []
    loads = find("answers-start-late").public.load
    monkeypatch.setattr(check, "plan_for", lambda load, rate, seconds, split: (load.user, rate, seconds, split))
    monkeypatch.setattr(check, "send", lambda run, plan, folder, tag: sent.append((plan, folder.name)))
    check._warm_up(run, loads, 2.5, print)
    assert sent == [(("reading_desk", 2.5, loads.warm_up_seconds, "calibration"), "1")]
    assert loads.grading.split != "calibration"
    check._warm_up(run, loads.model_copy(update={"warm_up_seconds": 0}), 2.5, print)
    assert len(sent) == 1


class Sent(Exception):
    """Ends a check where its load would be sent."""


def test_each_check_of_a_drill_draws_other_requests(tmp_path, monkeypatch):
    """Bug: a second check found the first one's prompts in the engine's prefix cache, and was answered faster."""
    run, scenario, baseline = a_run(tmp_path / "run"), find("search-turns-vague"), SimpleNamespace(capacity=10.0)
    drawn = []

    def plan_for(load, rate):
        drawn.append(load.seed)
        raise Sent

    monkeypatch.setattr(check, "plan_for", plan_for)
    for _ in range(2):
        with pytest.raises(Sent):
            check.check(run, scenario, baseline, print)
    assert drawn[0] != drawn[1]


# ── what was sent to is what was applied ──

SCENARIO = find("answers-start-late")


@pytest.fixture
def running() -> set[str]:
    """The services that run."""
    return set(SCENARIO.public.services)


@pytest.fixture
def run(tmp_path: Path, running: set[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A drill that runs as it was applied; a check of it measures nothing."""
    services = SCENARIO.public.services
    run = a_run(tmp_path / "run", digest=SCENARIO.digest, services=services, code=code_digest(services))
    workspace.write(workspace.placed(workspace.broken(SCENARIO), run.ports), run.applied)
    for name in services:
        launch.note(run, name)
    for name in ("stop", "start"):
        monkeypatch.setattr(check.control, name, lambda *_: None)
    monkeypatch.setattr(check.control, "running", lambda run: running)
    for name in ("_warm_up", "_restart_fresh", "_wait_idle", "clear", "send", "wait_scraped", "metric_figures",
                 "prompt_figures"):  # fmt: skip
        monkeypatch.setattr(check, name, lambda *_: None)
    plan = SimpleNamespace(header=SimpleNamespace(rate=1.0, requests=1, seconds=1.0))
    monkeypatch.setattr(check, "plan_for", lambda *_: plan)
    monkeypatch.setattr(check, "measure_anchor", lambda: 100.0)
    meter = SimpleNamespace(start=lambda: meter, stop=lambda: SimpleNamespace(as_dict=dict))
    monkeypatch.setattr(check, "HostMeter", lambda roots: meter)
    monkeypatch.setattr(check, "grade", lambda folder, public: Grade("fail", (), (), {}, {}))
    return run


def found_changed(run: Run, stopped: tuple[str, ...] = ()) -> str | None:
    """What the grade of a check is told, which is not graded then."""
    baseline = SimpleNamespace(capacity=10.0, anchor=100.0, as_dict=dict)
    folder, _ = check.check(run, SCENARIO, baseline, print, stopped=stopped)
    return json.loads((folder / "measurements.json").read_text())["conditions"]["changed"]


def during_the_load(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    monkeypatch.setattr(check, "send", lambda *_: happens())


def test_what_runs_as_it_was_applied_is_graded(run):
    assert found_changed(run) is None


def test_a_service_that_does_not_run_is_told_with_what_to_do_before_any_load(run, running, monkeypatch):
    """Bug: after an interrupted apply all of the load was sent first, a minute and more, for a run without a grade."""
    assert check.ungradable(run, SCENARIO) is None
    running.remove("llm")
    said = check.ungradable(run, SCENARIO)
    assert said.startswith("llm: not running, or not with the file in applied/")
    assert "`lab apply`" in said


def test_a_service_that_ended_while_the_stack_was_warmed_up_is_told(run, running, monkeypatch):
    monkeypatch.setattr(check, "_warm_up", lambda *_: running.remove("llm"))
    during_the_load(monkeypatch, lambda: running.add("llm"))
    assert found_changed(run).startswith("llm: not running, or not with the file in applied/")


def test_what_a_control_has_stopped_is_graded_without_it(run, running):
    running.remove("llm")
    assert found_changed(run, stopped=("llm",)) is None


def test_a_service_that_runs_with_another_file_than_is_read_for_the_grade_is_told(run, monkeypatch):
    """Exploit: while what is forbidden is graded, write into applied/ what is allowed."""
    file = run.applied / "llm.yaml"
    during_the_load(monkeypatch, lambda: file.write_text(file.read_text() + "# as ever\n"))
    assert found_changed(run).startswith("llm: not running, or not with the file in applied/")


def test_a_service_that_ended_in_the_load_is_told_as_one_that_ended(run, running, monkeypatch):
    """With its own words, and no pass: see `_ended`."""
    during_the_load(monkeypatch, lambda: running.remove("llm"))
    assert found_changed(run) is None
