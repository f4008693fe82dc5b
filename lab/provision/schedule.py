"""Runs steps side by side, each as soon as those before it are done."""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from lab.provision.checkout import Checkout
from lab.provision.display import Display
from lab.provision.step import Step
from lab.provision.work import Children, StepFailed, Work

TICK_SECONDS = 0.2
CLEAN_UP = "clean-up"


def make_all(steps: Sequence[Step], checkout: Checkout, children: Children, display: Display) -> dict[str, str]:
    """Make the given steps; returns why each step that failed did. A step after a failed one is skipped.

    What an earlier run left of them goes to the trash, which is emptied meanwhile. An interrupt kills all
    child processes, then goes on to the caller.
    """
    for step in steps:
        step.clear(checkout)
    checkout.discard(checkout.scratch)  # of a run that was killed
    checkout.scratch.mkdir(parents=True)
    checkout.logs.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=len(steps) + 1) as pool:
        crew = _Crew(checkout, children, display, pool, {step.name: step for step in steps})
        try:
            if checkout.trash.exists():
                crew.start(CLEAN_UP, lambda work: work.attempt("rm", "-rf", checkout.trash))
            while crew.waiting or crew.running:
                crew.start_ready()
                crew.collect_ended()
        except BaseException:
            children.stop()
            raise
    shutil.rmtree(checkout.scratch, ignore_errors=True)
    return crew.failures


@dataclass
class _Crew:
    """Which steps wait, run, failed or were skipped."""

    checkout: Checkout
    children: Children
    display: Display
    pool: ThreadPoolExecutor
    waiting: dict[str, Step]
    running: dict[Future[object], str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)

    def start_ready(self) -> None:
        """Start each step that waits for nothing more, and skip those that wait for a step that cannot be."""
        for step in list(self.waiting.values()):
            if {*self.failures, *self.skipped}.intersection(step.after):
                self.skipped.add(step.name)
                self.display.skip(step.name)
            elif {*self.waiting, *self.running.values()}.intersection(step.after):
                continue
            else:
                self.start(step.name, step.make)
            del self.waiting[step.name]

    def start(self, name: str, action: Callable[[Work], object]) -> None:
        log = self.checkout.logs / f"bootstrap-{name}.log"
        log.write_bytes(b"")
        self.display.start(name, log)
        self.running[self.pool.submit(action, Work(self.checkout, log, self.children))] = name

    def collect_ended(self) -> None:
        """Wait a moment for a step to end, and note how it did. What is not a step's failure is raised."""
        ended, _ = wait(self.running, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
        for future in ended:
            name = self.running.pop(future)
            problem = future.exception()
            if problem and not isinstance(problem, StepFailed | OSError):
                raise problem
            if problem:
                self.failures[name] = str(problem)
            self.display.end(name, "failed" if problem else "done")
        self.display.refresh()
