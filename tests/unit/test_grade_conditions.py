"""Grading says that it cannot tell where the machine, the generator or the clock spoiled the run."""

import pytest
from handmade import PUBLIC, a_row, graded, result, rows, write_load

from lab.grade import grade, same_speed

CONDITIONS = {
    "cpu outside": ({"conditions.host.outside_share": 0.3}, "other programs on this machine used 31%"),
    "steal": ({"conditions.host.steal_share": 0.2}, "other programs on this machine used 22%"),
    "outside and steal": (
        {"conditions.host.outside_share": 0.06, "conditions.host.steal_share": 0.05}, "used 11% of its CPU"
    ),
    "slow before": ({"conditions.anchors.before": 70.0}, "70% of its calibrated speed before the load"),
    "slow after": ({"conditions.anchors.after": 70.0}, "70% of its calibrated speed after the load"),
    "faster than calibrated": ({"conditions.anchors.before": 130.0}, "130% of its calibrated speed"),
    "stall": ({"conditions.host.worst_stall_seconds": 2.5}, "the machine stood still for 2.5 s"),
    "killed": ({"conditions.ended": ["llm", "gateway"]}, "during the load a service ended: llm, gateway"),
    "changed": ({"conditions.changed": "the scenario's files were changed"}, "the scenario's files were changed"),
    "no baseline": ({"healthy.problem": "the load generator was late"}, "no healthy run to compare with: the load"),
    "a service not read": ({"metrics.services_up.llm": 0.5}, "Prometheus could read llm for 50% of the load only"),
    "scrapes": ({"metrics.problem": "Prometheus has 20 of 50 scrapes"}, "Prometheus has 20 of 50 scrapes"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "reason"), CONDITIONS.values(), ids=CONDITIONS)
@pytest.mark.parametrize("bad", [0, 20])
def test_each_disturbance_alone_takes_the_verdict_away_whatever_the_checks_say(tmp_path, changes, reason, bad):
    """Exploit: make noise while a bad configuration is graded. And noise must not cost a good one its pass."""
    found = graded(tmp_path, rows(40 - bad, bad), changes)
    assert found.verdict == "cannot_grade"
    assert len(found.reasons) == 1
    assert reason in found.reasons[0]


@pytest.mark.parametrize(("ratio", "same"), [(0.849, False), (0.851, True), (1.0, True), (1.249, True), (1.251, False)])
def test_a_machine_may_be_faster_than_calibrated_by_more_than_it_may_be_slower(ratio, same):
    """Only a slow machine can make a good stack fail."""
    assert same_speed(4000 * ratio, 4000) is same


def test_all_disturbances_are_told(tmp_path):
    changes = {path: value for pair in CONDITIONS.values() for path, value in pair[0].items()}
    assert len(graded(tmp_path, rows(40), changes).reasons) == 9


def test_a_service_that_does_not_run_at_all_is_no_excuse(tmp_path):
    """Exploit: stop what would have shown the failure."""
    assert graded(tmp_path, rows(10, 30), {"metrics.services_up.llm": 0.0}).verdict == "fail"


def test_a_stack_that_starves_itself_is_no_excuse(tmp_path):
    found = graded(tmp_path, rows(10, 30), {"conditions.host.own_share": 1.0})
    assert found.verdict == "fail"


GENERATORS = {
    "frozen before its end": (rows(40), {"ended": False}, "did not finish its run: 40 of 40"),
    "killed half-way": (rows(20), {"ended": False, "planned": 40}, "did not finish its run: 20 of 40"),
    "killed half-way through failures": (rows(0, 20), {"ended": False, "planned": 40}, "did not finish its run"),
    "sent too little": (rows(39), {"planned": 40}, "only 39 of 40 planned requests were offered"),
    "sent too little of failures": (rows(0, 39), {"planned": 40}, "only 39 of 40 planned requests were offered"),
    "sent nothing": ([], {"planned": 40}, "only 0 of 40 planned requests were offered"),
    "late": ([*rows(39), a_row(39, sent=19.6)], {}, "p99 of its lag is 100 ms, more than 50 ms"),
    "late and failing": ([*rows(0, 39), a_row(39, sent=19.6)], {}, "the load generator was late"),
}


@pytest.mark.parametrize(("found", "load", "reason"), GENERATORS.values(), ids=GENERATORS)
def test_a_generator_that_did_not_offer_the_planned_load_proves_nothing(tmp_path, found, load, reason):
    """Exploit: freeze or kill the generator as soon as the first, fast answers are in."""
    made = graded(tmp_path, found, **load)
    assert made.verdict == "cannot_grade"
    assert reason in made.reasons[0]


@pytest.mark.parametrize("content", [None, "", '{"schema": 1, "start": 1.0}\n', "no json\n"])
def test_rows_that_cannot_be_read_are_no_verdict(tmp_path, content):
    write_load(tmp_path, rows(40))
    (tmp_path / "rows.jsonl").unlink()
    if content is not None:
        (tmp_path / "rows.jsonl").write_text(content)
    found = grade(tmp_path, PUBLIC)
    assert (found.verdict, found.checks) == ("cannot_grade", ())
    assert "left no usable rows" in found.reasons[0]


# ── a load that the proof cut short ──


def test_a_load_that_was_cut_short_counts_only_what_missed_for_certain(tmp_path):
    """Bug: what was in flight or not yet due when the load was cut would count as missed, and widen the margin."""
    young = [a_row(i, outcome="unfinished", first_token=None, end=None) for i in range(18, 20)]
    found = graded(tmp_path, rows(12, 6) + young, planned=40, cut_at=9.8)
    assert result(found, "goodput").value == 1 - 6 / 40
    assert found.verdict == "fail"


def test_what_was_due_too_long_ago_when_the_load_was_cut_is_a_miss(tmp_path):
    waiting = [a_row(i, outcome="unfinished", first_token=None, end=None) for i in range(10)]
    assert result(graded(tmp_path, waiting, planned=40, cut_at=12.0), "goodput").value == 0.75


def test_a_load_that_was_cut_short_never_passes(tmp_path):
    """Exploit: end the load while the queue is short. What was not sent yet has not been met either."""
    assert graded(tmp_path, rows(4), planned=40, cut_at=2.0).verdict == "cannot_grade"


def test_a_cut_load_whose_generator_had_to_be_killed_proves_nothing(tmp_path):
    """Bug: nobody knows when it stopped, so nobody can tell what missed for certain."""
    assert graded(tmp_path, rows(30), planned=40, cut_at=15.0, ended=False).verdict == "cannot_grade"
