"""Compares each window of searches with a pinned and a rolling reference."""

import os
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from stack.drift.config import Detector, DriftConfig, Threshold
from stack.drift.distances import SCORES, VECTORS, Distance
from stack.drift.null import Null, resample
from stack.drift.traffic import Searches

MOST_SEARCHES = 5_000
"""Of a reference: a distance of vectors takes some matrices of so many rows and columns (200 MB each)."""
Which = Literal["pinned", "rolling"]


@dataclass(frozen=True)
class Compared:
    """One detector's view of a window."""

    detector: str
    reference: Which
    distance: float
    usual: float
    """What the distance is without drift."""
    limit: float
    """What it must exceed to be beyond."""
    p_value: float
    beyond: bool
    in_a_row: int
    """Windows in a row that were beyond, this one included."""
    drift: bool


@dataclass(frozen=True)
class Looked:
    """A window and what every detector says of it."""

    number: int
    begun: float
    ended: float
    """Unix seconds of its first and last search."""
    searches: int
    no_answer: float
    """Share of its searches that found nothing that counts."""
    compared: tuple[Compared, ...]

    @property
    def drift(self) -> bool:
        """Whether any detector says so of the pinned reference."""
        return any(one.drift for one in self.compared if one.reference == "pinned")


class Reference:
    """Searches from a time when all was well, and how far apart windows of them are by chance."""

    def __init__(self, searches: Searches, config: DriftConfig) -> None:
        """Raises ValueError: too few searches for the windows of this configuration, or too many."""
        self.searches = searches
        self._config = config
        window = config.window.searches
        if len(searches) < 2 * window:
            raise ValueError(
                f"the reference has {len(searches)} searches; windows of {window} need at least twice as many: collect "
                "more, or make the windows smaller"
            )
        if len(searches) > MOST_SEARCHES:
            raise ValueError(
                f"the reference has {len(searches):,} searches; {MOST_SEARCHES:,} are the most: thin it out"
            )
        left = len(searches) - window
        self.compared: dict[Which, int] = {
            "pinned": left,
            "rolling": min(left, config.reference.rolling_windows * window),
        }
        """How many searches a window is compared with; a distance depends on it."""

    def nulls(self, detector: Detector) -> dict[Which, Null]:
        """Distances without drift, of windows against as many searches as they are compared with."""
        by_size = {
            size: resample(
                values_of(self.searches, detector),
                self._config.window.searches,
                distance_of(detector),
                self._config.draws,
                size,
            )
            for size in set(self.compared.values())
        }
        return {which: by_size[size] for which, size in self.compared.items()}


def values_of(searches: Searches, detector: Detector) -> np.ndarray:
    """What `detector` compares: vectors as they are. A projection that is fitted on the reference shrinks whatever was
    not in it, which looks like drift."""
    return {"queries": searches.vectors, "dense": searches.dense, "sparse": searches.sparse}[detector.signal]


def distance_of(detector: Detector) -> Distance:
    """The function behind a name."""
    return (VECTORS if detector.signal == "queries" else SCORES)[detector.distance]


def limit_of(threshold: Threshold, null: Null) -> float:
    """What a distance must exceed to be beyond."""
    if threshold.kind == "fixed":
        assert threshold.value is not None, "the configuration was checked"
        return threshold.value
    return max(null.quantile(threshold.share), null.middle + threshold.least_effect)


class Monitor:
    """Takes searches as they come, and looks at each window that they fill."""

    def __init__(self, config: DriftConfig, reference: Reference) -> None:
        self._config = config
        self.reference = reference
        self._pinned = self._sampled(reference.searches, "pinned")
        self.nulls = {name: reference.nulls(detector) for name, detector in config.detectors.items()}
        self._waiting: list[Searches] = []
        self._rolling: deque[Searches] = deque(maxlen=config.reference.rolling_windows)
        self._in_a_row: dict[tuple[str, Which], int] = {}
        self._windows = 0

    def take(self, searches: Searches) -> Iterator[Looked]:
        """Every window that is full now."""
        self._waiting.append(searches)
        size = self._config.window.searches
        while sum(map(len, self._waiting)) >= size:
            together = joined(self._waiting)
            self._waiting = [together[size:]]
            yield self._look(together[:size])

    def _look(self, window: Searches) -> Looked:
        self._windows += 1
        compared = [self._compare(name, "pinned", self._pinned, window) for name in self._config.detectors]
        if len(self._rolling) == self._rolling.maxlen:
            before = self._sampled(joined(list(self._rolling)), "rolling")
            compared += [self._compare(name, "rolling", before, window) for name in self._config.detectors]
        self._rolling.append(window)
        return Looked(
            self._windows,
            float(window.at[0]),
            float(window.at[-1]),
            len(window),
            float(1 - window.evidence.mean()),
            tuple(compared),
        )

    def _compare(self, name: str, which: Which, before: Searches, window: Searches) -> Compared:
        detector, null = self._config.detectors[name], self.nulls[name][which]
        distance = distance_of(detector)(values_of(before, detector), values_of(window, detector))
        limit = limit_of(detector.threshold, null)
        beyond = distance > limit
        row = self._in_a_row.get((name, which), 0) + 1 if beyond else 0
        self._in_a_row[name, which] = row
        drift = row >= self._config.consecutive
        return Compared(name, which, distance, null.middle, limit, null.p_value(distance), beyond, row, drift)

    def _sampled(self, before: Searches, which: Which) -> Searches:
        """As many as the null was measured against, the same rows each time."""
        most = self.reference.compared[which]
        return before[np.sort(np.random.default_rng(0).permutation(len(before))[:most])]


def joined(parts: list[Searches]) -> Searches:
    """One after the other."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Searches(*map(np.concatenate, columns))


def save(searches: Searches, path: Path) -> None:
    """Keep a reference; the file is there as a whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, **vars(searches))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def load(path: Path) -> Searches:
    """A reference that was kept. Raises OSError, and ValueError where it is none."""
    try:
        with np.load(path) as arrays:
            found = Searches(**{field.name: arrays[field.name] for field in fields(Searches)})
    except (KeyError, EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as problem:
        raise _no_reference(path, str(problem)) from problem
    if found.vectors.ndim != 2 or {len(column) for column in vars(found).values()} != {len(found)}:
        raise _no_reference(path, "its columns are of different lengths")
    if not all(np.isfinite(column).all() for column in vars(found).values()):
        raise _no_reference(path, "it has numbers that are not finite")
    return found


def _no_reference(path: Path, why: str) -> ValueError:
    return ValueError(f"{path}: no reference of the drift monitor ({why}); remove it to collect a new one")
