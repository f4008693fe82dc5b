"""When calls are repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.gateway.config.upstreams import Retries
from stack.gateway.retries import RetryBudget, backoff


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def granted(budget: RetryBudget, times: int) -> int:
    return sum(budget.take() for _ in range(times))


def test_repetitions_are_a_share_of_the_requests_of_the_last_seconds() -> None:
    clock = Clock()
    budget = RetryBudget(Retries(budget_share=0.1, budget_seconds=10), clock)
    for _ in range(50):
        budget.request()
    assert granted(budget, 50) == 5
    clock.now += 5
    assert granted(budget, 50) == 0
    for _ in range(50):
        budget.request()
    assert granted(budget, 50) == 5


def test_what_is_older_than_the_window_counts_no_more() -> None:
    clock = Clock()
    budget = RetryBudget(Retries(budget_share=0.5, budget_seconds=10), clock)
    for _ in range(20):
        budget.request()
    assert granted(budget, 20) == 10
    clock.now += 10
    assert granted(budget, 20) == 1


def test_one_repetition_is_possible_where_requests_are_few() -> None:
    budget = RetryBudget(Retries(budget_share=0.1), Clock())
    budget.request()
    assert granted(budget, 5) == 1


@given(st.integers(0, 400))
def test_an_upstream_that_always_fails_gets_no_more_than_the_share_on_top(requests: int) -> None:
    budget = RetryBudget(Retries(budget_share=0.1), Clock())
    sent = 0
    for _ in range(requests):
        budget.request()
        sent += budget.take()
    assert sent <= max(1, requests * 0.1)


@pytest.mark.parametrize(("repetition", "bound"), [(0, 0.1), (1, 0.2), (3, 0.8), (10, 1.5)])
def test_waits_are_random_below_a_bound_that_doubles_up_to_a_most(repetition: int, bound: float) -> None:
    config = Retries(backoff_seconds=0.1, backoff_most_seconds=1.5)
    waits = [backoff(config, repetition) for _ in range(500)]
    assert 0 <= min(waits) < bound * 0.2
    assert bound * 0.8 < max(waits) <= bound


def test_nothing_is_repeated_unless_the_configuration_says_so() -> None:
    assert Retries().most == 0
