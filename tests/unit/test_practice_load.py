"""The load of a drill: how much it is on this machine, in requests and in words."""

import pytest
from pydantic import ValidationError

from lab.drill import described, practice_plan, rate
from lab.scenario import Load, Loads


def a_load(amount, unit):
    return Load(user="reading_desk", rate=amount, unit=unit, seed=1, tenant="demo", target="desk")


@pytest.mark.parametrize(
    ("amount", "unit", "requests_per_second", "words"),
    [
        (0.5, "capacity", 4.0, "4.00 requests/s"),
        (3, "requests/s", 3.0, "3.00 requests/s"),
        (12, "in flight", None, "12 callers, each with one request in flight"),
    ],
)
def test_a_load_follows_its_unit(amount, unit, requests_per_second, words):
    load = a_load(amount, unit)
    assert described(load, 8.0) == words
    header = practice_plan(load, 8.0, 60).header
    if requests_per_second is None:
        assert (header.mode, header.concurrency) == ("closed", 12)
        assert header.requests > 8.0 * 60  # callers who wait must not run out of questions
    else:
        assert (header.mode, header.rate) == ("open", requests_per_second)
        assert rate(load, 8.0) == requests_per_second


def test_grading_is_never_done_by_callers_who_wait():
    """Callers who wait for slow answers send fewer questions: a slow stack would be asked less."""
    with pytest.raises(ValidationError, match="give a rate"):
        Loads(practice=a_load(12, "in flight"), grading=a_load(12, "in flight"))
