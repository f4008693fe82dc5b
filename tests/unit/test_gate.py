"""The release gate: what it says of releases, and when it looks again."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from stack.gate.app import Rounds
from stack.gate.config import GateConfig, Means, Paired
from stack.gate.round import Round, Verdict, fingerprint, load_releases, verdict
from stack.settings import ConfigError
from stack.telemetry.metrics import GateMetrics

HARD, EASY = 0.6, 0.98  # means of a set that tells releases apart, and of one that does not


def scores(mean: float, n: int, seed: int = 0) -> np.ndarray:
    """0 or 1 for each question."""
    return (np.random.default_rng(seed).random(n) < mean).astype(float)


def worse(before: np.ndarray, share: float) -> np.ndarray:
    """The same, where every so many-th question that was answered no longer is."""
    after = before.copy()
    answered = np.flatnonzero(before)
    after[answered[:: round(1 / share)]] = 0.0
    return after


SHOWN = Paired(kind="paired", tolerance=0.01, blocks_when="loss_is_shown")
POSSIBLE = Paired(kind="paired", tolerance=0.01, blocks_when="loss_is_possible")


def test_a_loss_on_many_questions_is_shown_and_blocked() -> None:
    before = scores(HARD, 1000)
    said = verdict("r2", worse(before, 0.1), before, SHOWN)
    assert said.blocked
    assert said.low < said.difference < said.high < -0.01


def test_the_same_loss_on_twenty_questions_is_not_shown() -> None:
    before = scores(HARD, 20)
    assert not verdict("r2", worse(before, 0.1), before, SHOWN).blocked


def test_a_gate_that_blocks_what_may_be_worse_blocks_what_is_as_good_too() -> None:
    before = scores(HARD, 20)
    swapped = before.copy()
    swapped[[np.flatnonzero(before)[0], np.flatnonzero(before == 0)[0]]] = [0.0, 1.0]
    assert verdict("r2", swapped, before, POSSIBLE).blocked
    assert not verdict("r2", swapped, before, SHOWN).blocked


def test_means_know_no_chance() -> None:
    before = scores(HARD, 20)
    rule = Means(kind="means", tolerance=0.01)
    assert verdict("r2", worse(before, 0.1), before, rule).blocked
    assert not verdict("r2", before, before, rule).blocked


def test_nothing_changes_nothing() -> None:
    before = scores(EASY, 200)
    said = verdict("r2", before, before, POSSIBLE)
    assert (said.difference, said.low, said.high, said.blocked) == (0.0, 0.0, 0.0, False)
    assert said.perfect == before.mean()


# ---- releases


ENCODER = {"kind": "onnx", "model": "m.onnx", "tokenizer": "t.json"}


def release(**changes: object) -> dict[str, object]:
    return {"about": "as before", "encoder": ENCODER, "fusion": {"kind": "sparse-only"}, **changes}


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    folder = tmp_path / "releases"
    folder.mkdir()
    for name in ("r1", "r2"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(release()))
    return folder


def test_a_release_that_is_not_valid_is_named(releases: Path) -> None:
    (releases / "r2.yaml").write_text(yaml.safe_dump(release(fusion={"kind": "mixed"})))
    with pytest.raises(ConfigError, match=r"r2\.yaml: fusion"):
        load_releases(releases, "r1")


def test_a_release_in_service_that_is_not_there_is_an_error_that_lists_what_is(releases: Path) -> None:
    with pytest.raises(ConfigError, match=r"no release 'r9'.*there are: r1, r2"):
        load_releases(releases, "r9")


def test_a_changed_a_new_and_a_removed_file_show(releases: Path) -> None:
    seen = [fingerprint(releases)]
    (releases / "r3.yaml").write_text(yaml.safe_dump(release()))
    seen.append(fingerprint(releases))
    (releases / "r3.yaml").write_text(yaml.safe_dump(release(about="another")))
    seen.append(fingerprint(releases))
    (releases / "r3.yaml").unlink()
    assert len({*seen}) == 3
    assert fingerprint(releases) == seen[0]


# ---- rounds


class Handmade:
    """In place of the gate itself: every candidate is as good as what is in service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rounds = 0

    def round(self, releases: dict[str, object]) -> Round:
        self.rounds += 1
        candidates = sorted(releases)[1:]
        return Round(9, 0.5, 0.4, tuple(Verdict(name, 0.5, 0.4, 0.0, -0.1, 0.1, False) for name in candidates))


@pytest.fixture
def rounds(releases: Path, monkeypatch: pytest.MonkeyPatch) -> Rounds:
    monkeypatch.setattr("stack.gate.app.Gate", lambda config, folder: Handmade(releases))
    storage = {"data": "d", "manuals": "m", "vectors": "v", "releases": "releases", "in_service": "r1"}
    config = GateConfig.model_validate(
        {"schema": 1, "listen": {"host": "127.0.0.1", "port": 9999}, "storage": storage,
         "suite": {"source": "boolq", "questions": 9}, "rule": {"kind": "means", "tolerance": 0.01}}
    )  # fmt: skip
    return Rounds(config, releases.parent, GateMetrics())


def test_a_round_is_made_once_for_the_same_releases(rounds: Rounds, releases: Path) -> None:
    assert rounds.reasons == ["the first round is not over"]
    for _ in range(3):
        rounds.look()
    assert (rounds.number, rounds.reasons) == (1, [])
    (releases / "r3.yaml").write_text(yaml.safe_dump(release()))
    rounds.look()
    assert rounds.number == 2


def test_a_release_that_is_gone_is_gone_from_the_metrics(rounds: Rounds, releases: Path) -> None:
    rounds.look()
    value = rounds._metrics.registry.get_sample_value
    assert value("gate_blocked", {"release": "r2"}) == 0
    assert value("gate_score", {"release": "r1"}) == 0.5
    assert value("gate_questions") == 9
    (releases / "r2.yaml").rename(releases / "r3.yaml")
    rounds.look()
    assert value("gate_blocked", {"release": "r2"}) is None
    assert value("gate_blocked", {"release": "r3"}) == 0


def test_a_damaged_release_leaves_the_last_verdicts(rounds: Rounds, releases: Path) -> None:
    rounds.look()
    (releases / "r2.yaml").write_text("about: [")
    with pytest.raises(ConfigError):
        rounds.look()
    assert rounds.last is not None
