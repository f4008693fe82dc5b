"""The graded load: what is done before it is sent."""

from types import SimpleNamespace

from lab import check


def test_what_must_forget_is_restarted_and_what_was_stopped_stays_so(monkeypatch):
    """Bug: an alarm from the check before was graded. And what a learner stopped must not come back."""
    done = []
    states = {"drift": "RUNNING", "gate": "STOPPED", "rag": "RUNNING"}
    running = [SimpleNamespace(name=name, state=state) for name, state in states.items()]
    monkeypatch.setattr(check.control, "processes", lambda run: running)
    monkeypatch.setattr(check.control, "restart", lambda run, name: done.append(name))
    monkeypatch.setattr(check, "wait_ready", lambda run, progress, names: done.append(list(names)))
    check._restart_fresh(None, ("drift", "gate"), print)
    assert done == ["drift", ["drift"]]
