"""Work beside requests goes on after an error, and the error is told."""

import threading

import pytest

from stack.service.background import Background


def test_work_that_fails_is_told_in_the_log_and_done_again(caplog: pytest.LogCaptureFixture) -> None:
    """Bug: the thread ended without a word, and what it watched was not watched any more."""
    done = threading.Event()
    calls = []

    def work() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("the store is away")
        done.set()

    with Background("watch", work, seconds=0.01).running():
        assert done.wait(10)
    assert "the store is away" in caplog.text


def test_the_thread_ends_with_the_context() -> None:
    begun = threading.Event()
    with Background("ends with its context", begun.set, seconds=0.01).running():
        assert begun.wait(10)
        thread = next(one for one in threading.enumerate() if one.name == "ends with its context")
        assert thread.is_alive()
    thread.join(10)
    assert not thread.is_alive()
