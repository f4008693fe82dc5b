"""The programs of a run as a supervisord configuration."""

import shlex
import sys
from pathlib import Path

from lab.paths import DASHBOARDS, ROOT, tool
from lab.run import Run
from lab.runtime.services import SERVICES
from lab.scrape import render_config, rule_files
from stack.lifeline import child_environment

STACK_NICENESS = 5  # below the load generator: a stack that starves must not make the load late
START_SECONDS = 1

_HEAD = """\
[supervisord]
nodaemon=true
logfile={logs}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={logs}
loglevel=info
identifier=lab

[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

_PROGRAM = """
[program:{name}]
command={command}
directory={directory}
environment={environment}
autostart={autostart}
autorestart=unexpected
exitcodes={exitcodes}
startsecs={startsecs}
startretries=3
stopsignal=TERM
stopwaitsecs={stop_seconds}
stdout_logfile={log}
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=1
redirect_stderr=true
"""

_LISTENER = """
[eventlistener:watch]
command={command}
directory={directory}
environment={environment}
events=PROCESS_STATE,TICK_5
autostart=true
autorestart=true
buffer_size=1000
stderr_logfile={log}
stderr_logfile_maxbytes=5MB
"""


def write_configuration(run: Run) -> Path:
    """supervisord.conf and prometheus.yml of `run`."""
    ports = run.ports
    prometheus = run.folder / "prometheus.yml"
    scraped = {job: ports.all()[port] for name in run.info.services for job, port in SERVICES[name].jobs.items()}
    scraped |= {"loadgen": ports.loadgen, "prometheus": ports.prometheus}
    rules = [path for path in rule_files(DASHBOARDS / "rules") if path.stem not in run.info.without_rules]
    prometheus.write_text(render_config(scraped, rules), encoding="utf-8")
    parts = [
        _HEAD.format(logs=_plain(run.logs), folder=_plain(run.folder), socket=_plain(run.info.socket)),
        _program(
            run,
            "prometheus",
            [
                str(tool("prometheus")),
                f"--config.file={prometheus}",
                f"--storage.tsdb.path={run.folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{ports.prometheus}",
                "--storage.tsdb.retention.time=1d",
                "--log.level=warn",
            ],
        ),
        *(_service(run, name) for name in run.info.services),
        _program(
            run,
            "load",
            [sys.executable, "-m", "lab.runtime.practice", str(run.folder)],
            autostart=False,
            exitcodes="0,1,2",
        ),
        _LISTENER.format(
            command=_shell([sys.executable, "-m", "lab.runtime.watch", str(run.folder)]),
            directory=_plain(ROOT),
            environment=_environment(),
            log=_plain(run.logs / "watch.log"),
        ),
    ]
    path = run.folder / "supervisord.conf"
    path.write_text("".join(parts), encoding="utf-8")
    return path


def _service(run: Run, name: str) -> str:
    service = SERVICES[name]
    nice = ("/usr/bin/env", "nice", "-n", str(STACK_NICENESS))
    launch = (sys.executable, "-m", "lab.runtime.launch", str(run.folder), name)
    command = [*nice, *launch, str(service.python), "-m", service.module, "--config", str(run.applied / f"{name}.yaml")]
    return _program(run, name, command, exitcodes=service.exit_codes, stop_seconds=service.stop_seconds)


def load_command(run: Run, folder: Path, tag: str) -> list[str]:
    """Locust on the plan in `folder`, rows beside it."""
    return [
        *(sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests/locustfile.py"), "--headless"),
        *("--plan", str(folder / "plan.jsonl"), "--rows", str(folder / "rows.jsonl"), "--tag", tag),
        *("--keys", str(run.keys_file), "--host", run.gateway_url, "--metrics-port", str(run.ports.loadgen)),
        *("--loglevel", "WARNING"),
    ]


def _program(
    run: Run, name: str, command: list[str], autostart: bool = True, exitcodes: str = "0", stop_seconds: int = 10
) -> str:
    return _PROGRAM.format(
        name=name,
        command=_shell(command),
        directory=_plain(ROOT),
        environment=_environment(),
        autostart=str(autostart).lower(),
        exitcodes=exitcodes,
        startsecs=START_SECONDS,
        stop_seconds=stop_seconds,
        log=_plain(run.logs / f"{name}.log"),
    )


def _environment() -> str:
    """What every service gets: no model hub, and death with its parent."""
    path = child_environment({"PYTHONPATH": str(ROOT)})["PYTHONPATH"]
    values = {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    return ",".join(f'{key}="{_plain(value)}"' for key, value in values.items())


def _shell(command: list[str]) -> str:
    return _plain(shlex.join(command))


def _plain(value: object) -> str:
    return str(value).replace("%", "%%")  # supervisor expands %(…)s
