"""Whose CPU it was, told with a real process that burns some."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from lab.host import HostMeter
from lab.paths import ROOT

PATIENCE_SECONDS = 30

# The kernel ends it after five seconds of CPU, whatever becomes of the test.
BURN = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
while True: pass
"""

# Ends at once and leaves a process behind that is no child of this test's process, as a stack is of no `lab check`.
LEAVE = """
import subprocess, sys
nothing = subprocess.DEVNULL
print(subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=nothing, stdout=nothing, stderr=nothing).pid)
"""


@pytest.fixture
def burner() -> Iterator[psutil.Process]:
    """A process outside this one's tree that burns one core."""
    command = [sys.executable, "-c", LEAVE, BURN]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS)
    process = psutil.Process(int(done.stdout))
    yield process
    if process.is_running():
        process.kill()


def wait_for_cpu(process: psutil.Process, seconds: float) -> None:
    """Until the process has used so much CPU more, however busy the machine is."""
    goal = sum(process.cpu_times()[:2]) + seconds
    deadline = time.monotonic() + PATIENCE_SECONDS
    while sum(process.cpu_times()[:2]) < goal:
        assert time.monotonic() < deadline, "the machine gave the process no CPU"
        time.sleep(0.05)


def test_cpu_below_a_root_is_our_own_and_all_else_is_outside(burner):
    """Exploit: blame the machine for what the stack does to itself. The same second is read with and without root."""
    with_root, without = HostMeter(lambda: [burner.pid]).start(), HostMeter(list).start()
    wait_for_cpu(burner, 0.4)
    ours, others = with_root.stop(), without.stop()
    assert ours.own_share > others.own_share
    assert ours.outside_share < others.outside_share


def test_cpu_of_a_service_that_ended_in_between_stays_ours(burner):
    """Bug: a restarted engine took its CPU time with it, and the machine seemed busy with something else."""
    with_root, without = HostMeter(lambda: [burner.pid]).start(), HostMeter(list).start()
    wait_for_cpu(burner, 0.8)  # more than the half second between two samples
    burner.kill()
    ours, others = with_root.stop(), without.stop()
    assert ours.own_share > others.own_share


def test_what_a_process_did_before_the_load_does_not_count(burner):
    wait_for_cpu(burner, 0.4)
    burner.suspend()
    used = HostMeter(lambda: [burner.pid], with_self=False).start().stop()
    assert used.own_share * used.seconds * os.cpu_count() < 0.2


def test_this_process_is_ours_unless_it_is_left_out():
    """Bug: with the lab's own work counted in, a stack that had come to rest still seemed to do something."""
    with_self, without = HostMeter(list).start(), HostMeter(list, with_self=False).start()
    goal = time.process_time() + 0.1
    while time.process_time() < goal:
        pass
    assert with_self.stop().own_share > without.stop().own_share == 0


def test_roots_that_do_not_exist_are_nobody(burner):
    burner.kill()
    burner.wait(timeout=PATIENCE_SECONDS)
    use = HostMeter(lambda: [burner.pid]).start().stop()
    assert use.own_share >= 0
    assert use.outside_share >= 0


def test_a_machine_that_stood_still_is_noticed():
    """Bug: a laptop that slept, or a paused virtual machine, made a good stack look slow."""
    program = """if True:
        import time
        from lab.host import HostMeter
        meter = HostMeter(list).start()
        print("on", flush=True)
        input()
        print(meter.stop().worst_stall_seconds)
    """
    meter = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert meter.stdout.readline() == "on\n"
    os.kill(meter.pid, signal.SIGSTOP)
    time.sleep(2.0)
    os.kill(meter.pid, signal.SIGCONT)
    time.sleep(0.3)  # for the sample that was due
    stall = float(meter.communicate("\n", timeout=PATIENCE_SECONDS)[0])
    assert stall > 1.0
