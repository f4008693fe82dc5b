"""Arrival rates over time, as pieces of constant rate, and the seeded Poisson arrivals that follow them."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

STEP_FACTOR = 2.0
SPIKE_FACTOR = 4.0


@dataclass(frozen=True)
class Piece:
    """`rate` requests/s from `start` until just before `end` (seconds since the run's start)."""

    start: float
    end: float
    rate: float


def steady(rate: float, seconds: float) -> list[Piece]:
    """`rate` all the time."""
    return [Piece(0.0, seconds, rate)]


def step(rate: float, seconds: float) -> list[Piece]:
    """`rate` in the first half, twice as much from then on."""
    middle = seconds / 2
    return [Piece(0.0, middle, rate), Piece(middle, seconds, rate * STEP_FACTOR)]


def spike(rate: float, seconds: float) -> list[Piece]:
    """`rate`, but four times as much in the third of five equal parts."""
    up, down = seconds * 2 / 5, seconds * 3 / 5
    return [Piece(0.0, up, rate), Piece(up, down, rate * SPIKE_FACTOR), Piece(down, seconds, rate)]


SHAPES: dict[str, Callable[[float, float], list[Piece]]] = {"steady": steady, "step": step, "spike": spike}


def peak(pieces: Sequence[Piece]) -> float:
    """The highest rate, in requests/s."""
    return max(piece.rate for piece in pieces)


def expected(pieces: Sequence[Piece]) -> float:
    """The mean number of arrivals."""
    return sum((piece.end - piece.start) * piece.rate for piece in pieces)


def poisson(pieces: Sequence[Piece], dice: random.Random) -> Iterator[float]:
    """Times of arrival in seconds, in order.

    A Poisson process has no memory, so each piece starts afresh at its own rate: the gap that reaches over
    the end of a piece is dropped, and the process stays exact.
    """
    for piece in pieces:
        moment = piece.start
        while True:
            # Only `random()` is promised to repeat itself for a seed in later Pythons; `expovariate` is not.
            moment -= math.log(1.0 - dice.random()) / piece.rate
            if moment >= piece.end:
                break
            yield moment
