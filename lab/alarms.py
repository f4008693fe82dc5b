"""How often a drift monitor would ring by chance, from windows drawn from its reference.

A graded load has time for a few quiet windows only: a limit that one window in forty exceeds rings all night, and is
quiet in two such loads of three.
"""

import numpy as np
from scipy import stats

from lab import state
from lab.run import Progress, Run
from lab.scenario import FalseAlarms, Public
from stack.drift.config import DriftConfig
from stack.drift.monitor import Reference, distance_of, limit_of, values_of
from stack.drift.monitor import load as load_reference
from stack.drift.null import resample
from stack.drift.traffic import Searches
from stack.settings import load

DRAWS, SEED = 300, 1
"""Other windows than those that the monitor sets its limits by."""


def alarm_figures(run: Run, public: Public, progress: Progress) -> dict[str, float | None]:
    """For each check of false alarms its rings per hour, with the monitor's configuration that is in service.

    The reference is that from before the incident. None where it is too small for the windows.
    """
    checks = [check for check in public.checks if isinstance(check, FalseAlarms)]
    if not checks:
        return {}
    progress("drawing windows from the monitor's reference: how often would the alarm ring by chance?")
    config, reference = load(run.applied / "drift.yaml", DriftConfig), load_reference(run.folder / state.REFERENCE)
    try:
        return {check.id: rings_per_hour(config, reference, check.searches_per_second) for check in checks}
    except ValueError:
        return dict.fromkeys((check.id for check in checks), None)


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


def share_beyond(distances: np.ndarray, limit: float) -> float:
    """Of windows as far apart as `distances`, the share that is farther than `limit`.

    By the distribution of Pearson's type III with their mean, variance and skewness (a shifted gamma distribution):
    counting a few hundred of them would tell no share below one in a few hundred from 0.
    """
    spread = distances.std(ddof=1)
    if spread == 0:
        return float(distances.mean() > limit)
    return float(stats.pearson3.sf(limit, stats.skew(distances), distances.mean(), spread))
