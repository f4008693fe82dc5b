"""The gate: blocks what is worse beyond tolerance and chance, and nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evals_handmade import baseline, failed, rows, suite

from stack.evals.errors import NotComparable
from stack.evals.example import Example, Row
from stack.evals.gate import judge_suite, visible
from stack.evals.report import cells, outcome_of, sentence

RNG = np.random.default_rng(3)
HALF = (np.arange(100) % 2).astype(float)


def finding(verdict, name: str = "right"):
    return next(one for one in verdict.findings if one.metric == name)


def test_the_same_scores_pass(tmp_path: Path) -> None:
    of = suite(tmp_path)
    verdict = judge_suite(of, "quick", rows(HALF), baseline(of, rows(HALF)))
    assert verdict.outcome == "pass"
    assert {one.metric for one in verdict.findings} == {"coverage", "at once", "right"}
    assert finding(verdict).interval.difference == 0


def test_the_same_scores_are_no_better_for_the_digits_that_a_baseline_leaves_out(tmp_path: Path) -> None:
    of = suite(tmp_path)
    sevenths = np.full(100, 2 / 7)
    found = finding(judge_suite(of, "quick", rows(sevenths), baseline(of, rows(sevenths))))
    assert (found.reason, cells(found)[5]) == ("no worse than tolerated", "0 [0, 0]")


def test_much_worse_blocks_and_names_the_metric(tmp_path: Path) -> None:
    of = suite(tmp_path)
    worse = np.where(np.arange(100) < 30, 0, HALF)
    verdict = judge_suite(of, "quick", rows(worse), baseline(of, rows(HALF)))
    assert finding(verdict).outcome == "block"
    assert finding(verdict).interval.high < -0.05
    assert "in texts (right)." in sentence([verdict])


def test_a_loss_that_may_be_chance_does_not_block_and_says_so(tmp_path: Path) -> None:
    of = suite(tmp_path)
    little = HALF[:20].copy()
    little[[1, 3]] = 0
    verdict = judge_suite(of, "quick", rows(little), baseline(of, rows(HALF[:20])))
    assert finding(verdict).outcome == "pass"
    assert finding(verdict).reason == "worse than tolerated, but that may be chance"


def test_a_loss_within_the_tolerance_passes_however_certain(tmp_path: Path) -> None:
    of = suite(tmp_path, metrics={"right": {"score": "right", "tolerance": 0.05}})
    before = np.full(100, 0.8)
    verdict = judge_suite(of, "quick", rows(before - 0.04), baseline(of, rows(before)))
    assert finding(verdict).outcome == "pass"
    assert finding(judge_suite(of, "quick", rows(before - 0.06), baseline(of, rows(before)))).outcome == "block"


def test_what_should_stay_the_same_blocks_in_both_directions(tmp_path: Path) -> None:
    metrics = {"tokens": {"score": "right", "better": "same", "tolerance": 0.2, "relative": True}}
    of = suite(tmp_path, metrics=metrics)
    before = np.random.default_rng(3).uniform(300, 500, 200)
    for factor, outcome in ((1.0, "pass"), (1.1, "pass"), (0.9, "pass"), (1.5, "block"), (0.5, "block")):
        found = finding(judge_suite(of, "quick", rows(before * factor), baseline(of, rows(before))), "tokens")
        assert (found.outcome, found.interval.high <= 0) == (outcome, True), factor


def test_where_less_is_better_more_blocks(tmp_path: Path) -> None:
    metrics = {"cost": {"score": "right", "better": "lower", "tolerance": 0.2, "relative": True}}
    of = suite(tmp_path, metrics=metrics)
    before = np.full(50, 400.0)
    assert finding(judge_suite(of, "quick", rows(before * 1.1), baseline(of, rows(before))), "cost").outcome == "pass"
    verdict = judge_suite(of, "quick", rows(before * 1.3), baseline(of, rows(before)))
    assert finding(verdict, "cost").outcome == "block"
    assert finding(verdict, "cost").interval.difference == pytest.approx(-120)
    assert finding(judge_suite(of, "quick", rows(before * 0.5), baseline(of, rows(before))), "cost").reason == "better"


def test_examples_that_fail_count_as_worst_and_are_told(tmp_path: Path) -> None:
    of = suite(tmp_path)
    now = rows(np.ones(100))
    for name in list(now)[:20]:
        now[name] = failed(now[name])
    verdict = judge_suite(of, "quick", now, baseline(of, rows(np.ones(100))))
    assert finding(verdict, "coverage").outcome == "block"
    assert finding(verdict).candidate == pytest.approx(0.8)
    assert verdict.errors[0] == "e000: gateway answered 500"
    assert len(verdict.errors) == 3


def test_an_example_that_the_baseline_lacks_is_an_error_not_a_pass(tmp_path: Path) -> None:
    of = suite(tmp_path)
    with pytest.raises(ValueError, match="50 examples are not in the baseline, the first is e050"):
        judge_suite(of, "quick", rows(HALF), baseline(of, rows(HALF[:50])))


def test_a_metric_that_no_example_has_is_an_error_not_a_pass(tmp_path: Path) -> None:
    of = suite(tmp_path, metrics={"other": {"score": "probability", "tolerance": 0.1}})
    with pytest.raises(ValueError, match="no example has the score 'probability'"):
        judge_suite(of, "quick", rows(HALF), baseline(of, rows(HALF)))


def test_a_slice_counts_alone(tmp_path: Path) -> None:
    of = suite(tmp_path, metrics={"leet": {"score": "right", "slice": "leetspeak", "tolerance": 0.05}})
    plain, leet = rows(np.ones(50), slices=("plain",)), rows(np.ones(50), slices=("leetspeak",))
    together = plain | {f"l{name}": row for name, row in leet.items()}
    worse = {name: replace(row, scores={"right": 0.0}) if name[0] == "l" else row for name, row in together.items()}
    verdict = judge_suite(of, "quick", worse, baseline(of, together))
    assert (finding(verdict, "leet").outcome, finding(verdict, "leet").examples) == ("block", 50)


def test_times_warn_and_never_block(tmp_path: Path) -> None:
    metrics = {"seconds": {"score": "right", "better": "lower", "tolerance": 0.5, "relative": True, "tier": "timing"}}
    of = suite(tmp_path, metrics=metrics)
    verdict = judge_suite(of, "quick", rows(np.full(50, 9.0)), baseline(of, rows(np.ones(50))))
    assert (finding(verdict, "seconds").outcome, outcome_of([verdict])) == ("warn", "warn")


# ---- a judging model


def judged(preferred: float, agreeing: int, length: float = 0.0) -> dict[str, Row]:
    """40 preferences, and 40 known pairs of which the judge finds so many."""
    release = rows(np.full(40, preferred), "preferred", ("release",), length=length)
    known = {}
    for place in range(40):
        right = "first" if place % 2 else "second"
        said = right if place < agreeing else "second" if place % 2 else "first"
        known[f"k{place}"] = Row("texts", f"k{place}", "k", "d", ("labelled",), {}, {"choice": said, "known": right},
                                 {"agreed": float(said == right)}, 0.1)  # fmt: skip
    return release | known


@pytest.fixture
def preference(tmp_path: Path):
    metrics = {"preferred": {"score": "preferred", "slice": "release", "tolerance": 0.1, "tier": "judged"}}
    return suite(
        tmp_path,
        task="preference",
        collections=["articles"],
        judge={"labelled": 40, "least_kappa": 0.4},
        metrics=metrics,
    )


def test_a_judge_that_guesses_may_warn_and_never_block(preference) -> None:
    verdict = judge_suite(preference, "quick", judged(0.0, 20), baseline(preference, judged(0.5, 40)), confirmed=True)
    assert finding(verdict, "preferred").outcome == "warn"
    assert verdict.trust.kappa == pytest.approx(0)
    assert "kappa 0.00" in finding(verdict, "preferred").reason


@pytest.mark.parametrize(("confirmed", "outcome"), [(None, "warn"), (False, "warn"), (True, "block")])
def test_a_trusted_judge_blocks_only_what_was_judged_again(preference, confirmed, outcome) -> None:
    before = baseline(preference, judged(0.5, 40))
    verdict = judge_suite(preference, "quick", judged(0.0, 40), before, confirmed=confirmed)
    assert verdict.trust.enough
    assert finding(verdict, "preferred").outcome == outcome


def test_a_judge_without_a_complaint_passes(preference) -> None:
    verdict = judge_suite(preference, "quick", judged(0.5, 40), baseline(preference, judged(0.5, 40)))
    assert verdict.outcome == "pass"


def test_a_judge_that_is_not_there_is_no_warning_but_an_error(preference) -> None:
    """Bug: a mistyped address of the judge ended in "pass, with a warning"."""
    known = {name: failed(row, "ConnectError") for name, row in judged(0.5, 40).items() if name.startswith("k")}
    with pytest.raises(NotComparable, match="0 of 40 known pairs only: ConnectError"):
        judge_suite(preference, "quick", judged(0.5, 40) | known, baseline(preference, judged(0.5, 40)))


def test_a_complaint_is_the_judges_own_and_not_that_it_gave_no_verdict(preference) -> None:
    before = baseline(preference, judged(0.5, 40))
    assert judge_suite(preference, "quick", judged(0.0, 40), before).complaint
    broken = {
        name: failed(row, "no verdict", "judge") if "e000" <= name < "e020" else row
        for name, row in judged(0.5, 40).items()
    }
    silent = judge_suite(preference, "quick", broken, before)
    assert (silent.outcome, silent.complaint) == ("pass", False)
    assert finding(silent, "preferred").examples == 20
    assert silent.errors[0] == "e000: no verdict"


def test_a_judge_that_is_silent_about_most_answers_of_the_release_has_not_judged_it(preference) -> None:
    broken = {
        name: failed(row, "no verdict", "judge") if "e000" <= name < "e021" else row
        for name, row in judged(0.5, 40).items()
    }
    with pytest.raises(NotComparable, match="no verdict on 21 of 40 answers of the release: no verdict"):
        judge_suite(preference, "quick", broken, baseline(preference, judged(0.5, 40)))


def test_a_score_that_no_example_of_a_slice_has_is_an_error_not_a_pass(tmp_path: Path) -> None:
    """Bug: it counted as worst on both sides, which is no change."""
    of = suite(tmp_path, metrics={"danger": {"score": "named", "slice": "plain", "tolerance": 0.1}})
    plain = rows(HALF, slices=("plain",))
    with pytest.raises(NotComparable, match="no example has the score 'named'"):
        judge_suite(of, "quick", plain, baseline(of, plain))


def test_what_blocks_is_not_hidden_by_a_metric_that_no_example_has(tmp_path: Path) -> None:
    """Bug: a release that refused nothing was not judged, since no refusal said why."""
    metrics = {"right": {"score": "right", "tolerance": 0.1}, "told": {"score": "named", "tolerance": 0.1}}
    of = suite(tmp_path, metrics=metrics)
    verdict = judge_suite(of, "quick", rows(HALF * 0), baseline(of, rows(HALF)))
    assert verdict.outcome == "block"
    assert verdict.errors == ("no example has the score 'named' for the metric 'told'",)


def test_a_release_that_does_not_answer_is_blocked_whatever_its_judge_is_worth(preference) -> None:
    """Bug: with a judge that guesses, a release of which every answer failed got a warning."""
    broken = {name: failed(row) if name.startswith("e") else row for name, row in judged(0.5, 20).items()}
    verdict = judge_suite(preference, "quick", broken, baseline(preference, judged(0.5, 40)))
    assert finding(verdict, "coverage").outcome == "block"


def test_a_comparison_with_the_answers_of_another_baseline_is_none(preference) -> None:
    compared = {
        name: replace(row, output={"other": "as it was"}) if name == "e000" else row
        for name, row in judged(0.5, 40).items()
    }
    before = baseline(preference, judged(0.5, 40))
    with pytest.raises(NotComparable, match="those of another baseline; run it again"):
        judge_suite(preference, "quick", compared, replace(before, answers={"e000": "as it is now"}))
    same = replace(before, answers={"e000": "as it was"})
    assert judge_suite(preference, "quick", compared, same).outcome == "pass"


# ---- refusals and failures


def test_a_release_that_says_not_now_is_blocked_though_all_was_answered_in_the_end(tmp_path: Path) -> None:
    """Bug: the suites ask again, and nothing was left of a third of the requests being refused at first."""
    of = suite(tmp_path)
    refused = {
        name: replace(row, scores=row.scores | {"at_once": float(place % 3 > 0)}, refusals=int(place % 3 == 0))
        for place, (name, row) in enumerate(rows(HALF).items())
    }
    verdict = judge_suite(of, "quick", refused, baseline(of, rows(HALF)))
    assert finding(verdict, "at once").outcome == "block"
    assert finding(verdict).outcome == "pass"


def test_where_nothing_was_answered_coverage_says_so(tmp_path: Path) -> None:
    of = suite(tmp_path)
    verdict = judge_suite(of, "quick", {k: failed(r) for k, r in rows(HALF).items()}, baseline(of, rows(HALF)))
    assert {one.metric: one.outcome for one in verdict.findings} == {"coverage": "block", "right": "block"}


@pytest.mark.filterwarnings("ignore::scipy.stats.DegenerateDataWarning")
def test_an_interval_that_cannot_be_computed_blocks(tmp_path: Path) -> None:
    """Of one abusive text among ten, a resample has none now and then, and then there is no AUC."""
    of = suite(tmp_path, metrics={"auc": {"score": "p", "aggregate": "auc", "tolerance": 0.03}})
    before = rows(np.linspace(0, 1, 10), "p")
    before = {k: replace(r, scores=r.scores | {"label": float(k == "e009")}) for k, r in before.items()}
    now = {k: replace(r, scores=r.scores | {"p": 1 - r.scores["p"]}) for k, r in before.items()}
    found = finding(judge_suite(of, "quick", now, baseline(of, before)), "auc")
    assert (found.outcome, found.reason) == ("block", "it cannot be computed from these examples")


# ---- parts


def test_a_collection_counts_by_itself(tmp_path: Path) -> None:
    """A loss of one collection is half as large in the average of two."""
    metrics = {"right": {"score": "right", "tolerance": 0.05, "by_collection": True}}
    of = suite(tmp_path, metrics=metrics, collections=["one", "other"])
    one, other = rows(np.ones(40), slices=("one",)), rows(np.ones(40), slices=("other",))
    before = one | {f"o{name}": row for name, row in other.items()}
    worse = before | {name: replace(one[name], scores={"right": 0.0}) for name in list(one)[:12]}
    verdict = judge_suite(of, "quick", worse, baseline(of, before))
    assert {found.metric: found.outcome for found in verdict.findings} == {
        "coverage": "pass", "at once": "pass", "right of one": "block", "right of other": "pass"
    }  # fmt: skip


def test_an_example_that_was_lost_is_an_error_not_a_pass(tmp_path: Path) -> None:
    """Bug: a run that had lost lines was judged by the rest."""
    of = suite(tmp_path)
    with pytest.raises(NotComparable, match="1 examples of the baseline were not asked, the first is e099"):
        judge_suite(of, "quick", rows(HALF[:99]), baseline(of, rows(HALF)))


def test_a_quick_run_is_compared_with_its_part_of_a_full_baseline_and_loses_nothing_of_it(tmp_path: Path) -> None:
    """Bug: which examples are quick ones was not known, and those that were lost were not missed."""
    of, quick = suite(tmp_path), rows(HALF[:50])
    full = baseline(of, rows(HALF), "full", list(quick))
    assert judge_suite(of, "quick", quick, full).outcome == "pass"
    with pytest.raises(NotComparable, match="1 examples of the baseline were not asked, the first is e049"):
        judge_suite(of, "quick", rows(HALF[:49]), full)
    with pytest.raises(NotComparable, match="1 examples are not in the baseline, the first is e050"):
        judge_suite(of, "quick", rows(HALF[:51]), full)


def test_another_example_by_the_same_name_is_not_compared(tmp_path: Path) -> None:
    """Examples come from data that the release's code reads: what it reads otherwise it must not be asked instead, and
    (bug) it must not be what counts as right."""
    of, now = suite(tmp_path), rows(HALF)
    asked = Example("e007", {"text": "a text"}, {"answer": "in full"})
    easier = replace(asked, expected={"answer": "in"})
    assert easier.digest != asked.digest
    now["e007"] = replace(now["e007"], digest=easier.digest)
    with pytest.raises(NotComparable, match=r"1 examples are others than those of this name in the baseline.*e007"):
        judge_suite(of, "quick", now, baseline(of, rows(HALF)))


def test_what_a_suite_can_see_is_told_without_a_run(tmp_path: Path) -> None:
    """The same as the verdict tells of it."""
    of, before = suite(tmp_path), rows(HALF)
    told = visible(of, baseline(of, before), {name: row.slices for name, row in before.items()})
    findings = judge_suite(of, "quick", before, baseline(of, before)).findings
    assert list(told) == [(one.metric, one.examples, one.smallest) for one in findings]
