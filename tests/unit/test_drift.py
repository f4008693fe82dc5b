"""The drift monitor: silent without drift, loud with it, and never fooled by its own windows."""

from pathlib import Path

import numpy as np
import pytest
from drift_handmade import config, lines, log_of, searches

from stack.drift import distances
from stack.drift.config import DriftConfig
from stack.drift.monitor import Monitor, Reference, load, save
from stack.drift.null import Null, resample
from stack.drift.traffic import Log, read
from stack.drift.watch import Watch
from stack.settings import ConfigError, protected_paths
from stack.telemetry.metrics import DriftMetrics


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


# ---- the traffic log


def test_a_log_is_read_from_where_the_last_reading_ended(tmp_path: Path) -> None:
    path = tmp_path / "searches.jsonl"
    log = Log(path, "books")
    assert log.new() is None
    log_of(path, searches(3, 1))
    assert len(log.new()) == 3
    assert log.new() is None
    content = lines(searches(2, 2))
    with path.open("ab") as file:
        file.write(content[:-10])
    assert len(log.new()) == 1, "a line that is still being written is left for later"
    with path.open("ab") as file:
        file.write(content[-10:])
    assert len(log.new()) == 1


def test_a_log_that_was_full_and_renamed_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "searches.jsonl"
    log = Log(path, "books")
    log_of(path, searches(3, 1))
    assert len(log.new()) == 3
    log_of(path, searches(2, 2))
    path.rename(tmp_path / "searches.jsonl.1")
    log_of(path, searches(4, 3))
    assert len(log.new()) == 6


def test_lines_of_others_and_lines_that_are_none_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "searches.jsonl"
    path.write_bytes(lines(searches(2, 1), "maps") + b"no json\n{}\n" + lines(searches(3, 2)))
    assert len(read(path, "books")) == 3
    with pytest.raises(ValueError, match="no search of the collection 'films'"):
        read(path, "films")


def test_vectors_and_scores_come_back_as_they_were(tmp_path: Path) -> None:
    path, made = tmp_path / "searches.jsonl", searches(5, 1)
    log_of(path, made)
    found = read(path, "books")
    assert np.allclose(found.vectors, made.vectors, atol=0.01)
    assert np.array_equal(found.dense, made.dense)
    save(found, tmp_path / "kept.npz")
    assert np.array_equal(load(tmp_path / "kept.npz").vectors, found.vectors)


# ---- the watch


def test_the_first_searches_become_the_reference_and_the_next_ones_are_compared(tmp_path: Path) -> None:
    watch = Watch(config(), tmp_path, DriftMetrics())
    path = tmp_path / "searches.jsonl"
    log_of(path, searches(150, 1))
    watch.look()
    assert watch.reasons == ["collecting the reference: 150 of 400 searches"]
    assert watch.measuring == [], "it is ready meanwhile: that may take days"
    log_of(path, searches(400, 2))
    watch.look()
    assert watch.reasons == []
    assert [looked.searches for looked in watch.looked] == [100]
    assert (tmp_path / "reference.npz").exists()


def test_a_start_with_a_reference_looks_at_what_comes_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "searches.jsonl"
    save(searches(400, 1), tmp_path / "reference.npz")
    log_of(path, searches(300, 2, 4.0))
    watch = Watch(config(), tmp_path, DriftMetrics())
    assert watch.measuring == watch.reasons == ["measuring how far windows of the reference are apart by chance"]
    watch.look()
    assert watch.measuring == []
    assert not watch.looked
    log_of(path, searches(100, 3))
    watch.look()
    assert [looked.drift for looked in watch.looked] == [False]


def test_metrics_tell_of_the_last_window(tmp_path: Path) -> None:
    metrics = DriftMetrics()
    watch = Watch(config(), tmp_path, metrics)
    log_of(tmp_path / "searches.jsonl", searches(400, 1))
    watch.look()
    for seed in range(2):
        log_of(tmp_path / "searches.jsonl", searches(100, seed, 4.0))
        watch.look()
    value = metrics.registry.get_sample_value
    assert value("drift_windows_total") == 2
    assert value("drift_detected", {"detector": "mmd", "reference": "pinned"}) == 1
    assert value("drift_windows_beyond", {"detector": "mmd", "reference": "pinned"}) == 2
    assert value("drift_distance", {"detector": "mmd", "reference": "pinned"}) > value(
        "drift_limit", {"detector": "mmd", "reference": "pinned"}
    )


def test_a_damaged_reference_refuses_the_start(tmp_path: Path) -> None:
    (tmp_path / "reference.npz").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"reference\.file"):
        Watch(config(), tmp_path, DriftMetrics())
    save(searches(50, 1), tmp_path / "reference.npz")
    with pytest.raises(ConfigError, match="windows of 100 need at least twice"):
        Watch(config(), tmp_path, DriftMetrics())


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


def test_what_is_looked_at_is_not_for_learners_to_change() -> None:
    assert protected_paths(DriftConfig) == {"listen", "traffic", "collection", "reference.file"}
