"""`lab eval` from the command line to the exit code: a run, its baseline, what is kept of it and compared later."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from click.testing import Result
from evals_handmade import suite
from local_http import Asked, answering
from typer.testing import CliRunner

import lab.run
from lab import cli_eval, doctor, evaluation
from lab.cli import app
from stack.evals import baseline, tracking
from stack.evals.errors import TrackingFailed
from stack.evals.example import Example
from stack.evals.stack_client import Addresses
from stack.evals.tasks import moderation


class Release:
    """A gateway that lets `share` of 40 harmless texts through."""

    def __init__(self) -> None:
        self.share = 1.0
        self.examples = [Example(f"e{n:02}", {"text": str(n)}, {"abusive": False}, ("plain",)) for n in range(40)]
        self.asked = 0

    def __call__(self, asked: Asked) -> tuple[int, object]:
        self.asked += 1
        decision = "allow" if int(asked.json["input"]) < 40 * self.share else "block"
        said = {"decision": decision, "tier": 2, "score": 0.1, "degraded": False, "flagged": decision != "allow"}
        return 200, {"results": [said | {"categories": {}, "cost": {"tiers": [1, 2], "judge_tokens": 0}}]}


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """What is deployed in these tests, with one suite and a place for baselines and runs of its own."""
    one, of, numbers = Release(), suite(tmp_path), count()

    @contextmanager
    def deployed(*_: object) -> Iterator[Addresses]:
        with answering(one) as local:
            yield Addresses(local.url, "key")

    for module in (cli_eval, evaluation):
        monkeypatch.setattr(module, "load_suites", lambda names=None: [of])
    for name in ("read", "write", "without_suite"):
        monkeypatch.setattr(baseline, name, partial(getattr(baseline, name), folder=tmp_path / "baselines"))
    monkeypatch.setattr(moderation.Moderation, "examples", lambda *_: one.examples)
    monkeypatch.setattr(evaluation, "EVALUATIONS", tmp_path / "runs/evaluations")
    monkeypatch.setattr(evaluation, "deployed", deployed)
    monkeypatch.setattr(evaluation, "new_id", lambda: f"20261101-0000{next(numbers):02}-aaaa")
    monkeypatch.setattr(lab.run, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(doctor, "require_setup", lambda: None)
    monkeypatch.setenv("COLUMNS", "200")
    return one


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["eval", *arguments])


def run(*arguments: str) -> Result:
    return call("run", "--track", "off", *arguments)


def payload(result: Result) -> dict:
    return json.loads(result.stdout)


@pytest.fixture
def compared(release: Release) -> Release:
    """One whose baseline was made."""
    assert call("baseline", "--quick", "--track", "off").exit_code == 0
    return release


def test_without_a_baseline_nothing_is_asked_and_nothing_passes(release: Release) -> None:
    done = run()
    assert (done.exit_code, release.asked) == (3, 0)
    assert "no baseline at" in done.stderr


def test_what_is_no_worse_passes_and_what_is_worse_is_blocked(compared: Release, tmp_path: Path) -> None:
    passed = run()
    assert passed.exit_code == 0
    assert "Pass: nothing is worse than the baseline" in passed.stdout
    compared.share = 0.5
    blocked = run("--label", "worse")
    assert blocked.exit_code == 1
    assert "BLOCK: worse than the baseline, beyond tolerance and chance, in texts (right)." in blocked.stdout
    rows = [line.split()[:3] for line in blocked.stdout.splitlines() if line.startswith("texts")]
    assert rows[0] == ["texts", "right", "BLOCK"], "what blocks comes first"
    (folder,) = {path.parent for path in (tmp_path / "runs").rglob("report.md") if "BLOCK" in path.read_text()}
    assert {"report.html", "junit.xml", "texts.jsonl"} <= {path.name for path in folder.iterdir()}


def test_history_tells_what_became_of_each_run(compared: Release) -> None:
    run()
    compared.share = 0.5
    run("--label", "worse")
    compared.examples = compared.examples[:-1]
    run("--label", "other questions")
    told = payload(call("history", "--json"))["runs"]
    assert [(one["label"], one["outcome"]) for one in told] == [
        ("baseline", None), ("", "pass"), ("worse", "block"), ("other questions", None),
    ]  # fmt: skip
    assert told[-1]["finished"] is None
    assert "not finished" in call("history").stdout


def test_a_run_of_other_examples_is_not_judged_and_is_once_they_are_back(compared: Release) -> None:
    """Bug: rows of examples that nobody asks any more stayed in the run, which was never judged again."""
    right, other = compared.examples, Example("other", {"text": "1"}, {"abusive": False}, ("plain",))
    compared.examples = [*right, other]
    done = run()
    assert done.exit_code == 3
    assert "NOT JUDGED, and so it may not ship" in done.stdout
    assert "1 examples are not in the baseline, the first is other" in done.stdout
    compared.examples, compared.asked = right, 0
    assert run().exit_code == 0
    assert compared.asked == 0, "the others are there from before"


def test_a_baseline_with_failures_replaces_none(compared: Release, tmp_path: Path) -> None:
    (path,) = (tmp_path / "baselines").iterdir()
    content = path.read_bytes()
    compared.examples = [*compared.examples, Example("no number", {"text": "x"}, {"abusive": False}, ("plain",))]
    done = call("baseline", "--quick", "--track", "off")
    assert done.exit_code == 3
    assert "1 of 41 examples failed" in done.stderr
    assert path.read_bytes() == content


def test_a_run_is_compared_again_with_its_baseline_or_with_another_run(compared: Release) -> None:
    compared.share = 0.5
    half = payload(run("--json", "--label", "half"))["run"]
    compared.share = 0.4
    less = payload(run("--json", "--label", "less"))["run"]
    assert call("compare").exit_code == 1
    found = payload(call("compare", less, half, "--json"))
    (change,) = [one for one in found["suites"][0]["findings"] if one["metric"] == "right"]
    assert (change["baseline"], change["candidate"]) == (0.5, 0.4)
    assert call("compare", half, less).exit_code == 0
    assert call("compare", half, half).exit_code == 0


def test_what_cannot_be_compared_is_told(compared: Release) -> None:
    nothing = call("compare")
    assert (nothing.exit_code, "no run yet" in nothing.stderr) == (3, True)
    assert call("compare", "20261101-000000-none").exit_code == 2
    compared.examples = compared.examples[:-1]
    unfinished = payload(run("--json"))["run"]
    for arguments in ([], [unfinished], [unfinished, unfinished]):
        done = call("compare", *arguments)
        assert done.exit_code == 3
        assert f"the run {unfinished} did not come to its end" in done.stderr


def test_a_verdict_stands_whether_it_could_be_recorded_or_not(compared: Release, monkeypatch) -> None:
    """Bug: a tracking server that did not answer kept the verdict back for minutes."""

    def unreachable(*_: object) -> None:
        raise TrackingFailed("the run was not recorded at http://127.0.0.1:1")

    monkeypatch.setattr(tracking, "record", unreachable)
    done = call("run", "--track", "http://127.0.0.1:1")
    assert done.exit_code == 0
    assert "Pass: nothing is worse" in done.stdout
    assert "was not recorded" in done.stderr


def test_an_interrupted_run_goes_on_and_says_so_with_its_exit_code(compared: Release, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "verdict", interrupted)
        assert run().exit_code == 130
    assert call("compare").exit_code == 3
    compared.asked = 0
    assert run().exit_code == 0
    assert compared.asked == 0, "all had been asked"


@pytest.mark.parametrize(
    ("url", "code", "told"),
    [
        ("ftp://127.0.0.1", 2, "write a URL such as"),
        ("http://127.0.0.1:abc", 2, "write a URL such as"),
        ("http://127.0.0.1:70000", 2, "write a URL such as"),
        ("http://me:secret@127.0.0.1", 2, "EVAL_JUDGE_KEY"),
        ("http://127.0.0.1:1", 3, "cannot be reached"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_told_before_anything_is_started(compared, url, code, told) -> None:
    """Bug: after five suites."""
    compared.asked = 0
    done = run("--judge", url)
    assert (done.exit_code, compared.asked) == (code, 0)
    assert told in done.stderr
    assert "secret" not in done.stderr.replace(url, "")


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, {"data": [{"id": "large"}]}, "has no model 'smollm2-135m-instruct'; known: large"),
        (401, {}, "answered 401: is the key in EVAL_JUDGE_KEY?"),
        (404, {}, "the URL is the one without /v1"),
        (200, {"models": []}, "is no list of models"),
        (200, b"<html>", "is no list of models"),
    ],
)
def test_so_is_one_that_has_not_the_model(compared, status, body, told) -> None:
    with answering(lambda asked: (status, body)) as local:
        done = run("--judge", local.url)
    assert done.exit_code == 3
    assert told in done.stderr
