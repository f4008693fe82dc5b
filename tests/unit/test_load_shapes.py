"""Arrival rates and the Poisson arrivals that follow them."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.shapes import SHAPES, Piece, expected, peak, poisson

RATES = st.floats(0.1, 50)
LENGTHS = st.floats(1, 60)


def arrivals(shape: str, rate: float, seconds: float, seed: int) -> list[float]:
    return list(poisson(SHAPES[shape](rate, seconds), random.Random(seed)))


@given(shape=st.sampled_from(sorted(SHAPES)), rate=RATES, seconds=LENGTHS, seed=st.integers(0, 2**32))
def test_arrivals_are_in_order_inside_the_run_and_the_same_for_a_seed(shape, rate, seconds, seed):
    moments = arrivals(shape, rate, seconds, seed)
    assert moments == sorted(moments)
    assert all(0 <= moment < seconds for moment in moments)
    assert moments == arrivals(shape, rate, seconds, seed)


@given(shape=st.sampled_from(sorted(SHAPES)), rate=RATES, seconds=LENGTHS)
def test_pieces_cover_the_run_without_gap_or_overlap(shape, rate, seconds):
    pieces = SHAPES[shape](rate, seconds)
    assert pieces[0].start == 0
    assert pieces[-1].end == seconds
    assert [piece.end for piece in pieces[:-1]] == [piece.start for piece in pieces[1:]]


@pytest.mark.parametrize(("shape", "mean", "top"), [("steady", 1000, 10), ("step", 1500, 20), ("spike", 1600, 40)])
def test_a_shape_offers_what_it_says(shape, mean, top):
    pieces = SHAPES[shape](10, 100)
    assert expected(pieces) == pytest.approx(mean)
    assert peak(pieces) == top
    # Over 20 seeds the sum of a Poisson count stays within five of its standard deviations.
    total = sum(len(arrivals(shape, 10, 100, seed)) for seed in range(20))
    assert abs(total - 20 * mean) < 5 * (20 * mean) ** 0.5


def test_each_piece_has_arrivals_at_its_own_rate():
    moments = arrivals("spike", 20, 100, seed=3)
    counts = [sum(start <= moment < start + 20 for moment in moments) for start in (0, 20, 40, 60, 80)]
    assert counts[2] == max(counts)
    assert abs(counts[2] - 1600) < 5 * 40
    assert all(abs(count - 400) < 5 * 20 for count in (*counts[:2], *counts[3:]))


def test_gaps_vary_as_those_of_independent_people_do():
    moments = list(poisson([Piece(0, 1000, 5)], random.Random(1)))
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert spread / mean == pytest.approx(1, abs=0.1)  # of evenly spaced arrivals it would be 0
