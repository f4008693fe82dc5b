"""A run's verdict, from what is on the disk alone."""

from pathlib import Path

import numpy as np
import pytest
from evals_handmade import baseline, rows, suite

from lab import code, evaluation, workspace
from stack.evals.example import Row
from stack.evals.results import Identity, Manifest, Results
from stack.evals.suite import Named, load_suites
from stack.settings import ConfigError


def run_of(folder: Path, of: Named, found: dict[str, Row], digest: str | None = None, name: str = "run") -> Results:
    manifest = Manifest(1, name, "quick", {of.name: digest or of.hash}, Identity("c", "d", "w"), "a machine", 1.0)
    results = Results.new(folder, manifest)
    for row in found.values():
        results.add(row)
    return results


def test_rows_of_another_version_of_the_suite_are_not_judged(tmp_path: Path) -> None:
    """Bug: scores of an old suite were compared with a baseline of the new one."""
    of, found = suite(tmp_path), rows(np.ones(10))
    old = evaluation.verdict(of, run_of(tmp_path, of, found, digest="another"), baseline(of, found))
    assert old.outcome == "unjudged"
    assert "the suite has changed since the run was made" in old.problem
    assert evaluation.verdict(of, run_of(tmp_path, of, found, name="b"), baseline(of, found)).outcome == "pass"


def judged(preferred: float) -> dict[str, Row]:
    release = rows(np.full(40, preferred), "preferred", ("release",), length=0.0)
    known = {}
    for place, right in enumerate(["first", "second"] * 5):
        said = {"choice": right, "known": right}
        known[f"k{place}"] = Row("texts", f"k{place}", "k", "d", ("labelled",), {}, said, {"agreed": 1.0}, 1.0)
    return release | known


@pytest.mark.parametrize(
    ("rounds", "outcome", "why"),
    [
        ([], "warn", "not judged again yet"),
        ([0.0, 0.0], "warn", "not judged again yet"),
        ([0.0, 0.5, 0.5], "warn", "not confirmed by judging again"),
        ([0.0, 0.5, 0.0], "block", "worse, and confirmed by judging again"),
    ],
)
def test_further_rounds_of_judging_count_whenever_the_run_is_looked_at(tmp_path: Path, rounds, outcome, why) -> None:
    """Bug: to compare a run again made a confirmed loss a warning."""
    metrics = {"preferred": {"score": "preferred", "slice": "release", "tolerance": 0.1, "tier": "judged"}}
    of = suite(
        tmp_path,
        task="preference",
        collections=["articles"],
        judge={"labelled": 10, "least_kappa": 0.4},
        metrics=metrics,
    )
    results = run_of(tmp_path, of, judged(0.0))
    for number, preferred in enumerate(rounds, start=1):
        run_of(results.folder, of, judged(preferred), name=f"{of.name}-round-{number}")
    verdict = evaluation.verdict(of, results, baseline(of, judged(0.5)))
    found = next(one for one in verdict.findings if one.metric == "preferred")
    assert (found.outcome, found.reason) == (outcome, why)
    assert found.kappa == 1


def test_a_change_of_the_encoders_code_takes_other_vectors(tmp_path: Path, monkeypatch) -> None:
    before = evaluation.release(load_suites(["retrieval"])).configs["rag"]["storage"]["vectors"]
    (tmp_path / "stack/rag/encoders").mkdir(parents=True)
    (tmp_path / "stack/rag/encoders/encoder.py").write_text("# pools otherwise")
    for module in (evaluation, code):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    after = evaluation.release(load_suites(["retrieval"])).configs["rag"]["storage"]["vectors"]
    assert before != after
    assert before.startswith(workspace.defaults(["rag"])["rag"]["storage"]["vectors"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("", "it changes nothing"),
        ("# rag: {retrieval: {}}\n", "it changes nothing"),
        ("rag: {collections: 5}\n", "rag.collections: 5 is no mapping"),
    ],
)
def test_a_change_that_cannot_be_meant_is_refused(tmp_path: Path, change: str, said: str) -> None:
    """Bug: a file of comments was evaluated as the stack as it is, and passed; a number was a traceback."""
    path = tmp_path / "change.yaml"
    path.write_text(change)
    with pytest.raises(ConfigError, match=said):
        evaluation.release(load_suites(), [path])
