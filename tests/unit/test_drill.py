"""Waiting for a service that is not going to be ready."""

import time

import pytest
from handmade import a_run

from lab.drill import gave_up


def ended(exit_status: int | None, **changes: object) -> dict[str, object]:
    return {"service": "llm", "state": "exited", "pid": 7, "exit_status": exit_status, **changes}


@pytest.mark.parametrize("exit_status", [0, 1, 2, 3])
def test_a_service_that_ended_by_itself_is_not_waited_for(tmp_path, exit_status):
    run, since = a_run(tmp_path / "run"), time.monotonic()
    assert not gave_up(run, "llm", since)
    run.event("process", **ended(exit_status))
    run.event("process", service="llm", state="running", pid=8, exit_status=None)  # started again, to end the same way
    assert gave_up(run, "llm", since)


@pytest.mark.parametrize(
    "event", [ended(-1), ended(137), ended(None), ended(1, service="rag"), ended(1, state="running")]
)
def test_one_that_was_killed_comes_back(tmp_path, event):
    run, since = a_run(tmp_path / "run"), time.monotonic()
    run.event("process", **event)
    assert not gave_up(run, "llm", since)


def test_how_an_earlier_one_ended_does_not_matter(tmp_path):
    run = a_run(tmp_path / "run")
    run.event("process", **ended(1))
    assert not gave_up(run, "llm", time.monotonic())
