"""Work that a service does beside its requests, in threads that give way to what serves."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


def lower_priority(niceness: int) -> None:
    """Of the calling thread alone; on Linux a thread's id stands for a process."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


class Background:
    """Calls `work` now and again, in a thread of its own, while `running`. What it raises goes into the log."""

    def __init__(self, name: str, work: Callable[[], None], seconds: float, niceness: int = 0) -> None:
        """`seconds`: from the end of one call to the next."""
        self._work = work
        self._seconds = seconds
        self._niceness = niceness
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around the time in which `work` is called, once. The end does not wait for a call in progress."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopped.set()

    def _run(self) -> None:
        lower_priority(self._niceness)
        while not self._stopped.is_set():
            try:
                self._work()
            except Exception:
                log.exception("background work failed", extra={"work": self._thread.name})
            self._stopped.wait(self._seconds)
