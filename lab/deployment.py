"""A release in service while it is evaluated, and beside it the services that are asked how they do without another."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab import drill, workspace
from lab.drill import Configs, Progress
from lab.paths import ROOT
from lab.run import Run, RunError, local_url
from stack.evals.stack_client import Addresses, JudgeEndpoint
from stack.evals.suite import Named
from stack.lifeline import child_environment
from stack.settings import ConfigError

TENANT = "evals"
START_SECONDS = 60


@contextmanager
def deployed(
    suites: Sequence[Named], configs: Configs, progress: Progress, judge: JudgeEndpoint | None = None
) -> Iterator[Addresses]:
    """The release in service for as long as the context lasts; without another `judge` its engine judges.

    Raises RunError and ConfigError.
    """
    services = tuple(configs)
    if "gateway" not in services:
        raise ConfigError("suites", ["no suite needs the gateway: there would be nobody to ask"])
    if TENANT not in workspace.tenants(configs):
        raise ConfigError("gateway.yaml", [f"tenants: no '{TENANT}', as which the suites ask; keep it in the release"])
    run = drill.prepare(services, configs, purpose="evaluation", scenario="", digest="", practice="",
                        time_box_seconds=drill.LONGEST_SECONDS)  # fmt: skip
    try:
        drill.bring_up(run, progress)
        with ExitStack() as beside:
            others = {
                name: beside.enter_context(_beside(run, name, *other))
                for name, other in _others({suite.suite.task for suite in suites}, run).items()
            }
            if others:
                progress("waiting for the services that are asked how they do without another")
            for other in others.values():
                other.wait()
            keys = json.loads((run.folder / "keys/keys.json").read_text())
            served = configs["llm"]["model"]["served_name"] if "llm" in services else ""
            urls = {name: other.url for name, other in others.items()}
            yield Addresses(
                run.gateway_url,
                keys[TENANT],
                judge=judge or JudgeEndpoint(local_url(run.ports.llm), served, own=True),
                moderation_without_judge=urls.get("without judge"),
                gateway_without_moderation=urls.get("without moderation"),
                gateway_that_stops_answers=urls.get("stopping answers"),
            )
    finally:
        drill.stop(run)


def _others(tasks: set[str], run: Run) -> dict[str, tuple[str, int, dict[str, Any]]]:
    """By name: service, port, and how its configuration differs from the release's."""
    others: dict[str, tuple[str, int, dict[str, Any]]] = {}
    if "judge_down" in tasks:
        others["without judge"] = ("moderation", _free_port(), {
            "tier3": {"upstream": local_url(_free_port())},
            "review": {"url": f"sqlite:///{run.folder / 'moderation/cut-off.sqlite'}", "capacity": 1},  # full at once
        })  # fmt: skip
    if "guard" in tasks:
        strict = _free_port()
        others["without moderation"] = ("gateway", _free_port(), {"moderation": {"base_url": local_url(_free_port())}})
        others["stopping"] = ("moderation", strict, {
            "band": {"low": 0.0, "high": 0.03},  # about half of all answers are below it: people must look at those
            "tier3": {"enabled": False},
            "review": {"url": f"sqlite:///{run.folder / 'moderation/stopping.sqlite'}"},
        })  # fmt: skip
        others["stopping answers"] = ("gateway", _free_port(), {
            "moderation": {"base_url": local_url(strict)},
            "ask": {"moderation": {"input": "off"}},
        })  # fmt: skip
    return others


@dataclass(frozen=True)
class _Other:
    """A service beside those of the release."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> None:
        """Until it answers: ready it may never be, without what it needs. Raises RunError."""
        deadline = time.monotonic() + START_SECONDS
        while drill.unready(f"{self.url}/healthz") is not None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                told = drill.errors_in(self.log)
                raise RunError(f"the {self.name} beside the release does not answer; the end of {self.log}:\n{told}")
            time.sleep(0.2)


@contextmanager
def _beside(run: Run, name: str, service: str, port: int, patch: Mapping[str, Any]) -> Iterator[_Other]:
    """A second `service`, configured as the release's but for `patch`."""
    config = workspace.read(run.applied, [service])[service]
    place = f"{service}-{name.replace(' ', '-')}"
    file, log = run.folder / f"state/{place}.yaml", run.logs / f"{place}.log"
    file.parent.mkdir(exist_ok=True)
    changed = workspace.merge_patch(config, {**patch, "listen": {"port": port}})
    file.write_text(yaml.safe_dump(changed), encoding="utf-8")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"stack.{service}", "--config", str(file)],
            cwd=ROOT, env=child_environment(os.environ), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield _Other(f"{service} {name}", local_url(port), process, log)
    finally:
        process.terminate()
        process.wait(timeout=20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
