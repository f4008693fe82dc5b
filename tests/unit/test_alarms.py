"""How often an alarm would ring by chance, on traffic made by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from drift_handmade import config, lines, searches
from handmade import CHECKS, a_public, a_run

from lab import state
from lab.alarms import alarm_figures, rings_per_hour
from lab.run import Run
from stack.drift.config import DriftConfig
from stack.drift.monitor import save
from stack.drift.traffic import Searches

REFERENCE, USUAL = searches(400, seed=1), searches(900, seed=2)


def nearest(consecutive: int = 1, **threshold: object) -> DriftConfig:
    detector = {"signal": "dense", "distance": "wasserstein", "threshold": threshold}
    return config(window=50, consecutive=consecutive, detectors={"nearest": detector})


def rings(of: DriftConfig, usual: Searches = USUAL) -> float | None:
    return rings_per_hour(of, REFERENCE, usual, searches_per_second=10)


def test_a_limit_that_nothing_exceeds_never_rings() -> None:
    assert rings(nearest(kind="fixed", value=5.0)) == 0


def test_a_limit_below_the_usual_distance_rings_with_every_window() -> None:
    assert rings(nearest(kind="fixed", value=0.0)) == 10 * 3600 / 50
    assert rings(nearest(consecutive=3, kind="fixed", value=0.0)) == 10 * 3600 / 50


def test_windows_in_a_row_ring_with_the_power_of_their_number() -> None:
    once, twice = (rings(nearest(n, kind="null", share=0.8)) for n in (1, 2))
    assert once is not None
    assert twice is not None
    share = once / 720
    assert 0 < share < 1
    assert twice / 720 == pytest.approx(share**2)


def test_detectors_add_up() -> None:
    one = nearest(kind="null", share=0.8)
    detector = one.detectors["nearest"]
    two = one.model_copy(update={"detectors": {"a": detector, "b": detector}})
    assert rings(two) == pytest.approx(2 * (rings(one) or 0))


def test_too_few_searches_for_a_window_are_no_figure() -> None:
    assert rings(nearest(kind="fixed", value=5.0), USUAL[:49]) is None


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = a_run(tmp_path / "run")
    written = nearest(kind="fixed", value=0.0).model_copy(update={"traffic": Path("../traffic/searches.jsonl")})
    (run.applied / "drift.yaml").write_text(json.dumps(written.model_dump(mode="json", by_alias=True)))
    save(REFERENCE, run.folder / state.REFERENCE)
    traffic(run).parent.mkdir()
    traffic(run).write_bytes(lines(USUAL))
    return run


def traffic(run: Run) -> Path:
    return run.folder / "traffic/searches.jsonl"


CHECK = {"kind": "false_alarms", "id": "by_chance", "title": "t", "first_seconds": 300, "value": 1.0}


def figures(run: Run, start: float, *checks: dict[str, Any]) -> dict[str, float | None]:
    return alarm_figures(run, a_public(checks), start, lambda _: None)


def test_only_the_first_seconds_of_the_load_are_usual(run: Run) -> None:
    start = USUAL.at[100]  # one search a second
    assert figures(run, start, CHECK) == {"by_chance": pytest.approx(3600 / 50)}
    nobody_asked = USUAL.at[-1] + 1
    assert figures(run, nobody_asked, CHECK) == {"by_chance": None}


def test_a_log_that_was_full_and_renamed_meanwhile_counts_too(run: Run) -> None:
    traffic(run).rename(traffic(run).with_name("searches.jsonl.1"))
    traffic(run).write_bytes(lines(USUAL[:1]))
    assert figures(run, USUAL.at[100], CHECK) == {"by_chance": pytest.approx(3600 / 50)}


def test_without_such_a_check_nothing_is_drawn(run: Run) -> None:
    (run.applied / "drift.yaml").unlink()
    assert figures(run, 0.0, *CHECKS) == {}


def test_a_log_that_is_not_there_is_no_figure(run: Run) -> None:
    traffic(run).unlink()
    assert figures(run, 0.0, CHECK) == {"by_chance": None}


def test_a_reference_that_is_too_small_for_the_windows_is_no_figure(run: Run) -> None:
    save(REFERENCE[:60], run.folder / state.REFERENCE)
    assert figures(run, USUAL.at[0], CHECK) == {"by_chance": None}
