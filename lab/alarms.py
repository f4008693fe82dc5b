"""What a drift monitor's alarm is worth: how often it would ring by chance, and how often miss a change.

A graded load has time for a few windows only. A limit that one window in forty exceeds rings all night, and is quiet in
two such loads of three; windows of which two thirds show a change ring through one load, and hardly in the next. So
windows are drawn from the searches that there are.
"""

import math

import numpy as np
from scipy import stats

from lab import state
from lab.run import Progress, Run
from lab.scenario import FalseAlarms, MissedAlarms, Public
from stack.drift.config import DriftConfig
from stack.drift.monitor import Reference, distance_of, limit_of, values_of
from stack.drift.monitor import load as load_reference
from stack.drift.null import resample
from stack.drift.traffic import Searches, read
from stack.settings import load

DRAWS, SEED = 300, 1
"""Other windows than those that the monitor sets its limits by."""
CHANGED_DRAWS = 100
"""They tell a share near one half, not one in a thousand."""


def alarm_figures(run: Run, public: Public, start: float, progress: Progress) -> dict[str, float | None]:
    """For each check of alarms its figure, with the monitor's configuration that is in service.

    `start`: of the graded load, unix seconds. The reference is that from before the incident. None where it, or what
    came after the change, is too small for the windows.
    """
    config, found = run.applied / "drift.yaml", {}
    for check in public.checks:
        if isinstance(check, FalseAlarms):
            progress("drawing windows from the monitor's reference: how often would the alarm ring by chance?")
            found[check.id] = _false_alarms(load(config, DriftConfig), run, check)
        elif isinstance(check, MissedAlarms):
            progress("drawing windows from what came after the change: how often would the alarm be silent?")
            found[check.id] = _missed_alarms(load(config, DriftConfig), run, start + check.after_seconds)
    return found


def _false_alarms(config: DriftConfig, run: Run, check: FalseAlarms) -> float | None:
    try:
        return rings_per_hour(config, load_reference(run.folder / state.REFERENCE), check.searches_per_second)
    except ValueError:
        return None


def _missed_alarms(config: DriftConfig, run: Run, since: float) -> float | None:
    try:
        searches = read(run.applied / config.traffic, config.collection)
        return silent_share(config, load_reference(run.folder / state.REFERENCE), searches[searches.at >= since])
    except (OSError, ValueError):
        return None


def rings_per_hour(config: DriftConfig, searches: Searches, searches_per_second: float) -> float:
    """False alarms to be expected in an hour of traffic like the reference's `searches`.

    A detector that finds a share p of the windows beyond its limit finds n in a row with p to the power of n, as no
    search is in two windows; what several detectors ring for is added. Raises ValueError: the reference is too small.
    """
    reference, size, share = Reference(searches, config), config.window.searches, 0.0
    for detector in config.detectors.values():
        limit = limit_of(detector.threshold, reference.nulls(detector)["pinned"])
        values, compared = values_of(searches, detector), reference.compared["pinned"]
        drawn = resample(values, size, distance_of(detector), DRAWS, compared, SEED)
        share += share_beyond(drawn.values, limit) ** config.consecutive
    return min(1.0, share) * 3600 * searches_per_second / size


def silent_share(config: DriftConfig, searches: Searches, changed: Searches) -> float:
    """Share of the time in which the alarm is silent although the traffic, once like the reference's `searches`, is now
    like `changed`: no detector has found as many windows in a row beyond its limit as it must.

    Raises ValueError: the reference, or the changed traffic, is too small for the windows.
    """
    reference, size = Reference(searches, config), config.window.searches
    if len(changed) < size:
        raise ValueError(f"{len(changed)} searches after the change are no window of {size}")
    rows = np.random.default_rng(SEED)
    silent = []
    for detector in config.detectors.values():
        limit = limit_of(detector.threshold, reference.nulls(detector)["pinned"])
        before, after, distance = values_of(searches, detector), values_of(changed, detector), distance_of(detector)
        beyond = [
            distance(
                before[rows.permutation(len(before))[: reference.compared["pinned"]]],
                after[rows.permutation(len(after))[:size]],
            )
            > limit
            for _ in range(CHANGED_DRAWS)
        ]
        silent.append(1 - float(np.mean(beyond)) ** config.consecutive)
    return math.prod(silent)


def share_beyond(distances: np.ndarray, limit: float) -> float:
    """Of windows as far apart as `distances`, the share that is farther than `limit`.

    By the distribution of Pearson's type III with their mean, variance and skewness (a shifted gamma distribution):
    counting a few hundred of them would tell no share below one in a few hundred from 0.
    """
    spread = distances.std(ddof=1)
    if spread == 0:
        return float(distances.mean() > limit)
    return float(stats.pearson3.sf(limit, stats.skew(distances), distances.mean(), spread))
