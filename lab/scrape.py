"""The configuration of a drill's Prometheus, made from `dashboards/prometheus.yml`."""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from lab.paths import DASHBOARDS

TEMPLATE = DASHBOARDS / "prometheus.yml"


def rule_files(rules_dir: Path) -> list[Path]:
    """The rule files in `rules_dir`, sorted; `*_test.yml` beside them are input of promtool."""
    return sorted(path.resolve() for path in rules_dir.glob("*.yml") if not path.stem.endswith("_test"))


def render_config(ports: Mapping[str, int], rules_dir: Path) -> str:
    """Prometheus' configuration as YAML: `ports` maps each scrape job to its loopback port."""
    environment = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text("utf-8"))
    return template.render(ports=dict(ports), rule_files=[str(path) for path in rule_files(rules_dir)])
