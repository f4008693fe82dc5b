"""The programs of a run: what its Prometheus is told."""

import yaml
from handmade import a_run

from lab.runtime.programs import write_configuration


def rules(folder, **changes) -> set[str]:
    run = a_run(folder, **changes)
    write_configuration(run)
    configured = yaml.safe_load((run.folder / "prometheus.yml").read_text())
    return {path.rsplit("/", 1)[1] for path in configured["rule_files"]}


def test_a_site_has_every_rule_but_those_that_its_scenario_takes_away(tmp_path):
    every = rules(tmp_path / "one")
    assert "gate.yml" in every
    assert rules(tmp_path / "other", without_rules=["gate"]) == every - {"gate.yml"}
