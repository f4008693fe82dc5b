"""Runs on disk: nothing finished is lost, nothing damaged is taken, and a baseline is what it says."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evals_handmade import rows, suite

from stack.evals import baseline
from stack.evals.errors import NoBaseline, ResultsError
from stack.evals.results import Identity, Manifest, Results

IDENTITY = Identity("c", "d", "w")
MANIFEST = Manifest(1, "20261101-120000-aaaa", "quick", {"texts": "h"}, IDENTITY, "a machine", 1.0)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results.new(tmp_path / "runs", MANIFEST)


def test_rows_come_back_as_they_were(results: Results) -> None:
    for row in rows([0.5, 1.0]).values():
        results.add(row)
    assert results.rows("texts") == rows([0.5, 1.0])
    assert results.rows("others") == {}


def test_a_line_that_a_crash_cut_off_is_asked_again(results: Results) -> None:
    for row in rows([0.5, 1.0]).values():
        results.add(row)
    path = results.folder / "texts.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert list(results.rows("texts")) == ["e000"]


def test_a_damaged_line_in_the_middle_is_no_crash_and_is_refused(results: Results) -> None:
    for row in rows([0.5, 1.0]).values():
        results.add(row)
    path = results.folder / "texts.jsonl"
    path.write_text("{" + path.read_text())
    with pytest.raises(ResultsError, match=r"texts.jsonl: line 1 is damaged"):
        results.rows("texts")


def test_a_later_row_of_an_example_counts(results: Results) -> None:
    (row,) = rows([0.0]).values()
    results.add(replace(row, error="failed", scores={}))
    results.add(row)
    assert results.rows("texts")["e000"].error is None


def test_rows_of_examples_that_are_asked_no_more_are_forgotten(results: Results) -> None:
    there = rows([0.0, 1.0, 1.0])
    for row in there.values():
        results.add(row)
    path = results.folder / "texts.jsonl"
    before = path.read_bytes()
    results.forget_all_but("texts", [*there, "new"])
    assert path.read_bytes() == before
    results.forget_all_but("texts", ["e000", "e002", "new"])
    assert results.rows("texts") == {name: there[name] for name in ("e000", "e002")}
    results.forget_all_but("others", ["e000"])


def test_only_a_run_of_the_same_that_did_not_end_goes_on(tmp_path: Path, results: Results) -> None:
    runs = tmp_path / "runs"
    assert Results.unfinished(runs, MANIFEST).folder == results.folder
    for other in (
        replace(MANIFEST, mode="full"),
        replace(MANIFEST, suites={"texts": "another"}),
        replace(MANIFEST, identity=replace(IDENTITY, weights="another")),
        replace(MANIFEST, identity=replace(IDENTITY, configuration="another")),
        replace(MANIFEST, identity=replace(IDENTITY, code="another")),
        replace(MANIFEST, label="another"),
    ):
        assert Results.unfinished(runs, other) is None
    results.finish("pass")
    assert Results.unfinished(runs, MANIFEST) is None
    assert results.manifest().finished is not None


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no run of the evaluation"):
        Results(tmp_path).manifest()
    (tmp_path / "other").mkdir()
    assert Results.unfinished(tmp_path, MANIFEST) is None


# ---- baselines


def test_a_baseline_comes_back_as_it_was_and_is_the_same_file_each_time(tmp_path: Path) -> None:
    of = suite(tmp_path)
    made = baseline.make(of, "quick", {"code": "d"}, "a machine", 1.0, rows(np.array([0.123456789, 1])), ["e000"])
    path = baseline.write(made, tmp_path)
    content = path.read_bytes()
    assert baseline.read(of, "quick", tmp_path) == made
    assert made.scores["e000"] == {"right": 0.12346, "at_once": 1.0}
    assert baseline.write(made, tmp_path).read_bytes() == content


def test_no_baseline_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    of = suite(tmp_path)
    with pytest.raises(NoBaseline, match=r"texts: no baseline at .*; `lab eval baseline` makes it"):
        baseline.read(of, "quick", tmp_path)
    path = baseline.write(baseline.make(of, "quick", {}, "m", 1.0, rows([1.0]), ["e000"]), tmp_path)
    with pytest.raises(NoBaseline, match="quick examples only; `lab eval baseline --full`"):
        baseline.read(of, "full", tmp_path)
    changed = suite(tmp_path, about="Something else is looked after.")
    with pytest.raises(NoBaseline, match="the suite has changed since"):
        baseline.read(changed, "quick", tmp_path)
    whole = json.loads(gzip.decompress(path.read_bytes()))
    for damaged, told in (
        (path.read_bytes()[:40], "damaged"),
        (gzip.compress(json.dumps(whole | {"scores": []}).encode()), r"damaged \(scores: Input should be a valid dict"),
        (gzip.compress(b"[]"), "damaged"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(NoBaseline, match=told):
            baseline.read(of, "quick", tmp_path)
