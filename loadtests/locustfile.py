"""The Locust file: options, the checks before a run, and its division among workers.

    locust -f loadtests/locustfile.py --headless --plan plan.jsonl --rows rows.jsonl --keys keys.json \\
        --host http://127.0.0.1:8100

Without --headless Locust shows its web page; without --plan a plan is made from --rate, --seconds and --seed,
which the page asks for. With --master and --worker (or --processes), arrival i is sent by worker i mod n; all
of them run on one machine and share its clock. Exit codes: 0 the plan was sent, 1 the run was cut short, 2 it
was refused. (Locust's --help knows its own options only; ours are in `add_options`.)
"""

import argparse
import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.dispatch import UsersDispatcher
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, Runner, WorkerRunner

from loadtests import LoadError
from loadtests.metrics import Meters
from loadtests.plan import Plan, Share, materialise, read_plan
from loadtests.rows import Row, RowsHeader, worker_path
from loadtests.user import Caller, PlanUser, Run, Start, loopback
from loadtests.users import USERS
from loadtests.writer import RowsWriter, require_new

__all__ = ["PlanUser"]  # the user class that Locust looks for

LEAD_SECONDS = 0.25  # from the start command to the run's zero, so that the first arrival is not late
WORKERS_LEAD_SECONDS = 1.0  # the same for a divided run, whose workers must hear of it first
SHARE, DONE = "loadtests.share", "loadtests.done"  # messages from the master to a worker, and back

logger = logging.getLogger("loadtests")


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Our options, and loopback where Locust would listen on every interface."""
    parser.set_defaults(web_host="127.0.0.1", master_bind_host="127.0.0.1")

    def add(name: str, text: str, *, on_page: bool = False, **more: Any) -> None:
        parser.add_argument(name, help=text, include_in_web_ui=on_page, **more)

    add("--plan", "the plan to send; see python -m loadtests.plan --help")
    add("--rate", "without --plan: requests/s (default: 1)", on_page=True, type=float, default=1.0)
    add("--seconds", "without --plan: length of the run (default: 60)", on_page=True, type=float, default=60.0)
    add("--seed", "without --plan: seed of the draw (default: 1)", on_page=True, type=int, default=1)
    add("--user", "without --plan: who sends (default: reading_desk)", choices=[*USERS], default="reading_desk")
    add("--tenant", "without --plan: whose key sends (default: demo)", default="demo")
    add("--target", "without --plan: what is asked (default: reading-desk)", default="reading-desk")
    add("--data", "without --plan: where the data packages are (default: .cache/data)", default=".cache/data")
    add("--keys", "JSON file with the API key of each tenant: {tenant: key}")
    add("--rows", "file to write a row to for each request; a worker adds its number to the name")
    add("--tag", "starts the id of each request (default: load)", default="load")
    add("--metrics-port", "port of the loadgen_* metrics; worker n adds n to it", type=int, default=0)
    add("--drain-seconds", "wait for answers after the last arrival (default: 10)", type=float, default=10.0)
    add("--timeout-seconds", "give a request up after so long (default: 90)", type=float, default=90.0)


@events.init.add_listener
def prepare(environment: Environment, runner: Runner, **_: object) -> None:
    """Checks what can be checked before the first request; on failure one line and exit code 2."""
    environment.dispatcher_class = OneUserEach
    # Locust winds up in order on SIGTERM only: Ctrl-C would interrupt whichever request is being read.
    gevent.signal_handler(signal.SIGINT, os.kill, os.getpid(), signal.SIGTERM)
    kind = {MasterRunner: Division, WorkerRunner: WorkerSession}.get(type(runner), Session)
    try:
        environment.session = kind(environment, runner)
    except LoadError as problem:
        print(f"error: {problem}", file=sys.stderr, flush=True)
        if isinstance(runner, WorkerRunner):
            environment.events.quitting.fire(environment=environment)  # tells the master
        sys.exit(2)


@events.test_start.add_listener
def begin(environment: Environment, **_: object) -> None:
    environment.session.begin()


@events.test_stopping.add_listener
def end(environment: Environment, **_: object) -> None:
    environment.session.end()


class OneUserEach(UsersDispatcher):
    """Gives each process one user at once, whatever number was asked for: the load is the plan's."""

    def new_dispatch(self, target_user_count: int, spawn_rate: float, user_classes: Any = None) -> None:
        count = len(self._worker_nodes) if target_user_count else 0
        super().new_dispatch(count, max(count, 1), user_classes)


class Inputs:
    """The checked command line of one process. Raises LoadError."""

    def __init__(self, environment: Environment) -> None:
        # A copy: when a worker starts, the master's options replace those of its own command line.
        self.options = argparse.Namespace(**vars(environment.parsed_options))
        self._live = environment.parsed_options
        self._made: tuple[tuple[float, float, int], Plan] | None = None
        check_options(self.options)
        self.keys = read_keys(self.options.keys)
        self._given = read_plan(Path(self.options.plan)) if self.options.plan else None
        self.plan()

    def plan(self) -> Plan:
        """The plan of --plan, or one made from what the command line or Locust's web page says now."""
        plan = self._given or self._make()
        for tenant in sorted(plan.tenants - set(self.keys)):
            raise LoadError(f"{self.options.keys}: no key for tenant {tenant!r}, which the plan sends as")
        return plan

    def _make(self) -> Plan:
        wanted = (self._live.rate, self._live.seconds, self._live.seed)
        if self._made is None or self._made[0] != wanted:
            rate, seconds, seed = wanted
            own = self.options
            plan = materialise(
                user=own.user, shape="steady", rate=rate, seconds=seconds, seed=seed, split="practice",
                tenant=own.tenant, target=own.target, data=Path(own.data),
            )  # fmt: skip
            self._made = (wanted, plan)
        return self._made[1]


class Session:
    """The runs of a process that sends, here the only one there is."""

    def __init__(self, environment: Environment, runner: Runner) -> None:
        self._environment = environment
        self._runner = runner
        self._inputs = Inputs(environment)
        self._meters = Meters()
        self._runs = 0
        self._waiting: Run | None = None
        self._run: Run | None = None
        self._following: gevent.Greenlet | None = None
        if path := self._rows_path():
            require_new(path)
        if port := self._inputs.options.metrics_port:
            self._meters.serve(port + runner.worker_index)

    def begin(self) -> None:
        """A test starts."""
        self._prepare_run(Share(), Start.in_seconds(LEAD_SECONDS))

    def follow(self) -> None:
        """The body of the user: lets the run that waits for it go its way, and returns when it is over."""
        run, self._waiting = self._waiting, None
        if run is None:
            return
        self._following = gevent.spawn(run.follow)
        self._following.join()
        broken = self._following.exception
        self._conclude(run.whole and broken is None, repr(broken) if broken else run.error)

    def end(self) -> None:
        """A test stops: returns when what was in flight has its rows."""
        if self._run:
            self._run.stop()
        if self._following:
            self._following.join()

    def _prepare_run(self, share: Share, start: Start, digest: str | None = None) -> None:
        self._environment.process_exit_code = 1  # until the run is known to be whole
        options = self._inputs.options
        try:
            plan = self._inputs.plan()
            if digest not in (None, plan.digest):
                raise LoadError("this worker's plan is not the master's: give both the same options")
            connections = len(share.arrivals(plan)) or 1
            caller = Caller(self._environment.host or "", self._inputs.keys, options.tag, connections)
            self._runs += 1
            path = self._rows_path()
            rows = RowsWriter(path, RowsHeader(start=start.wall, plan=plan.header)) if path else None
        except LoadError as problem:
            self._conclude(False, str(problem))
            return
        self._run = self._waiting = Run(
            plan, share, start, caller, self._meters, rows, self._report,
            drain_seconds=options.drain_seconds, timeout_seconds=options.timeout_seconds,
        )  # fmt: skip

    def _conclude(self, whole: bool, error: str | None) -> None:
        leave(self._environment, whole, error)

    def _rows_path(self) -> Path | None:
        """Where the current run writes; from the web page a process may start several."""
        if not self._inputs.options.rows:
            return None
        path = Path(self._inputs.options.rows)
        return path if self._runs < 2 else path.with_name(f"{path.stem}.run{self._runs}{path.suffix}")

    def _report(self, user: str, row: Row) -> None:
        """Feeds Locust's own statistics: an entry for the request, one for each of its two token times."""
        failure = None if row.outcome == "ok" else Exception(": ".join(filter(None, (row.outcome, row.error))))
        for kind, seconds in (("LLM", row.latency), ("TTFT", row.ttft), ("TPOT", row.tpot)):
            if kind == "LLM" or seconds is not None:
                self._environment.events.request.fire(
                    request_type=kind,
                    name=user,
                    response_time=None if seconds is None else seconds * 1000,
                    response_length=row.completion_tokens or 0,
                    exception=failure if kind == "LLM" else None,
                )


class WorkerSession(Session):
    """The same in a worker: the master tells it its share and the start, and is told the end."""

    def __init__(self, environment: Environment, runner: WorkerRunner) -> None:
        super().__init__(environment, runner)
        self._told: Mapping[str, Any] | None = None
        runner.register_message(SHARE, self._hear)

    def begin(self) -> None:
        told, self._told = self._told, None
        if told is None:  # it joined too late to get a share
            return
        start = Start(**told["start"])
        if abs(start.wall - start.monotonic - (time.time() - time.monotonic())) > 1:
            self._conclude(False, "a worker does not share the master's clock; start it on the master's machine")
            return
        self._prepare_run(Share(**told["share"]), start, told["digest"])

    def _hear(self, msg: Any, **_: object) -> None:
        self._told = msg.data

    def _conclude(self, whole: bool, error: str | None) -> None:
        self._environment.process_exit_code = 0 if whole else 1
        self._runner.send_message(DONE, {"whole": whole, "error": error})

    def _rows_path(self) -> Path | None:
        path = super()._rows_path()
        return worker_path(path, self._runner.worker_index) if path else None


class Division:
    """The runs of a master, which sends nothing: it gives each worker a share and waits for all of them."""

    def __init__(self, environment: Environment, runner: MasterRunner) -> None:
        self._environment = environment
        self._runner = runner
        self._inputs = Inputs(environment)
        self._busy: set[str] = set()
        self._waiting: gevent.Greenlet | None = None
        self._whole = True
        runner.register_message(DONE, self._hear)

    def begin(self) -> None:
        """A test starts."""
        self._environment.process_exit_code = 1
        workers = sorted((node.id for node in self._runner.clients.ready), key=self._runner.get_worker_index)
        try:
            plan = self._inputs.plan()
            if plan.header.mode == "closed" and plan.header.concurrency < len(workers):
                whole = plan.header.concurrency
                raise LoadError(f"a concurrency of {whole} cannot be divided among {len(workers)} workers")
        except LoadError as problem:
            leave(self._environment, False, str(problem))
            return
        start = Start.in_seconds(WORKERS_LEAD_SECONDS)
        for index, worker in enumerate(workers):
            share = Share(index, len(workers))
            message = {"share": asdict(share), "start": asdict(start), "digest": plan.digest}
            self._runner.send_message(SHARE, message, worker)
        self._busy, self._whole = set(workers), True
        self._waiting = gevent.spawn(self._wait_for_workers)

    def end(self) -> None:
        """A test stops. Before all workers are done, that leaves the run cut short."""
        if self._waiting:
            self._waiting.kill()

    def _hear(self, msg: Any, **_: object) -> None:
        self._busy.discard(msg.node_id)
        self._note(msg.data["whole"], msg.data["error"])

    def _wait_for_workers(self) -> None:
        while self._busy:
            gevent.sleep(0.2)
            for worker in list(self._busy):
                node = self._runner.clients.get(worker)
                if node is None or node.state == STATE_MISSING:
                    self._busy.discard(worker)
                    self._note(False, f"worker {self._runner.get_worker_index(worker)} was lost with its share")
        leave(self._environment, self._whole, None)

    def _note(self, whole: bool, error: str | None) -> None:
        self._whole = self._whole and whole
        if error:
            logger.error(error)


def leave(environment: Environment, whole: bool, error: str | None) -> None:
    """Ends the test, and without a web page the process with it."""
    if error:
        logger.error(error)
    environment.process_exit_code = 0 if whole else 1
    runner = environment.runner
    gevent.spawn(runner.quit if environment.parsed_options.headless else runner.stop)


def check_options(options: argparse.Namespace) -> None:
    """Raises LoadError for an option that no run could use."""
    if options.host:
        loopback(options.host)
    elif options.headless and not options.worker:
        raise LoadError("--host is missing; for example --host http://127.0.0.1:8100")
    if not options.keys:
        raise LoadError("--keys is missing: a JSON file with the API key of each tenant, {tenant: key}")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,50}", options.tag):
        raise LoadError(f"--tag {options.tag!r}: up to 50 letters, digits, dots, dashes and underscores")
    if not 0 <= options.drain_seconds <= 600:
        raise LoadError(f"--drain-seconds {options.drain_seconds:g}: between 0 and 600")
    if not 0 < options.timeout_seconds <= 600:
        raise LoadError(f"--timeout-seconds {options.timeout_seconds:g}: above 0 and at most 600")


def read_keys(path: str) -> dict[str, str]:
    """The API key of each tenant. Raises LoadError, which never quotes a key."""
    try:
        with open(path, encoding="utf-8") as file:
            keys = json.loads(file.read(1024 * 1024))
    except OSError as problem:
        raise LoadError(f"{path}: cannot read the keys: {problem.strerror}") from problem
    except ValueError:
        raise LoadError(f"{path}: not a JSON file of keys, {{tenant: key}}") from None
    if not isinstance(keys, dict):
        raise LoadError(f"{path}: not a JSON object of keys, {{tenant: key}}")
    for tenant, key in keys.items():
        if not isinstance(key, str) or not re.fullmatch(r"[!-~]{1,512}", key):
            raise LoadError(f"{path}: the key of tenant {tenant!r} is not up to 512 visible ASCII characters")
    return keys
