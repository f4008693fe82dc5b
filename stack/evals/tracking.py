"""Every run in MLflow: what it was made with, its numbers, and the example-by-example record as artifacts.

The store is a SQLite file unless a URL of a tracking server is given. https://mlflow.org/docs/latest/ml/tracking/
"""

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from stack.evals.errors import TrackingFailed
from stack.evals.gate import Verdict
from stack.evals.report import outcome_of
from stack.evals.results import Results

_PASSWORD = re.compile(r"://[^/@\s]+@")

EXPERIMENT = "release gate"
MOST_OF_A_TAG = 5000  # characters that MLflow keeps of one; the artifact run.json has all


def record(results: Results, verdicts: Sequence[Verdict], url: str, artifacts: Path) -> str:
    """Record a finished run; gives MLflow's id of it. Raises TrackingFailed."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # 7 of 120 s each would keep everybody waiting
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    try:
        from mlflow import MlflowClient  # takes seconds: not for --help
        from mlflow.entities import Metric, Param

        client = MlflowClient(tracking_uri=url)
        found = client.get_experiment_by_name(EXPERIMENT)
        location = artifacts.resolve().as_uri() if url.startswith("sqlite:") else None
        experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_location=location)
        manifest = results.manifest()
        run = client.create_run(experiment, run_name=manifest.label or manifest.run_id)
        stamp = int((manifest.finished or manifest.started) * 1000)
        metrics = [
            Metric(f"{finding.suite}/{_name(finding.metric)}", finding.candidate, stamp, 0)
            for verdict in verdicts
            for finding in verdict.findings
            if math.isfinite(finding.candidate)
        ]
        metrics += [
            Metric(f"{verdict.suite}/kappa of the judge", verdict.trust.kappa, stamp, 0)
            for verdict in verdicts
            if verdict.trust is not None and math.isfinite(verdict.trust.kappa)
        ]
        params = {
            "mode": manifest.mode,
            "machine": manifest.machine,
            "run": manifest.run_id,
            "configuration": manifest.identity.configuration,
            "code": manifest.identity.code,
            "weights": manifest.identity.weights,
            **{f"suite {name}": digest for name, digest in manifest.suites.items()},
        }
        client.log_batch(run.info.run_id, metrics, [Param(key, value) for key, value in params.items()])
        client.set_tag(run.info.run_id, "verdict", outcome_of(verdicts) if verdicts else "not compared")
        client.set_tag(run.info.run_id, "changes", json.dumps(manifest.changes)[:MOST_OF_A_TAG])
        client.log_artifacts(run.info.run_id, str(results.folder))
        client.set_terminated(run.info.run_id)
        return run.info.run_id
    except Exception as problem:  # a server can fail in ways that no list has, and the verdict stands without it
        told = f"the run was not recorded at {url}: {type(problem).__name__}: {problem}"
        raise TrackingFailed(_PASSWORD.sub("://…@", told)) from problem


def _name(metric: str) -> str:
    """What MLflow takes as a part of a name."""
    return metric.replace("@", " at ")
