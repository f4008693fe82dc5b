"""A capacity that was measured while the stack stood still is none; a machine that is too slow grades nothing."""

import pytest
from handmade import a_public

from lab.calibrate import CAPACITY_SECONDS, WARM_SECONDS, longest_pause, too_slow, unsteady


@pytest.mark.parametrize(
    ("ends", "pause"),
    [
        ([WARM_SECONDS + i / 10 for i in range(1, 361)], 0.1),
        ([5.0, 22.0, 39.0], 17.0),  # in between
        ([20.0], 20.0),  # at the end
        ([39.0, 5.0, 20.0], 19.0),  # in whatever order they ended
        ([], CAPACITY_SECONDS - WARM_SECONDS),
    ],
)
def test_the_longest_time_without_an_answer(ends: list[float], pause: float) -> None:
    assert longest_pause(ends) == pytest.approx(pause)


@pytest.mark.parametrize(("met", "enough"), [(1.0, True), (0.94, True), (0.93, False), (0.9, False), (None, False)])
def test_the_healthy_stack_has_to_leave_room_below_what_a_graded_one_may_miss(met: float | None, enough: bool) -> None:
    """Nine of ten are asked for. A healthy stack that met them in 93 % failed one load of ten by chance."""
    problem = too_slow({"goodput": met}, a_public())
    assert (problem is None) is enough


@pytest.mark.parametrize(
    ("before", "after", "steady"), [(100, 90, True), (90, 100, True), (100, 80, False), (80, 100, False)]
)
def test_a_machine_whose_speed_changes_while_it_is_measured_gives_no_baseline(
    before: float, after: float, steady: bool
) -> None:
    assert (unsteady(before, after) is None) is steady
