"""A capacity that was measured while the stack stood still is none."""

import pytest

from lab.calibrate import CAPACITY_SECONDS, WARM_SECONDS, longest_pause


@pytest.mark.parametrize(
    ("ends", "pause"),
    [
        ([WARM_SECONDS + i / 10 for i in range(1, 121)], 0.1),
        ([5.0, 8.0, 15.0], 7.0),  # in between
        ([10.0], 6.0),  # at both ends
        ([15.5, 5.0, 10.0], 5.5),  # in whatever order they ended
        ([], CAPACITY_SECONDS - WARM_SECONDS),
    ],
)
def test_the_longest_time_without_an_answer(ends: list[float], pause: float) -> None:
    assert longest_pause(ends) == pytest.approx(pause)
