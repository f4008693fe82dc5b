"""The drift monitor: silent without drift, loud with it, and never fooled by its own windows."""

import numpy as np
import pytest
from drift_handmade import config, searches

from stack.drift import distances
from stack.drift.config import DriftConfig
from stack.drift.monitor import Monitor, Reference
from stack.drift.null import Null, resample
from stack.settings import protected_paths


@pytest.mark.parametrize("name", distances.VECTORS)
def test_a_distance_of_vectors_grows_with_the_shift(name: str) -> None:
    distance = distances.VECTORS[name]
    reference = searches(300, 1).vectors + 3
    values = [distance(reference, searches(200, 2, shifted).vectors + 3) for shifted in (0.0, 1.0, 3.0)]
    assert values == sorted(values)
    assert values[2] > 1.5 * values[0]


@pytest.mark.parametrize("name", distances.SCORES)
def test_a_distance_of_scores_grows_with_the_shift(name: str) -> None:
    distance = distances.SCORES[name]
    reference = searches(300, 1).dense
    values = [distance(reference, searches(200, 2, shifted).dense) for shifted in (0.0, 1.0, 3.0)]
    assert values == sorted(values)
    assert values[2] > 5 * values[0]


def test_without_drift_distances_are_what_their_sources_say() -> None:
    one, other = searches(400, 1).vectors, searches(400, 2).vectors
    assert distances.mmd(one, other) == pytest.approx(0, abs=0.003)
    assert distances.domain_auc(one, other) == pytest.approx(0.5, abs=0.07)
    assert distances.wasserstein(np.arange(100.0), np.arange(100.0)) == 0
    assert distances.psi(np.arange(100.0), np.arange(100.0)) == 0


def test_psi_of_a_known_case() -> None:
    reference = np.repeat([0.0, 1.0], [500, 500])
    current = np.repeat([0.0, 1.0], [250, 750])
    assert distances.psi(reference, current) == pytest.approx(0.25 * np.log(1.5) + -0.25 * np.log(0.5), rel=1e-6)


def test_what_chance_does_depends_on_the_size_of_the_window() -> None:
    values = searches(2000, 3).dense
    small, large = (resample(values, size, distances.wasserstein, 80, 1000).quantile(0.99) for size in (50, 500))
    assert small > 2 * large


def test_a_null_tells_how_usual_a_distance_is() -> None:
    null = Null(np.arange(100.0))
    assert null.p_value(1000) == pytest.approx(1 / 101)
    assert null.p_value(0) == 1
    assert null.middle == 49.5


def test_a_reference_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="windows of 100 need at least twice as many"):
        Reference(searches(150, 1), config())
    with pytest.raises(ValueError, match="need 300"):
        resample(np.zeros(200), 100, distances.wasserstein, 5, 200)


def test_no_alarm_in_twenty_windows_without_drift_and_one_within_two_with_it() -> None:
    monitor = Monitor(config(), Reference(searches(400, 1), config()))
    quiet = [looked for seed in range(20) for looked in monitor.take(searches(100, 100 + seed))]
    assert len(quiet) == 20
    assert not [looked.number for looked in quiet if looked.drift]
    loud = [looked for seed in range(2) for looked in monitor.take(searches(100, 200 + seed, 4.0, share=0.25))]
    assert loud[1].drift, "a quarter of the traffic is of another kind"


def test_one_window_alone_is_no_drift() -> None:
    monitor = Monitor(config(), Reference(searches(400, 1), config()))
    (one,) = monitor.take(searches(100, 5, 4.0))
    assert any(compared.beyond for compared in one.compared)
    assert not one.drift
    (two,) = monitor.take(searches(100, 6))
    assert not any(compared.beyond for compared in two.compared)


def test_the_rolling_reference_gets_used_to_what_the_pinned_one_still_sees() -> None:
    monitor = Monitor(config(), Reference(searches(400, 1), config()))
    looked = [one for seed in range(8) for one in monitor.take(searches(100, 300 + seed, 4.0))]
    last = {(one.detector, one.reference): one.beyond for one in looked[-1].compared}
    assert last["mmd", "pinned"]
    assert not last["mmd", "rolling"]


def test_a_fixed_threshold_is_a_number() -> None:
    threshold = {"kind": "fixed", "value": 0.01}
    detectors = {"nearest": {"signal": "dense", "distance": "wasserstein", "threshold": threshold}}
    monitor = Monitor(config(detectors=detectors), Reference(searches(400, 1), config()))
    (one,) = monitor.take(searches(100, 7))
    assert one.compared[0].beyond, "chance alone exceeds it"
    assert one.compared[0].limit == 0.01


def test_windows_are_full_and_no_search_is_in_two() -> None:
    monitor = Monitor(config(), Reference(searches(400, 1), config()))
    sizes = [looked.searches for count in (30, 69, 1, 250) for looked in monitor.take(searches(count, count))]
    assert sizes == [100, 100, 100]


def test_a_rolling_reference_that_is_smaller_than_the_pinned_one_has_a_null_of_its_own() -> None:
    """Bug: its distances, larger by chance, were held against the pinned one's null: beyond, in health."""
    detectors = {"nearest": {"signal": "dense", "distance": "psi", "threshold": {"kind": "null", "share": 0.9}}}
    settings = config(window=60, reference=1200, draws=200, detectors=detectors)
    settings = settings.model_copy(update={"reference": settings.reference.model_copy(update={"rolling_windows": 1})})
    monitor = Monitor(settings, Reference(searches(1200, 1), settings))
    beyond = [one.beyond for looked in monitor.take(searches(60 * 101, 2)) for one in looked.compared
              if one.reference == "rolling"]  # fmt: skip
    assert len(beyond) == 100
    assert sum(beyond) < 25, "one in ten is expected"


def test_a_reference_that_would_not_fit_into_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="5,000 are the most"):
        Reference(searches(5001, 1), config())


@pytest.mark.parametrize(
    ("detector", "told"),
    [
        ({"signal": "dense", "distance": "mmd"}, "mmd is for vectors"),
        ({"signal": "queries", "distance": "psi"}, "psi is for scores"),
        ({"signal": "dense", "distance": "psi", "threshold": {"kind": "fixed"}}, "is for kind fixed, which needs it"),
    ],
)
def test_a_detector_that_makes_no_sense_is_refused(detector: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        config(detectors={"one": {"threshold": {"kind": "null"}} | detector})


def test_a_reference_of_fewer_than_two_windows_is_refused_before_it_is_collected() -> None:
    """Bug: it was collected, kept, and then could not be used, for ever, while the monitor said that it was ready."""
    with pytest.raises(ValueError, match=r"reference\.searches: 150 cannot carry windows of 100"):
        config(window=100, reference=150)


def test_a_share_that_the_draws_cannot_show_is_refused() -> None:
    with pytest.raises(ValueError, match=r"draws: 98 windows cannot show what a share of 0\.99 stays below"):
        config(draws=98)


def test_what_is_looked_at_is_not_for_learners_to_change() -> None:
    assert protected_paths(DriftConfig) == {"listen", "traffic", "collection", "reference.file"}
