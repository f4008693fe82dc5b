"""The graded load: what is done before it is sent."""

from types import SimpleNamespace

import pytest
from handmade import a_run

from lab import check
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
