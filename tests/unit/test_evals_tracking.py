"""What MLflow keeps of a run, in its own store."""

from pathlib import Path

import numpy as np
import pytest
from evals_handmade import baseline, rows, suite

from stack.evals import tracking
from stack.evals.errors import TrackingFailed
from stack.evals.gate import judge_suite
from stack.evals.results import Identity, Manifest, Results

MANIFEST = Manifest(1, "run-1", "quick", {"texts": "h"}, Identity("c", "d", "w"), "m", 1.0, label="branch one",
                    changes=({"rag": {"fusion": None}},))  # fmt: skip


@pytest.fixture
def finished(tmp_path: Path):
    of = suite(tmp_path)
    results = Results.new(tmp_path / "runs", MANIFEST)
    for row in rows(np.ones(10)).values():
        results.add(row)
    results.finish("pass")
    return results, [judge_suite(of, "quick", results.rows("texts"), baseline(of, rows(np.ones(10))))]


def test_a_run_is_kept_with_hashes_numbers_and_every_example(tmp_path: Path, finished) -> None:
    from mlflow import MlflowClient

    url = f"sqlite:///{tmp_path / 'mlflow.sqlite'}"
    run_id = tracking.record(*finished, url, tmp_path / "artifacts")
    client = MlflowClient(tracking_uri=url)
    run = client.get_run(run_id)
    assert run.info.run_name == "branch one"
    assert run.data.tags["verdict"] == "pass"
    assert run.data.tags["changes"] == '[{"rag": {"fusion": null}}]'
    assert run.data.params["weights"] == "w"
    assert run.data.params["suite texts"] == "h"
    assert run.data.metrics["texts/right"] == 1
    assert {one.path for one in client.list_artifacts(run_id)} == {"run.json", "texts.jsonl"}


def test_a_server_that_does_not_answer_is_told(tmp_path: Path, finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingFailed, match=r"was not recorded at http://127\.0\.0\.1:1"):
        tracking.record(*finished, "http://127.0.0.1:1", tmp_path)
    with pytest.raises(TrackingFailed) as told:
        tracking.record(*finished, "http://me:secret@127.0.0.1:1", tmp_path)
    assert "secret" not in str(told.value)
