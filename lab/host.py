"""What else the machine did while a load ran: CPU of other programs, time stolen by the hypervisor, memory pressure."""

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import psutil

SAMPLE_SECONDS = 0.5
QUIET_SHARE = 0.10  # of all cores: more than this used by others, and nothing is measured, graded or called quiet


@dataclass(frozen=True)
class HostUse:
    """CPU over a window as shares of all cores together; `seconds` is the window's length."""

    seconds: float
    own_share: float  # the stack, the load generator, the lab
    outside_share: float  # every other process, and the kernel on behalf of nobody
    steal_share: float
    worst_stall_seconds: float  # longest gap between two samples beyond the plan: the whole machine stood still

    @property
    def others_share(self) -> float:
        """What was used by others than the stack and the lab, on this machine or beside it on the same host."""
        return self.outside_share + self.steal_share

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class HostMeter:
    """Samples /proc from a thread between `start` and `stop`.

    Own time is the user and system time of every process at and below `roots()` and, `with_self`, this one; the roots
    are asked again at each sample since services restart. A process that ends between two samples loses at most
    SAMPLE_SECONDS of its time to "outside".
    """

    def __init__(self, roots: Callable[[], Iterable[int]], with_self: bool = True) -> None:
        self._roots = (lambda: {*roots(), os.getpid()}) if with_self else roots
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_done, daemon=True)
        self._own_seconds = 0.0
        self._seen: dict[tuple[int, float], float] = {}
        self._stall = 0.0

    def start(self) -> "HostMeter":
        self._begin, self._before = time.monotonic(), psutil.cpu_times()
        self._collect(first=True)
        self._thread.start()
        return self

    def stop(self) -> HostUse:
        self._done.set()
        self._thread.join()
        self._collect()
        seconds, after = time.monotonic() - self._begin, psutil.cpu_times()
        busy, steal = (f(after) - f(self._before) for f in (_busy, lambda t: getattr(t, "steal", 0.0)))
        capacity = seconds * (os.cpu_count() or 1)
        outside = max(0.0, busy - self._own_seconds)
        return HostUse(seconds, self._own_seconds / capacity, outside / capacity, steal / capacity, self._stall)

    def _sample_until_done(self) -> None:
        due = time.monotonic()
        while not self._done.wait(max(0.0, due - time.monotonic())):
            now = time.monotonic()
            self._stall, due = max(self._stall, now - due), now + SAMPLE_SECONDS
            self._collect()

    def _collect(self, first: bool = False) -> None:
        for process in _trees(self._roots()):
            try:
                with process.oneshot():
                    key, times = (process.pid, process.create_time()), process.cpu_times()
            except psutil.Error:
                continue
            used = times.user + times.system
            known = self._seen.get(key, used if first else 0.0)
            self._own_seconds += max(0.0, used - known)
            self._seen[key] = used


def use_over(seconds: float, roots: Callable[[], Iterable[int]], with_self: bool = True) -> HostUse:
    """What the machine does in the next `seconds`; the arguments are those of HostMeter."""
    meter = HostMeter(roots, with_self).start()
    time.sleep(seconds)
    return meter.stop()


def _busy(times: Any) -> float:
    """CPU seconds in which a core did something for somebody; steal is counted apart. Guest time is within user."""
    return times.user + times.nice + times.system + getattr(times, "irq", 0) + getattr(times, "softirq", 0)


def _trees(roots: Iterable[int]) -> Iterable[psutil.Process]:
    for pid in set(roots):
        try:
            root = psutil.Process(pid)
            yield root
            yield from root.children(recursive=True)
        except psutil.Error:
            continue
