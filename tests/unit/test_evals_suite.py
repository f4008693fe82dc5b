"""Suites: what is shipped can be read, and what is wrong is told with its place."""

from pathlib import Path

import pytest
from evals_handmade import suite

from lab import code, evaluation, fault_table
from stack.evals.suite import load_suites
from stack.settings import ConfigError


def test_a_changed_tolerance_makes_another_hash_and_another_layout_does_not(tmp_path: Path) -> None:
    first = suite(tmp_path)
    path = tmp_path / "texts.yaml"
    path.write_text("# a remark\n" + path.read_text())
    assert suite(tmp_path).hash == first.hash
    assert suite(tmp_path, metrics={"right": {"score": "right", "tolerance": 0.06}}).hash != first.hash


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"examples": {"quick": 10}}, "no size for full"),
        ({"examples": {"quick": 30, "full": 20}}, "1 <= quick <= full"),
        ({"tasks": "moderation"}, "did you mean 'task'"),
        ({"task": "judging"}, "task"),
        ({"metrics": {}}, "metrics"),
        ({"metrics": {"right": {"score": "right", "tolerance": -1}}}, "tolerance"),
        ({"metrics": {"a": {"score": "right", "tolerance": 0, "by_collection": True}}}, "the suite has no collections"),
        ({"task": "guard"}, "collections: the task guard asks at least one"),
        ({"task": "guard", "collections": ["manuals", "articles"]}, "the task guard asks one, and here are 2"),
        ({"metrics": {"at once": {"score": "right", "tolerance": 0}}}, "'at once' is always looked at"),
        ({"task": "preference", "collections": ["manuals"]}, "a suite of the task preference needs it"),
        (
            {"task": "preference", "collections": ["manuals"], "judge": {"labelled": 20, "rounds": 1, "needed": 2}},
            "nothing could be confirmed",
        ),
    ],
)
def test_a_broken_suite_is_told_with_its_file(tmp_path: Path, changes: dict, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        suite(tmp_path, **changes)
    assert told in str(caught.value)
    assert "texts.yaml" in str(caught.value)


def test_an_unknown_suite_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown suite 'retrieva'; did you mean 'retrieval'"):
        load_suites(["retrieva"])
    with pytest.raises(ConfigError, match="no suite in this folder"):
        load_suites(folder=tmp_path)


def test_a_release_has_only_what_its_suites_need(tmp_path: Path) -> None:
    of = evaluation.release([suite(tmp_path)])
    assert list(of.configs) == ["moderation", "gateway"]
    of = evaluation.release(load_suites(["refusal"]))
    assert set(of.configs["rag"]["collections"]) == {"encyclopedia", "articles", "manuals"}
    of = evaluation.release(load_suites(["preference"]))
    assert set(of.configs["rag"]["collections"]) == {"articles"}


def test_a_change_of_an_unknown_service_is_refused(tmp_path: Path) -> None:
    change = tmp_path / "change.yaml"
    change.write_text("retrieval: {limits: {asks: 1}}\n")
    with pytest.raises(ConfigError, match="retrieval: no service"):
        evaluation.release(load_suites(), [change])
    with pytest.raises(ConfigError, match="cannot read it"):
        evaluation.release(load_suites(), [tmp_path / "none.yaml"])
    for text in ("rag:\n", "- rag\n", "rag: 3\n"):
        change.write_text(text)
        with pytest.raises(ConfigError, match=r"merge patch|keys and values"):
            evaluation.release(load_suites(), [change])


@pytest.mark.parametrize(
    ("suites", "patch", "told"),
    [
        (["conversation"], {"rag": {"limits": {"asks": 1}}}, "rag: no suite of this run asks this service"),
        (None, {"gate": {"every_seconds": 9}}, "gate: no suite"),
        (["preference"], {"rag": {"collections": {"encyclopedia": {"active": "green"}}}}, "encyclopedia: no suite"),
        (
            None,
            {"gateway": {"moderation": {"base_url": "http://127.0.0.1:9"}}},
            "base_url: each run sets it",
        ),
        (None, {"gateway": {"moderation": None}}, "moderation: each run sets it"),
        (None, {"moderation": {"review": {"url": None}}}, "review.url: each run sets it"),
    ],
)
def test_a_change_that_no_suite_would_see_is_refused(suites, patch, told) -> None:
    """Bug: it was left out in silence, and the release passed."""
    with pytest.raises(ConfigError, match=told):
        evaluation.release(load_suites(suites), patches=[patch])


@pytest.mark.parametrize(
    "patch",
    [
        {"rag": {"collections": {"manuals": {"indexes": {"blue": {"chunk": None}}}}}},
        {"gateway": {"assistants": {}}},
    ],
)
def test_a_change_of_nothing_is_refused(patch) -> None:
    """Bug: null is a merge patch's word for the default, and a release that its author meant otherwise passed."""
    with pytest.raises(ConfigError, match="it changes nothing"):
        evaluation.release(load_suites(), patches=[patch])


def test_another_configuration_or_model_is_another_identity() -> None:
    suites = load_suites(["refusal"])
    plain = evaluation.identity(evaluation.release(suites))
    assert evaluation.identity(evaluation.release(suites)) == plain
    other = evaluation.identity(evaluation.release(suites, patches=[{"rag": {"prompt": {"context_tokens": 64}}}]))
    assert other.configuration != plain.configuration
    assert (other.weights, other.code) == (plain.weights, plain.code)
    swapped = fault_table.load_faults(["embedding-swap"])["embedding-swap"].change
    assert evaluation.identity(evaluation.release(suites, patches=[swapped])).weights != plain.weights


def test_a_further_fault_or_suite_is_not_another_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all the others would be asked again."""
    release = evaluation.release(load_suites(["refusal"]))
    for module in (code, evaluation):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(code, "_digest", code._digest.__wrapped__)  # what it knows is of the real checkout
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/deployment.py").touch()
    before = evaluation.identity(release)
    for name in ("faults", "suites"):
        (tmp_path / "stack/evals" / name).mkdir(parents=True)
        (tmp_path / "stack/evals" / name / "one-more.yaml").write_text("about: another")
    assert evaluation.identity(release) == before
    for changed in ("stack/evals/gate.py", "lab/deployment.py"):
        (tmp_path / changed).write_text("# otherwise")
        now = evaluation.identity(release)
        assert now != before
        before = now
