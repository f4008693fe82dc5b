"""The graded load: what is done before it is sent."""

from types import SimpleNamespace

from handmade import a_run

from lab import check


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
