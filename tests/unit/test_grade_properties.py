"""Properties of grading that hold for any load: noise and gaps never turn a fail into a pass."""

import tempfile
from pathlib import Path
from typing import Any

from handmade import PUBLIC, a_row, graded, result
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.grade import STALL_SECONDS, Grade, grade, same_speed
from lab.host import QUIET_SHARE

FEW = settings(max_examples=30, deadline=None)
KINDS: dict[str, dict[str, Any]] = {
    "good": {},
    "slow start": {"first_token": 1.1, "end": 2.0},
    "slow tokens": {"end": 3.9},
    "slow": {"end": 8.1, "completion_tokens": 200},
    "refused": {"outcome": "http_error", "status": 429},
    "unfinished": {"outcome": "unfinished", "end": None},
    "silent": {"first_token": None},
    "empty": {"completion_tokens": 0},
}
kinds = st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=25)


def grade_of(names: list[str], changes: dict[str, Any] | None = None) -> Grade:
    with tempfile.TemporaryDirectory() as folder:
        return graded(Path(folder), [a_row(i, **KINDS[name]) for i, name in enumerate(names)], changes)


@FEW
@given(names=kinds, data=st.data())
def test_more_misses_never_turn_fail_into_pass(names, data):
    miss = st.sampled_from(sorted(set(KINDS) - {"good"}))
    worse = list(names)
    for i in data.draw(st.sets(st.integers(0, len(names) - 1))):
        worse[i] = data.draw(miss)
    worse += data.draw(st.lists(miss, max_size=10))
    before, after = result(grade_of(names), "goodput"), result(grade_of(worse), "goodput")
    assert after.value <= before.value
    assert (before.outcome, after.outcome) != ("fail", "pass")


amounts = st.one_of(st.none(), st.floats(0, 1e6))


@FEW
@given(names=kinds, cost=amounts, healthy=amounts, tokens=amounts, probe=st.floats(0, 1))
def test_a_margin_is_at_least_one_or_there_is_none(names, cost, healthy, tokens, probe):
    found = grade_of(
        names,
        {"metrics.costs.cost": cost, "healthy.costs.cost": healthy, "healthy.figures.completion_tokens": tokens,
         "prompts.prompt": {"share": probe, "missing": None}},
    )  # fmt: skip
    assert all(item.margin is None or item.margin >= 1 for item in found.checks)


conditions = st.fixed_dictionaries(
    {
        "conditions.host.outside_share": st.floats(0, 0.2),
        "conditions.host.steal_share": st.floats(0, 0.2),
        "conditions.host.worst_stall_seconds": st.floats(0, 4),
        "conditions.anchors.before": st.floats(70, 130),
        "conditions.anchors.after": st.floats(70, 130),
        "conditions.ended": st.sampled_from([[], [], ["llm"]]),
        "conditions.changed": st.sampled_from([None, None, "changed"]),
        "metrics.problem": st.sampled_from([None, None, "gap"]),
        "metrics.costs.cost": st.sampled_from([None, 100.0, 100.0, 1000.0]),
        "prompts.prompt.share": st.sampled_from([1.0, 1.0, 0.5]),
    }
)


@settings(max_examples=60, deadline=None)
@given(changes=conditions, bad=st.sampled_from([0, 0, 20]))
def test_a_pass_means_that_every_check_passed_and_nothing_disturbed(changes, bad):
    found = grade_of(["good"] * (20 - bad) + ["slow"] * bad, changes)
    outcomes = {item.outcome for item in found.checks}
    host, anchors = found.conditions["host"], found.conditions["anchors"]
    quiet = (
        host["outside_share"] + host["steal_share"] <= QUIET_SHARE
        and host["worst_stall_seconds"] <= STALL_SECONDS
        and all(same_speed(anchors[when], 100) for when in ("before", "after"))
        and not (changes["conditions.ended"] or changes["conditions.changed"] or changes["metrics.problem"])
    )
    assert (found.verdict == "pass") == (quiet and outcomes == {"pass"})
    assert (found.verdict == "fail") == (quiet and "fail" in outcomes)
    assert (found.verdict == "cannot_grade") == bool(found.reasons and not (quiet and "fail" in outcomes))


@FEW
@given(names=kinds, changes=conditions)
def test_the_same_folder_gives_the_same_grade(names, changes):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = [a_row(i, **KINDS[kind]) for i, kind in enumerate(names)]
        first = graded(folder, found, changes)
        assert grade(folder, PUBLIC) == first
