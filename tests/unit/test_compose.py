"""The stack in containers: the same services, on the configuration that is shipped."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.paths import DASHBOARDS, ROOT
from lab.runtime.services import SERVICES
from lab.scrape import of_containers
from stack.settings import load


@pytest.fixture(scope="module")
def containers() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]


@pytest.mark.parametrize("name", list(SERVICES))
def test_every_service_runs_as_in_a_drill_on_a_configuration_that_is_valid(containers, name):
    service = SERVICES[name]
    _, _, module, _, config = containers[name]["command"]
    assert module == service.module
    load(ROOT / config, service.config)


def test_nothing_is_published_to_other_machines(containers):
    assert [name for name, container in containers.items() if "ports" in container] == []
    prometheus = " ".join(containers["prometheus"]["command"])
    assert "--web.listen-address=127.0.0.1:" in prometheus


def test_images_of_others_have_a_version(containers):
    others = [container["image"] for container in containers.values() if not container["image"].startswith("llm-")]
    assert others
    assert [image for image in others if ":" not in image or image.endswith(":latest")] == []


def test_mounted_files_exist(containers):
    mounts = [mount.split(":")[0] for container in containers.values() for mount in container.get("volumes", ())]
    files = {mount for mount in mounts if mount.startswith("./")} - {"./keys/keys.json"}  # its maker is the user
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_the_override_for_gpus_changes_the_engine_alone():
    override = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text(encoding="utf-8"))["services"]
    assert list(override) == ["llm"]
    dockerfile = Path(ROOT / "stack/Dockerfile").read_text(encoding="utf-8")
    assert f"AS {override['llm']['build']['target']}\n" in dockerfile


def test_prometheus_scrapes_every_service_with_every_rule():
    assert (DASHBOARDS / "prometheus.compose.yml").read_text(encoding="utf-8") == of_containers()
