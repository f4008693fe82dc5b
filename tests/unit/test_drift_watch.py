"""The monitor at work: what it collects, compares and tells, and that it tells when it cannot."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drift_handmade import log_of, searches, without_classifier

from stack.drift.monitor import load, save
from stack.drift.watch import Watch
from stack.settings import ConfigError
from stack.telemetry.metrics import DriftMetrics


def test_the_first_searches_become_the_reference_and_the_next_ones_are_compared(tmp_path: Path) -> None:
    watch = Watch(without_classifier(), tmp_path, DriftMetrics())
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
    watch = Watch(without_classifier(), tmp_path, DriftMetrics())
    assert watch.measuring == watch.reasons == ["measuring how far windows of the reference are apart by chance"]
    watch.look()
    assert watch.measuring == []
    assert not watch.looked
    log_of(path, searches(100, 3))
    watch.look()
    assert [looked.drift for looked in watch.looked] == [False]


def test_metrics_tell_of_the_last_window(tmp_path: Path) -> None:
    metrics = DriftMetrics()
    watch = Watch(without_classifier(), tmp_path, metrics)
    log_of(tmp_path / "searches.jsonl", searches(400, 1))
    watch.look()
    for seed in range(2):
        log_of(tmp_path / "searches.jsonl", searches(100, seed, 4.0))
        watch.look()
    value = metrics.registry.get_sample_value
    assert value("drift_windows_total") == 2
    assert value("drift_searches_total", {"collection": "books"}) == 600
    assert value("drift_detected", {"detector": "mmd", "reference": "pinned"}) == 1
    assert value("drift_windows_beyond", {"detector": "mmd", "reference": "pinned"}) == 2
    assert value("drift_distance", {"detector": "mmd", "reference": "pinned"}) > value(
        "drift_limit", {"detector": "mmd", "reference": "pinned"}
    )


def test_before_the_first_window_there_is_no_value(tmp_path: Path) -> None:
    metrics = DriftMetrics()
    Watch(without_classifier(), tmp_path, metrics)
    value = metrics.registry.get_sample_value
    assert np.isnan(value("drift_no_answer_ratio"))
    assert np.isnan(value("drift_last_window_timestamp_seconds"))
    assert value("drift_searches_total", {"collection": "books"}) == 0


def test_unanswered_searches_count_when_they_last(tmp_path: Path) -> None:
    metrics = DriftMetrics()
    watch = Watch(without_classifier(), tmp_path, metrics)
    path = tmp_path / "searches.jsonl"
    value = metrics.registry.get_sample_value
    log_of(path, searches(400, 1))
    watch.look()
    for unanswered, lasting in ((90, None), (10, 0.1), (40, 0.1), (30, 0.3)):
        one = searches(100, unanswered)
        one.evidence[:unanswered] = False
        log_of(path, one)
        watch.look()
        assert value("drift_no_answer_ratio") == pytest.approx(unanswered / 100)
        found = value("drift_no_answer_lasting_ratio")
        assert np.isnan(found) if lasting is None else found == pytest.approx(lasting)


def test_a_look_that_fails_shows_until_one_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: only the log told of it; the metrics kept what they had said last."""
    metrics = DriftMetrics()
    watch = Watch(without_classifier(), tmp_path, metrics)
    with monkeypatch.context() as broken:
        broken.setattr(watch, "_look", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            watch.look()
    assert metrics.registry.get_sample_value("drift_failures_total") == 1
    told = "the last look at the traffic failed: ZeroDivisionError: division by zero"
    assert watch.measuring == [told]
    assert watch.reasons == ["collecting the reference: 0 of 400 searches", told]
    watch.look()
    assert watch.measuring == []


def test_a_release_with_another_encoder_and_back(tmp_path: Path) -> None:
    metrics = DriftMetrics()
    watch = Watch(without_classifier(), tmp_path, metrics)
    path = tmp_path / "searches.jsonl"
    log_of(path, searches(400, 1))
    watch.look()
    other = searches(150, 2)
    log_of(path, replace(other, vectors=other.vectors[:, :8]))
    log_of(path, searches(100, 3))
    watch.look()
    assert [looked.searches for looked in watch.looked] == [100]
    assert metrics.registry.get_sample_value("drift_lines_refused_total") == 150


def test_a_reference_that_cannot_be_kept_is_collected_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(without_classifier(), tmp_path, DriftMetrics())
    log_of(tmp_path / "searches.jsonl", searches(400, 1))
    with monkeypatch.context() as full:
        full.setattr("stack.drift.watch.save", raises(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            watch.look()
    assert watch.reasons[0] == "collecting the reference: 400 of 400 searches"
    log_of(tmp_path / "searches.jsonl", searches(1, 2))
    watch.look()
    assert len(load(tmp_path / "reference.npz")) == 400
    assert watch.reasons == []


def raises(problem: Exception) -> Callable[..., None]:
    def act(*_: object) -> None:
        raise problem

    return act


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_half_a_reference_refuses_the_start(tmp_path: Path, kept: float) -> None:
    """Bug: half a zip file is no ValueError of numpy, and the process ended in a traceback."""
    file = tmp_path / "reference.npz"
    save(searches(400, 1), file)
    file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    with pytest.raises(ConfigError, match=r"reference\.file: .*remove it to collect a new one"):
        Watch(without_classifier(), tmp_path, DriftMetrics())


def test_a_damaged_reference_refuses_the_start(tmp_path: Path) -> None:
    (tmp_path / "reference.npz").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"reference\.file"):
        Watch(without_classifier(), tmp_path, DriftMetrics())
    save(searches(50, 1), tmp_path / "reference.npz")
    with pytest.raises(ConfigError, match="windows of 100 need at least twice"):
        Watch(without_classifier(), tmp_path, DriftMetrics())
