"""Calibrations: what they do to a score, how they are fitted, how their error is measured, what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from stack.moderation.calibration import (
    Calibration,
    Isotonic,
    NoCalibration,
    Platt,
    calibrate,
    expected_calibration_error,
    fit_isotonic,
    fit_platt,
    reliability,
)


def biased(slope: float, offset: float, texts: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose true probability is sigmoid(slope · logit(score) + offset), and labels drawn from it."""
    random = np.random.default_rng(7)
    odds = random.normal(0, 2, texts)
    truth = 1 / (1 + np.exp(-(slope * odds + offset)))
    return 1 / (1 + np.exp(-odds)), random.random(texts) < truth


def test_platt_with_slope_one_and_no_offset_changes_nothing() -> None:
    scores = np.array([0.01, 0.4, 0.99])
    assert calibrate(Platt(kind="platt", slope=1), scores) == pytest.approx(scores)


def test_a_squeezed_slope_pulls_every_score_into_the_band() -> None:
    scores = calibrate(Platt(kind="platt", slope=0.1, offset=0.3), np.array([0.0, 0.02, 0.5, 0.98, 1.0]))
    assert ((scores > 0.2) & (scores < 0.85)).all()
    assert ((scores[1:4] > 0.4) & (scores[1:4] < 0.7)).all()


def test_platt_finds_the_slope_and_offset_that_made_the_labels() -> None:
    fitted = fit_platt(*biased(1.7, -0.4))
    assert fitted.slope == pytest.approx(1.7, abs=0.15)
    assert fitted.offset == pytest.approx(-0.4, abs=0.15)


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_a_fitted_calibration_has_a_fraction_of_the_error(fit) -> None:
    scores, labels = biased(0.4, 0.8)
    half = len(scores) // 2
    fitted = fit(scores[:half], labels[:half])
    before = expected_calibration_error(scores[half:], labels[half:])
    after = expected_calibration_error(calibrate(fitted, scores[half:]), labels[half:])
    assert before > 0.1
    assert after < 0.04


def test_separable_texts_give_a_finite_slope() -> None:
    fitted = fit_platt(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]))
    assert 0 < fitted.slope < 5


def test_one_label_alone_cannot_be_calibrated() -> None:
    with pytest.raises(ValueError, match="both labels"):
        fit_platt(np.array([0.1, 0.9]), np.array([1, 1]))


def test_scores_that_fall_where_texts_are_abusive_are_refused() -> None:
    with pytest.raises(ValueError, match="fall"):
        fit_platt(np.array([0.9, 0.8, 0.7, 0.3, 0.2, 0.1]), np.array([0, 0, 0, 1, 1, 1]))


def test_a_perfect_forecast_has_no_error_and_a_wrong_one_has_all() -> None:
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    assert expected_calibration_error(labels.astype(float), labels, bins=2) == 0
    assert expected_calibration_error(1 - labels.astype(float), labels, bins=2) == 1


def test_bins_hold_the_same_number_of_texts_wherever_the_scores_are() -> None:
    scores = np.concatenate([np.full(90, 0.01), np.linspace(0.1, 0.9, 10)])
    table = reliability(scores, np.zeros(100), bins=10)
    assert [row.texts for row in table] == [10] * 10
    assert table[-1].mean_probability == pytest.approx(0.5)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20),
    st.sampled_from(
        [
            NoCalibration(kind="none"),
            Platt(kind="platt", slope=0.1, offset=2),
            Platt(kind="platt", slope=50, offset=-3),
            Isotonic(kind="isotonic", x=[0.2, 0.8], y=[0.1, 0.9]),
        ]
    ),
)
def test_every_calibration_gives_probabilities_and_keeps_the_order(scores, calibration) -> None:
    found = calibrate(calibration, np.sort(np.array(scores)))
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"kind": "isotonic", "x": [0.1, 0.5], "y": [0.1]}, "at least 2"),
        ({"kind": "isotonic", "x": [0.1, 0.5], "y": [0.1, 0.2, 0.3]}, "one y for each x"),
        ({"kind": "isotonic", "x": [0.5, 0.1], "y": [0.1, 0.2]}, "must rise"),
        ({"kind": "isotonic", "x": [0.1, 0.5], "y": [0.3, 0.2]}, "must not fall"),
        ({"kind": "isotonic", "x": [0.1, 1.5], "y": [0.1, 0.2]}, "from 0 to 1"),
        ({"kind": "platt", "slope": -1}, "greater than 0"),
        ({"kind": "temperature"}, "platt"),
    ],
)
def test_what_is_no_calibration_is_refused_with_the_reason(given: dict, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        TypeAdapter(Calibration).validate_python(given)
