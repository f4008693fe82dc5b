"""The life of a run: start the stack with a configuration, apply another one, stop everything."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from lab import state, workspace
from lab.code import code_digest
from lab.paths import CACHE
from lab.prometheus import Prometheus
from lab.run import CURRENT, Ports, Progress, Run, RunError, RunInfo, create, current, local_url, new_id, set_current
from lab.runtime import control, launch
from lab.runtime.services import SERVICES
from lab.scenario import Load, Scenario, Symptom
from loadtests.plan import MAX_REQUESTS, Plan, materialise

Configs = Mapping[str, dict[str, Any]]

PORT_BASES = range(8100, 9100, 10)
ENOUGH = 1.5
LOAD_SECONDS = 15  # of load before its recent figures mean anything; Symptom.within_seconds is longer
PROMETHEUS_SECONDS = 20
LONGEST_SECONDS = 6 * 3600


def start(
    scenario: Scenario,
    configs: Configs,
    *,
    purpose: str,
    progress: Progress,
    capacity: float | None = None,
    port_base: int | None = None,
) -> Run:
    """A new run whose stack serves `configs`, ready, without load; raises RunError or ConfigError.

    A drill needs the machine's `capacity` in requests/s for its practice load. When something goes wrong, nothing is
    left running.
    """
    public = scenario.public
    time_box = public.time_box_minutes * 60 if purpose == "drill" else LONGEST_SECONDS
    run = prepare(
        public.services,
        configs,
        purpose=purpose,
        scenario=scenario.id,
        digest=scenario.digest,
        practice=described(public.load.practice, capacity) if capacity else "",
        time_box_seconds=time_box,
        without_rules=public.without_rules,
        port_base=port_base,
    )
    if capacity:
        practice_plan(public.load.practice, capacity, time_box).write(run.folder / "load/practice/plan.jsonl")
    bring_up(run, progress, lambda: state.restore(run, scenario, progress))
    return run


def prepare(services: tuple[str, ...], configs: Configs, *, port_base: int | None = None, **info: Any) -> Run:
    """The folder of a new run with its configuration and keys; nothing runs yet. `info`: other fields of RunInfo.

    Raises RunError and ConfigError.
    """
    refuse_second_run()
    ports = Ports(port_base if port_base is not None else free_base())
    refuse_taken_ports(ports)
    placed = workspace.placed(configs, ports)
    workspace.validate(placed, placed)
    run_id = new_id()
    run = create(
        RunInfo(
            schema=1,
            run_id=run_id,
            services=services,
            code=code_digest(services),
            port_base=ports.base,
            socket=str(Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")) / f"lab-{run_id}.sock"),
            started=time.time(),
            versions={name: version(name) for name in ("llm-design-lab", "starlette", "locust", "prometheus-client")},
            **info,
        )
    )
    workspace.write(placed, run.applied)
    if run.info.purpose == "drill":  # the others are not for people to look into and edit
        workspace.write(placed, run.workspace)
    (run.folder / "original.json").write_text(json.dumps(placed))
    workspace.make_keys(workspace.tenants(configs) | workspace.tenants(workspace.defaults(services)), run)
    return run


def bring_up(run: Run, progress: Progress, restore: Callable[[], None] = lambda: None) -> None:
    """Start the services of a prepared run, once `restore` has made the state that they begin with, until they are
    ready. Raises RunError; nothing is left running then."""
    set_current(run)
    run.event("started", purpose=run.info.purpose)
    begun = time.monotonic()
    try:
        restore()
        control.start_supervisor(run, detached=run.info.purpose == "drill")
        wait_ready(run, progress, since=begun)
    except BaseException:
        abort(run)
        raise


def rate(load: Load, capacity: float) -> float:
    """The load in requests/s on a machine that can do `capacity` requests/s."""
    return round(load.rate * (capacity if load.unit == "capacity" else 1.0), 3)


def described(load: Load, capacity: float) -> str:
    """The load in a few words, for people."""
    if load.unit == "in flight":
        return f"{load.rate:.0f} callers, each with one request in flight"
    return f"{rate(load, capacity):.2f} requests/s"


def practice_plan(load: Load, capacity: float, seconds: float) -> Plan:
    """The materialised practice load of a drill of `seconds`; it ends before where a plan cannot hold more."""
    if load.unit == "in flight":
        enough = ENOUGH * capacity  # requests/s, more than callers who wait for their answers can use up
        return plan_for(load, enough, seconds, mode="closed", concurrency=round(load.rate))
    requests_per_second = rate(load, capacity)
    return plan_for(load, requests_per_second, min(seconds, 0.98 * MAX_REQUESTS / requests_per_second))


def plan_for(load: Load, rate: float, seconds: float | None = None, **more: Any) -> Plan:
    """The materialised plan of a scenario's load at `rate` requests/s."""
    return materialise(
        user=load.user,
        shape=load.shape,
        rate=rate,
        seconds=load.seconds if seconds is None else seconds,
        seed=load.seed,
        split=more.pop("split", load.split),
        tenant=load.tenant,
        target=load.target,
        data=CACHE / "data",
        **more,
    )


def refuse_second_run() -> None:
    """Raises RunError while a run is alive: two stacks on one machine would measure each other."""
    if CURRENT.exists() and control.alive(run := current()):
        raise RunError(
            f"drill {run.info.run_id} ({run.info.scenario}) is running: `lab status` shows it, `lab stop` ends it"
        )


def free_base() -> int:
    """The first port base whose ports are all free; LAB_PORT_BASE chooses another one. Raises RunError."""
    chosen = os.environ.get("LAB_PORT_BASE")
    if chosen is not None:
        if not (chosen.isdigit() and 1024 <= int(chosen) <= 65000):
            raise RunError(f"LAB_PORT_BASE is {chosen!r}: it must be a port from 1024 to 65000")
        return int(chosen)
    for base in PORT_BASES:
        if not any(map(_taken, Ports(base).all().values())):
            return base
    raise RunError("no free ports between 8100 and 9100: set LAB_PORT_BASE to the first of nine free ports")


def refuse_taken_ports(ports: Ports) -> None:
    """Raises RunError that names those which another program has."""
    taken = [f"{port} ({name})" for name, port in ports.all().items() if _taken(port)]
    if taken:
        raise RunError(
            f"port {', '.join(taken)} is taken by another program: end it, or set LAB_PORT_BASE to another base"
        )


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
        return False


def wait_ready(run: Run, progress: Progress, services: Iterable[str] | None = None, since: float | None = None) -> None:
    """Until every service says that it is ready; raises RunError with the log's end when one cannot be.

    `since`: when the first of them was started, a monotonic time, where others were started after it.
    """
    since = time.monotonic() if since is None else since
    for name in ("prometheus", *run.info.services) if services is None else services:
        url, limit = _readiness(run, name)
        begun = time.monotonic()
        while (problem := unready(url)) is not None:
            reason, final = problem
            if final:
                raise RunError(f"{name} cannot become ready: {reason}")
            waited = time.monotonic() - begun
            state = next((p.state for p in control.processes(run) if p.name == name), None)
            log = run.logs / f"{name}.log"
            if state == "FATAL" or gave_up(run, name, since):
                raise RunError(f"{name} does not run: it ended by itself; the end of {log}:\n{errors_in(log)}")
            if waited > limit:
                raise RunError(f"{name} was not ready after {waited:.0f} s; the end of {log}:\n{errors_in(log)}")
            progress(f"waiting for {name}: {reason or f'{waited:.0f} s'}")
            time.sleep(0.2)
        progress(f"{name} is ready")


def gave_up(run: Run, name: str, since: float) -> bool:
    """Whether `name` ended, and was not killed, since `since`, a monotonic time.

    The run's events tell it and not supervisord's states: a program that ends unexpectedly is started again at once,
    and one that ends after half a minute of loading would be waited for again and again.
    """
    return any(
        (event["service"], event["state"]) == (name, "exited")
        and event["monotonic"] >= since
        and event["exit_status"] not in (None, *control.KILLED_STATUS)
        for event in run.events("process")
    )


def errors_in(log: Path) -> str:
    """The lines of a log's end that speak of errors, or simply its last lines."""
    lines = control.tail(log, 200).splitlines()
    wrong = [line for line in lines if "ERROR" in line or "Error:" in line]
    return "\n".join(line[:400] for line in (wrong or lines)[-8:])


def _readiness(run: Run, name: str) -> tuple[str, float]:
    """Where `name` says that it is ready, and after how many seconds it should."""
    if name == "prometheus":
        return f"{run.prometheus_url}/-/ready", PROMETHEUS_SECONDS
    service = SERVICES[name]
    return local_url(run.ports.all()[service.ready_port], "/readyz"), service.ready_seconds


def unready(url: str) -> tuple[str, bool] | None:
    """None when ready; else the reasons that the service itself gives, if any, and whether it will stay so."""
    try:
        answer = httpx.get(url, timeout=2, trust_env=False)
    except httpx.HTTPError:
        return "", False
    if answer.status_code == 200:
        return None
    try:
        told = answer.json()
        return "; ".join(told["reasons"]), bool(told.get("final"))
    except (ValueError, KeyError, TypeError):
        return "", False


def apply(run: Run, progress: Progress) -> list[str]:
    """Bring the workspace's configuration into service; returns the services that were restarted: those that it changes
    and those that are out of service.

    A configuration that is not valid changes nothing (ConfigError). When a service does not become ready with the new
    one, the old one is put back into service and RunError says what went wrong.
    """
    new, old = (workspace.read(folder, run.info.services) for folder in (run.workspace, run.applied))
    workspace.validate(new, original(run))
    differing = {*workspace.changed_services(old, new), *out_of_service(run)}
    changed = [name for name in run.info.services if name in differing]
    if not changed:
        return []
    text = workspace.diff(run.applied, run.workspace, run.info.services)
    run.event("apply", services=changed, diff=text)
    put_in_service(run, changed, new, old, progress)
    run.event("applied", services=changed)
    return changed


def out_of_service(run: Run) -> list[str]:
    """The services that do not run, or not with the configuration in `applied/`; raises RunError."""
    running, outdated = control.running(run), launch.outdated(run)
    return [name for name in run.info.services if name not in running or name in outdated]


def out_of_service_in_words(services: Iterable[str]) -> str:
    """Why, and what to do."""
    return (
        f"{', '.join(services)}: not running, or not with the file in applied/ (an apply was interrupted, a service "
        "ended, or a file was edited there): `lab apply` mends that"
    )


def put_in_service(run: Run, changed: list[str], new: Configs, old: Configs, progress: Progress) -> None:
    """Restart the services `changed` with `new`; on failure go back to `old` and raise RunError.

    An interruption leaves `old` in `applied/` and out of service what does not run with it.
    """
    try:
        _restart(run, new, changed, progress)
    except RunError as problem:
        run.event("apply_failed", services=changed, problem=str(problem))
        progress("going back to the configuration that ran before")
        try:
            _restart(run, old, changed, progress)
        except RunError as second:
            raise RunError(
                f"the new configuration could not be served, and the old one neither.\nThe new one: {problem}\n"
                f"The old one: {second}"
            ) from None
        raise RunError(
            f"the new configuration could not be served, the old one is back in service.\n{problem}"
        ) from None
    except BaseException:
        _write(run, old, changed)
        run.event("apply_interrupted", services=changed)
        raise


def _restart(run: Run, configs: Configs, services: list[str], progress: Progress) -> None:
    _write(run, configs, services)
    begun = time.monotonic()
    for name in services:
        progress(f"restarting {name}")
        control.restart(run, name)
    # The gateway learns within a second that the engine went away: ask it last.
    waited_for = [name for name in run.info.services if name in services or name == "gateway"]
    wait_ready(run, progress, waited_for, since=begun)


def _write(run: Run, configs: Configs, services: list[str]) -> None:
    """Their files in `applied/`, not those of others, which are to stay as they were when those were started."""
    workspace.write({name: configs[name] for name in services}, run.applied)


def original(run: Run) -> dict[str, dict[str, Any]]:
    """The configuration that the run was started with."""
    return json.loads((run.folder / "original.json").read_text())


def start_practice(run: Run) -> None:
    """Start the practice load from the beginning of its plan, where it does not run."""
    control.start(run, "load")


def wait_for_symptom(run: Run, symptom: Symptom, progress: Progress) -> None:
    """Until the symptom shows in the metrics, and the load is old enough for its recent figures to say the same.

    Raises RunError when it does not show in time.
    """
    begun = time.monotonic()
    value = None
    while (waited := time.monotonic() - begun) < symptom.within_seconds:
        with Prometheus(run.prometheus_url) as prometheus:
            samples = prometheus.query(symptom.query)
        value = samples[0].value if len(samples) == 1 else None
        shows = value is not None and (value > symptom.value if symptom.op == ">" else value < symptom.value)
        if shows and waited >= LOAD_SECONDS:
            run.event("symptom", value=value, seconds=waited)
            return
        load = next(process for process in control.processes(run) if process.name == "load")
        if load.state in ("EXITED", "FATAL", "BACKOFF"):
            raise RunError(f"the load generator ended:\n{errors_in(run.logs / 'load.log')}")
        progress(f"load is on; waiting for the symptom: {waited:.0f} s")
        time.sleep(0.5)
    raise RunError(
        f"the symptom did not show within {symptom.within_seconds:.0f} s (last value: {value}): this machine may have "
        "changed since it was measured; try `lab calibrate` and start again"
    )


def stop(run: Run) -> None:
    """End everything that `run` started."""
    was_alive = control.alive(run)
    control.shut_down(run)
    if was_alive:
        run.event("stopped")


def abort(run: Run) -> None:
    """End everything at once; a second Ctrl-C does not leave half of it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        control.shut_down(run, at_once=True)
        run.event("stopped")
    finally:
        signal.signal(signal.SIGINT, before)
