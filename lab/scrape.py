"""The configuration of a drill's Prometheus, made from `dashboards/prometheus.yml`."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from lab.paths import DASHBOARDS
from lab.run import Ports
from lab.runtime.services import SERVICES

TEMPLATE = DASHBOARDS / "prometheus.yml"
FIRST_PORT = 8100  # of the healthy configuration


def rule_files(rules_dir: Path) -> list[Path]:
    """The rule files in `rules_dir`, sorted; `*_test.yml` beside them are input of promtool."""
    return sorted(path.resolve() for path in rules_dir.glob("*.yml") if not path.stem.endswith("_test"))


def render_config(ports: Mapping[str, int], rules: Iterable[Path | str]) -> str:
    """Prometheus' configuration as YAML: `ports` maps each scrape job to its loopback port, `rules` are rule files."""
    environment = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text("utf-8"))
    return template.render(ports=dict(ports), rule_files=[str(path) for path in rules])


def of_containers() -> str:
    """The configuration of Prometheus in docker-compose.yml: all services at the ports of stack/config/."""
    jobs = {job: port for service in SERVICES.values() for job, port in service.jobs.items()}
    ports = {job: Ports(FIRST_PORT).all()[port] for job, port in (jobs | {"prometheus": "prometheus"}).items()}
    head = "# Made by `python -m lab.scrape > dashboards/prometheus.compose.yml`.\n"
    rules = [f"/etc/prometheus/rules/{path.name}" for path in rule_files(DASHBOARDS / "rules")]
    return head + render_config(ports, rules)


if __name__ == "__main__":
    print(of_containers(), end="")
