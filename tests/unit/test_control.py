"""Starting and stopping through supervisord's interface."""

from types import SimpleNamespace

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
