"""The drift monitor as a process: reads what retrieval logs, tells Prometheus, and does what its document says."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from drift_handmade import config, log_of, searches
from gateway_process import ROOT, wait_until
from rag_process import ALL_BOOKS, RagProcess, StartRag
from service_process import ServiceProcess

from stack.drift.monitor import load
from stack.drift.traffic import read

StartDrift = Callable[..., "Drift"]


class Drift(ServiceProcess):
    """A running monitor over the folder of a test."""

    def __init__(self, folder: Path, **changes: object) -> None:
        fields = config(**changes).model_dump(mode="json", by_alias=True) | {"every_seconds": 0.05}
        super().__init__("drift", folder, fields)


@pytest.fixture
def start_drift(tmp_path: Path) -> Iterator[StartDrift]:
    started: list[Drift] = []

    def start(**changes: object) -> Drift:
        started.append(drift := Drift(tmp_path, **changes))
        drift.wait_for("/healthz", 30)
        return drift

    yield start
    for drift in started:
        drift.stop()


def test_traffic_of_another_kind_shows_in_the_metrics(start_drift: StartDrift) -> None:
    drift = start_drift()
    path = drift.folder / "searches.jsonl"
    log_of(path, searches(400, 1))
    wait_until(lambda: drift.metric("drift_reference_searches") == 400, "the reference is full", 30)
    log_of(path, searches(200, 2))
    wait_until(lambda: drift.metric("drift_windows_total") == 2, "two windows", 30)
    detected = 'drift_detected{detector="mmd",reference="pinned"}'
    assert drift.metric(detected) == 0
    log_of(path, searches(200, 3, 4.0))
    wait_until(lambda: drift.metric("drift_windows_total") == 4, "four windows", 30)
    assert drift.metric(detected) == 1
    assert drift.get("/v1/windows").json()["waits_for"] == []
    windows = drift.get("/v1/windows").json()["windows"]
    assert [window["searches"] for window in windows] == [100] * 4
    assert {one["drift"] for one in windows[-1]["compared"] if one["detector"] == "mmd"} == {True}


def test_a_configuration_that_makes_no_sense_refuses_the_start(tmp_path: Path) -> None:
    fields = config().model_dump(mode="json", by_alias=True)
    fields["detectors"]["mmd"]["signal"] = "dense"
    (tmp_path / "drift.yaml").write_text(yaml.safe_dump(fields))
    command = [sys.executable, "-m", "stack.drift", "--config", tmp_path / "drift.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "mmd is for vectors" in done.stderr


def test_the_shipped_configuration_is_valid() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stack.drift", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_server_error_and_no_undocumented_answer(start_drift: StartDrift) -> None:
    start_drift().assert_keeps_its_document()


QUESTIONS = ("who ruled normandy", "cats")


def log_of_questions(start_rag: StartRag) -> tuple[RagProcess, Path]:
    """A retrieval service that was asked QUESTIONS, and its traffic log, complete."""
    rag = start_rag(traffic={"file": "traffic/searches.jsonl"})
    rag.write(*ALL_BOOKS)
    rag.build("blue")
    for question in QUESTIONS:
        assert rag.search(question).status_code == 200
    path = rag.config_file.parent / "traffic/searches.jsonl"
    wait_until(lambda: path.exists() and len(path.read_bytes().splitlines()) == len(QUESTIONS), "two lines", 10)
    return rag, path


def test_retrieval_logs_vectors_and_scores_and_never_a_word(start_rag: StartRag) -> None:
    _, path = log_of_questions(start_rag)
    text = path.read_text()
    assert "normandy" not in text
    assert "cats" not in text
    found = read(path, "books")
    assert found.vectors.shape[0] == 2
    assert found.dense.min() > 0
    assert path.stat().st_mode & 0o077 == 0, "its owner's alone"


def test_replayed_questions_make_the_reference_that_their_traffic_would(start_rag: StartRag, tmp_path: Path) -> None:
    rag, path = log_of_questions(start_rag)
    (tmp_path / "questions.txt").write_text("".join(f"{question}\n" for question in QUESTIONS))
    command = [sys.executable, "-m", "stack.drift.replay", "--rag", rag.config_file, "--collection", "books",
               "--tenant", "riverside", "--questions", tmp_path / "questions.txt",
               "--out", tmp_path / "reference.npz"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    logged, replayed = read(path, "books"), load(tmp_path / "reference.npz")
    for name in ("vectors", "dense", "sparse", "evidence"):
        assert np.array_equal(getattr(logged, name), getattr(replayed, name)), name
