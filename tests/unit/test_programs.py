"""The programs of a run: what its Prometheus is told, and how its services are started."""

import json
import subprocess
import sys
from configparser import RawConfigParser

import yaml
from handmade import a_run

from lab.paths import ROOT
from lab.runtime import launch
from lab.runtime.programs import write_configuration
from lab.runtime.services import SERVICES


def rules(folder, **changes) -> set[str]:
    run = a_run(folder, **changes)
    write_configuration(run)
    configured = yaml.safe_load((run.folder / "prometheus.yml").read_text())
    return {path.rsplit("/", 1)[1] for path in configured["rule_files"]}


def test_a_site_has_every_rule_but_those_that_its_scenario_takes_away(tmp_path):
    every = rules(tmp_path / "one")
    assert "gate.yml" in every
    assert rules(tmp_path / "other", without_rules=["gate"]) == every - {"gate.yml"}


def test_every_service_is_started_by_what_notes_its_configuration(tmp_path):
    run = a_run(tmp_path / "run")
    programs = RawConfigParser()
    programs.read(write_configuration(run))
    for name in run.info.services:
        before, service = programs[f"program:{name}"]["command"].split(f" -m lab.runtime.launch {run.folder} {name} ")
        assert before.endswith(f" {sys.executable}")
        assert service.startswith(f"{SERVICES[name].python} -m stack.{name}")
        assert service.endswith(f" --config {run.applied}/{name}.yaml")


def test_the_process_that_notes_a_configuration_becomes_the_service(tmp_path):
    run = a_run(tmp_path / "run")
    for name in run.info.services:
        (run.applied / f"{name}.yaml").write_text(f"of: {name}\n")
    assert launch.outdated(run) == ["llm", "gateway"]
    program = "import json, os, sys; print(json.dumps([os.getpid(), sys.argv[1:]]))"
    command = [sys.executable, "-m", "lab.runtime.launch", run.folder, "llm", sys.executable, "-c", program, "--config"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert json.load(process.stdout) == [process.pid, ["--config"]]
    assert launch.outdated(run) == ["gateway"]
    (run.applied / "llm.yaml").write_text("of: somebody\n")
    assert launch.outdated(run) == ["llm", "gateway"]
