"""Sends a plan with Locust as a child process and proves afterwards that the planned load was offered."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.measure import quantile
from lab.paths import ROOT
from lab.run import Run
from lab.runtime.programs import load_command
from loadtests import LoadError
from loadtests.plan import Plan
from loadtests.rows import Row, Rows, read_rows
from stack.lifeline import child_environment

DRAIN_SECONDS = 10
GRACE_SECONDS = 15  # Locust's own start and end
OFFERED_SHARE, LAG_P99_SECONDS = 0.99, 0.05

Watcher = Callable[[Plan, list[Row], float], bool]


def to_the_end(plan: Plan, rows: list[Row], elapsed: float) -> bool:
    """The watcher that never ends a load."""
    return False


@dataclass(frozen=True)
class Delivery:
    """What the generator did with the plan."""

    planned: int
    sent: int
    finished: bool  # it wound the run up by itself
    cut_short: bool  # we ended it, because the outcome was certain
    lag_p99_seconds: float | None

    @property
    def problem(self) -> str | None:
        """Why this load proves nothing, or None. A load that was cut short was offered in full until then."""
        if not self.finished and not self.cut_short:
            return f"the load generator did not finish its run: {self.sent} of {self.planned} requests were sent"
        if not self.cut_short and self.sent < OFFERED_SHARE * self.planned:
            return f"only {self.sent} of {self.planned} planned requests were offered"
        if self.lag_p99_seconds is None:
            return "no request was sent"
        if self.lag_p99_seconds > LAG_P99_SECONDS:
            lag, limit = self.lag_p99_seconds * 1e3, LAG_P99_SECONDS * 1e3
            return f"the load generator was late: p99 of its lag is {lag:.0f} ms, more than {limit:.0f} ms"
        return None


def send(run: Run, plan: Plan, folder: Path, tag: str, watch: Watcher = to_the_end) -> None:
    """Send `plan` to the run's gateway; `folder` gets plan.jsonl, rows.jsonl and locust.log.

    `watch` is called each half second with the plan, the rows so far and the seconds since the first; True ends the
    run. Returns at the latest GRACE_SECONDS after the plan's end and drain, whatever the generator does.
    """
    plan.write(folder / "plan.jsonl")
    command = load_command(run, folder, tag)
    environment = child_environment(os.environ)
    rows = folder / "rows.jsonl"
    with (folder / "locust.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        limit = time.monotonic() + plan.header.seconds + DRAIN_SECONDS + GRACE_SECONDS
        begun = None
        try:
            while process.poll() is None and time.monotonic() < limit:
                time.sleep(0.5)
                if begun is None and rows.exists():
                    begun = time.monotonic()
                if begun and watch(plan, rows_so_far(folder), time.monotonic() - begun):
                    (folder / "cut_short").touch()
                    process.terminate()
                    break
            process.wait(timeout=5 if time.monotonic() < limit else 0.1)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def rows_so_far(folder: Path) -> list[Row]:
    """What was answered of the load that is sent, or was, with its files in `folder`."""
    try:
        return list(read_rows(folder / "rows.jsonl").rows)
    except LoadError:
        return []


def delivery(folder: Path, plan: Plan, rows: Rows) -> Delivery:
    """What the files of a sent load prove."""
    cut_short = (folder / "cut_short").exists()
    return Delivery(
        planned=plan.header.requests,
        sent=rows.end.sent if rows.end else len(rows.rows),
        finished=rows.end is not None and not cut_short,
        cut_short=rows.end is not None and cut_short,  # without its end line nobody knows when it stopped
        lag_p99_seconds=quantile([row.lag for row in rows.rows], 0.99),
    )
