"""How often an alarm would ring by chance, and miss a change, on traffic made by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drift_handmade import config, log_of, searches
from handmade import CHECKS, a_public, a_run

from lab import state
from lab.alarms import Alarm, alarm_figures, share_beyond
from lab.run import Run
from stack.drift.config import Detector, DriftConfig, Threshold
from stack.drift.monitor import Monitor, Reference, distance_of, save, values_of

REFERENCE = searches(400, seed=1)


def nearest(consecutive: int = 1, **threshold: object) -> DriftConfig:
    detector = {"signal": "dense", "distance": "wasserstein", "threshold": threshold}
    return config(window=50, consecutive=consecutive, detectors={"nearest": detector})


def rings(of: DriftConfig) -> float:
    return Alarm(of, REFERENCE).rings_per_hour(searches_per_second=10)


def test_a_limit_that_nothing_exceeds_never_rings() -> None:
    assert rings(nearest(kind="fixed", value=5.0)) == pytest.approx(0, abs=1e-6)


def test_a_limit_below_the_usual_distance_rings_with_every_window() -> None:
    assert rings(nearest(kind="fixed", value=0.0)) == pytest.approx(10 * 3600 / 50)
    assert rings(nearest(consecutive=3, kind="fixed", value=0.0)) == pytest.approx(10 * 3600 / 50)


def test_a_limit_that_one_window_in_five_exceeds_rings_with_one_in_five() -> None:
    assert rings(nearest(kind="null", share=0.8)) / 720 == pytest.approx(0.2, rel=0.4)


def test_windows_in_a_row_ring_with_the_power_of_their_number() -> None:
    once, twice = (rings(nearest(n, kind="null", share=0.8)) for n in (1, 2))
    assert twice / 720 == pytest.approx((once / 720) ** 2)


def test_detectors_add_up() -> None:
    one = nearest(kind="null", share=0.8)
    detector = one.detectors["nearest"]
    two = one.model_copy(update={"detectors": {"a": detector, "b": detector}})
    assert rings(two) == pytest.approx(2 * rings(one))


SHIFTED = searches(300, seed=2, shifted=0.4)


def test_an_alarm_that_always_rings_is_never_silent_and_one_that_never_rings_always() -> None:
    assert Alarm(nearest(kind="fixed", value=0.0), REFERENCE).silent_share(SHIFTED) == 0
    assert Alarm(nearest(kind="fixed", value=50.0), REFERENCE).silent_share(SHIFTED) == 1


def test_without_a_change_it_is_silent_as_often_as_its_limit_says() -> None:
    assert Alarm(nearest(kind="null", share=0.8), REFERENCE).silent_share(searches(300, seed=3)) > 0.6


def test_windows_that_show_a_change_often_only_are_silent_more_often_in_a_row() -> None:
    """Exploit: an alarm that never rings by chance, and for a change with luck only."""
    once, thrice = (silent(n, often("dense")) for n in (1, 3))
    assert 0.2 < once < 0.8
    assert 1 - thrice == pytest.approx((1 - once) ** 3, abs=0.02)


def often(signal: str, distance: str = "wasserstein", at: float = 1.0) -> Detector:
    """One whose limit is `at` times what half of the windows of the changed traffic exceed."""
    some = Detector.model_validate({"signal": signal, "distance": distance, "threshold": {"kind": "null"}})
    before, after = values_of(REFERENCE, some), values_of(SHIFTED, some)
    windows = (np.random.default_rng(seed).permutation(len(SHIFTED))[:50] for seed in range(40))
    limit = at * float(np.median([distance_of(some)(before[50:], after[rows]) for rows in windows]))
    return some.model_copy(update={"threshold": Threshold(kind="fixed", value=limit)})


def alarm_of(consecutive: int, *detectors: Detector) -> DriftConfig:
    named = {f"detector-{place}": detector for place, detector in enumerate(detectors)}
    return nearest(consecutive, kind="fixed", value=0.0).model_copy(update={"detectors": named})


def silent(consecutive: int, *detectors: Detector) -> float:
    return Alarm(alarm_of(consecutive, *detectors), REFERENCE).silent_share(SHIFTED)


@pytest.mark.parametrize("consecutive", [1, 3])
def test_a_detector_under_several_names_is_silent_as_often_as_under_one(consecutive: int) -> None:
    """Exploit: a detector that misses a half, under three names, counted as if it missed an eighth."""
    one, other = often("dense"), often("sparse")
    assert silent(consecutive, one, one, one) == silent(consecutive, one)
    assert silent(consecutive, one, other, one, other) == silent(consecutive, one, other)


@pytest.mark.parametrize("consecutive", [1, 2])
def test_detectors_of_different_things_are_silent_together_as_often_as_chance_has_it(consecutive: int) -> None:
    one, other = often("dense"), often("sparse")
    expected = silent(consecutive, one) * silent(consecutive, other)
    assert silent(consecutive, one, other) == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize("consecutive", [1, 2])
def test_detectors_of_the_same_thing_are_silent_together_as_often_as_in_the_monitor(consecutive: int) -> None:
    """Exploit: a detector under several names with a limit for each, and another distance of the same scores."""
    alike = [*(often("dense", at=part) for part in (0.95, 1.0, 1.05)), often("dense", "psi")]
    together = silent(consecutive, *alike)
    assert together == pytest.approx(in_the_monitor(consecutive, *alike), abs=0.1)
    assert together > 2 * np.prod([silent(consecutive, one) for one in alike])


def in_the_monitor(consecutive: int, *detectors: Detector) -> float:
    """The share of many windows of the changed traffic at which the monitor's alarm is silent."""
    alarm = alarm_of(consecutive, *detectors)
    monitor = Monitor(alarm, Reference(REFERENCE, alarm))
    windows = (SHIFTED[np.random.default_rng(seed).permutation(len(SHIFTED))[:50]] for seed in range(100, 300))
    looked = [one for window in windows for one in monitor.take(window)]
    return float(np.mean([not one.drift for one in looked[consecutive - 1 :]]))


def test_one_detector_that_rings_is_enough() -> None:
    one = nearest(kind="fixed", value=50.0)
    rings = one.detectors["nearest"].model_copy(update={"threshold": Threshold(kind="fixed", value=0.0)})
    two = one.model_copy(update={"detectors": {**one.detectors, "rings": rings}})
    assert Alarm(two, REFERENCE).silent_share(SHIFTED) == 0


@pytest.mark.parametrize("distribution", ["normal", "gamma"])
def test_a_share_that_is_too_small_to_be_counted_is_no_nothing(distribution: str) -> None:
    dice = np.random.default_rng(0)
    many = dice.normal(1, 0.1, 200_000) if distribution == "normal" else dice.gamma(4, 0.05, 200_000)
    limit = float(np.quantile(many, 0.999))
    assert (many[:300] > limit).sum() <= 1
    assert 0.0003 < share_beyond(many[:300], limit) < 0.003


def test_distances_that_are_all_the_same() -> None:
    assert share_beyond(np.full(10, 0.2), 0.1) == 1
    assert share_beyond(np.full(10, 0.2), 0.2) == 0


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = a_run(tmp_path / "run")
    written = nearest(kind="fixed", value=0.0)
    (run.applied / "drift.yaml").write_text(json.dumps(written.model_dump(mode="json", by_alias=True)))
    (run.folder / state.REFERENCE).parent.mkdir(exist_ok=True)
    save(REFERENCE, run.folder / state.REFERENCE)
    return run


CHANGE = 2e6
CHECK = {"kind": "false_alarms", "id": "by_chance", "title": "t", "searches_per_second": 1, "value": 1.0}


def figures(run: Run, *checks: dict[str, Any]) -> dict[str, float | None]:
    return alarm_figures(run, a_public(checks), CHANGE - 50, lambda _: None)


def test_the_monitor_is_the_one_in_service_and_its_reference_that_of_the_run(run: Run) -> None:
    assert figures(run, CHECK) == {"by_chance": pytest.approx(3600 / 50)}


def test_without_such_a_check_nothing_is_drawn(run: Run) -> None:
    (run.applied / "drift.yaml").unlink()
    assert figures(run, *CHECKS) == {}


def test_a_reference_that_is_too_small_for_the_windows_is_no_figure(run: Run) -> None:
    save(REFERENCE[:60], run.folder / state.REFERENCE)
    assert figures(run, CHECK) == {"by_chance": None}


MISSED = {"kind": "missed_alarms", "id": "too_weak", "title": "t", "after_seconds": 50, "value": 0.2}


def test_only_what_came_after_the_change_counts(run: Run) -> None:
    log_of(run.applied / "searches.jsonl", searches(100, seed=1))  # before it, and this limit rings for nothing else
    log_of(run.applied / "searches.jsonl", searches(100, seed=2))
    assert figures(run, MISSED) == {"too_weak": 0.0}
    (run.applied / "searches.jsonl").unlink()
    log_of(run.applied / "searches.jsonl", searches(100, seed=1))
    assert figures(run, MISSED) == {"too_weak": None}


def test_without_searches_there_is_no_figure(run: Run) -> None:
    """Exploit: stop what would have to be seen."""
    assert figures(run, MISSED) == {"too_weak": None}
