"""The launcher: one that answers wrongly never becomes ready. That the shipped one does, drills show."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.paths import CACHE, MODEL_FOLDER, ROOT
from stack.llm.manifest import write_manifest
from stack.llm.serve import BAD_CONFIGURATION, WRONG_ANSWERS

ENGINE_PYTHON = CACHE / "engine/bin/python"
START_SECONDS = 240

# 3 % of noise on each weight: the model still writes good English.
PERTURB = """
import sys, torch
from safetensors.torch import load_file, save_file
noise = torch.Generator().manual_seed(0)
weights = load_file(sys.argv[1])
for name, value in weights.items():
    if value.ndim == 2:
        weights[name] = (value.float() * (1 + 0.03 * torch.randn(value.shape, generator=noise))).to(value.dtype)
save_file(weights, sys.argv[2], metadata={"format": "pt"})
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Launcher:
    """`python -m stack.llm.serve` with changes to the default configuration."""

    def __init__(self, folder: Path, model: Path = MODEL_FOLDER, **engine: object) -> None:
        self.port, self.ready_port = free_ports(2)
        config = yaml.safe_load((ROOT / "stack/config/llm.yaml").read_text())
        config["listen"] |= {"port": self.port, "ready_port": self.ready_port}
        config["model"]["path"] = str(model)
        config["engine"] |= engine
        modules = config["adapters"]["modules"]
        config["adapters"]["modules"] = {name: str(ROOT / "stack/config" / path) for name, path in modules.items()}
        (folder / "llm.yaml").write_text(yaml.safe_dump(config))
        self.log = folder / "llm.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [ENGINE_PYTHON, "-m", "stack.llm.serve", "--config", folder / "llm.yaml"],
                cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log,
            )  # fmt: skip
        self.was_ready = False

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ready_port}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def wait(self) -> int | None:
        """Until it is ready or has ended: None, or the exit code."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.ready():
                self.was_ready = True
                return None
            if (code := self.process.poll()) is not None:
                return code
            time.sleep(0.2)
        raise AssertionError(f"neither ready nor ended after {START_SECONDS} s: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)


@pytest.fixture
def launchers() -> Iterator[list[Launcher]]:
    started: list[Launcher] = []
    yield started
    for launcher in started:
        launcher.stop()


@pytest.mark.engine
def test_slightly_perturbed_weights_never_become_ready(tmp_path: Path, launchers: list[Launcher]) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODEL_FOLDER, model, ignore=shutil.ignore_patterns("model.safetensors", "manifest.json"))
    paths = [str(MODEL_FOLDER / "model.safetensors"), str(model / "model.safetensors")]
    subprocess.run([ENGINE_PYTHON, "-c", PERTURB, *paths], check=True, capture_output=True)
    write_manifest(model)
    launchers.append(launcher := Launcher(tmp_path, model))
    assert launcher.wait() == WRONG_ANSWERS, launcher.log.read_text()[-2000:]
    assert "canary prompts were not answered as the reference model answers them" in launcher.log.read_text()


@pytest.mark.engine
def test_another_chat_template_never_becomes_ready(tmp_path: Path, launchers: list[Launcher]) -> None:
    """Weights and kernels are right, and every answer would be a little off."""
    model = tmp_path / "model"
    shutil.copytree(MODEL_FOLDER, model, ignore=shutil.ignore_patterns("manifest.json"))
    template = model / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_start|>assistant", "<|im_start|>model"))
    write_manifest(model)
    launchers.append(launcher := Launcher(tmp_path, model))
    assert launcher.wait() == WRONG_ANSWERS, launcher.log.read_text()[-2000:]


def test_a_truncated_model_file_is_named_with_the_mend(tmp_path: Path, launchers: list[Launcher]) -> None:
    model = tmp_path / "model"
    shutil.copytree(MODEL_FOLDER, model)
    size = json.loads((model / "manifest.json").read_text())["files"]["model.safetensors"]["bytes"]
    os.truncate(model / "model.safetensors", size // 2)
    launchers.append(launcher := Launcher(tmp_path, model))
    assert launcher.wait() == BAD_CONFIGURATION
    assert "model.safetensors has" in launcher.log.read_text()
    assert "make drill" in launcher.log.read_text()
