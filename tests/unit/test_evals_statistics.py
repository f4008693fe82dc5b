"""Intervals of differences: they hold what they promise, and cost nothing where nothing changed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.evals.statistics import auc, calibration_error, mean, p95, paired, smallest_effect

NOTHING = np.full(200, np.nan)
scores = st.lists(st.floats(0, 1), min_size=2, max_size=60).map(np.array)


@given(scores)
@settings(deadline=None, max_examples=50)
def test_no_change_has_an_interval_of_no_width(values: np.ndarray) -> None:
    found = paired(mean, values, values, np.full(len(values), np.nan))
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(100):
        before = rng.normal(0.5, 0.2, 80)
        found = paired(mean, before + rng.normal(-0.1, 0.15, 80), before, NOTHING[:80])
        held += found.low <= -0.1 <= found.high
    assert 88 <= held <= 100


def test_pairs_see_what_averages_of_two_samples_do_not() -> None:
    rng = np.random.default_rng(6)
    before = rng.normal(0, 1, 200)
    found = paired(mean, before - 0.1 + rng.normal(0, 0.1, 200), before, NOTHING)
    assert found.high < -0.08, "two samples of this size would have a standard error of 0.1"


def test_auc_is_of_those_with_a_label() -> None:
    labels = np.array([1.0, 0, 1, 0, np.nan])
    assert auc(np.array([0.9, 0.1, 0.8, 0.2, 0.5]), labels) == 1
    assert auc(np.array([0.1, 0.9, 0.2, 0.8, 0.5]), labels) == 0
    assert np.isnan(auc(np.array([0.1, 0.9]), np.array([1.0, 1.0])))


def test_probabilities_that_come_true_have_no_calibration_error() -> None:
    rng = np.random.default_rng(7)
    said = rng.uniform(0, 1, 20_000)
    were = (rng.uniform(0, 1, 20_000) < said).astype(float)
    assert calibration_error(said, were) < 0.02
    assert calibration_error(np.full(1000, 0.5), np.ones(1000)) == pytest.approx(0.5)
    assert np.isnan(calibration_error(np.full(10, 0.5), np.full(10, np.nan))), "or no label would be the best of all"


def test_p95_is_what_most_stay_below() -> None:
    assert p95(np.arange(101.0), NOTHING[:101]) == 95


def test_an_effect_of_the_told_size_is_seen_in_four_of_five() -> None:
    rng = np.random.default_rng(8)
    before = (rng.uniform(0, 1, 200) < 0.5).astype(float)
    effect = smallest_effect(before, tolerance=0.02)
    seen = 0
    for _ in range(200):
        change = rng.normal(-effect, before.std(ddof=1), 200)  # varies as much as the scores do
        difference, error = change.mean(), change.std(ddof=1) / np.sqrt(200)
        seen += difference + 1.96 * error < -0.02
    assert 140 <= seen <= 180
    assert smallest_effect(before[:50], 0.02) > effect
    assert smallest_effect(before[:1], 0.02) == float("inf")


def test_a_baseline_without_an_error_promises_no_more_than_its_size_allows() -> None:
    """Bug: where no example failed before, the smallest loss that is seen was told to be the tolerance itself."""
    effect = smallest_effect(np.ones(100), tolerance=0.03)
    assert 0.1 < effect < 0.2
    rng = np.random.default_rng(4)
    seen = 0
    for _ in range(200):
        lost = (rng.uniform(0, 1, 100) < effect).astype(float)
        seen += -lost.mean() + 1.96 * lost.std(ddof=1) / 10 < -0.03
    assert 140 <= seen <= 180
    assert 0.05 < smallest_effect(np.ones(100), tolerance=0) < 0.1, "bug: nothing at all was said to be seen"


def test_samples_of_different_examples_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="same examples"):
        paired(mean, np.ones(3), np.ones(4), np.ones(3))


def test_of_three_examples_all_have_to_be_lost() -> None:
    """Bug: .75 was promised, where .42 of such losses are seen."""
    assert smallest_effect(np.ones(3), tolerance=0.03) == pytest.approx(0.8 ** (1 / 3))
    two = paired(mean, np.array([0.0, 0, 1]), np.ones(3), NOTHING[:3])
    three = paired(mean, np.zeros(3), np.ones(3), NOTHING[:3])
    assert two.high == 0
    assert three.high == -1


def test_no_more_than_there_is_can_be_lost() -> None:
    half = np.array([0.0, 1.0] * 4)
    assert smallest_effect(half, tolerance=0, room=0.5) == float("inf"), "eight examples see no loss of a half"
    assert smallest_effect(half, tolerance=0) < 0.6
