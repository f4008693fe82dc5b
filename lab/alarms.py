"""How often a drift monitor would ring by chance, from windows drawn from what was asked while nothing was wrong.

A graded load has time for a few quiet windows only: a limit that one window in forty exceeds rings all night, and is
quiet in two such loads of three.
"""

from contextlib import suppress

import numpy as np

from lab import state
from lab.run import Progress, Run
from lab.scenario import FalseAlarms, Public
from stack.drift.config import DriftConfig
from stack.drift.monitor import Monitor, Reference
from stack.drift.monitor import load as load_reference
from stack.drift.traffic import Searches, read
from stack.settings import load

DRAWS = 300


def alarm_figures(run: Run, public: Public, start: float, progress: Progress) -> dict[str, float | None]:
    """For each check of false alarms its rings per hour, of a graded load that began at `start` (unix seconds).

    The monitor is the one of the configuration in service, its reference that from before the incident. None where
    nothing was logged, too little for a window, or the reference is too small for it.
    """
    checks = [check for check in public.checks if isinstance(check, FalseAlarms)]
    if not checks:
        return {}
    progress("drawing windows from the usual questions: how often would the alarm ring by chance?")
    config, reference = load(run.applied / "drift.yaml", DriftConfig), load_reference(run.folder / state.REFERENCE)
    found: dict[str, float | None] = dict.fromkeys(check.id for check in checks)
    with suppress(OSError, ValueError):
        searches = read(run.applied / config.traffic, config.collection)
        for check in checks:
            usual = searches[(searches.at >= start) & (searches.at < start + check.first_seconds)]
            found[check.id] = rings_per_hour(config, reference, usual, len(usual) / check.first_seconds)
    return found


def rings_per_hour(
    config: DriftConfig, reference: Searches, usual: Searches, searches_per_second: float
) -> float | None:
    """False alarms to be expected in an hour of traffic like `usual`; None where that is too little for a window.

    A detector that finds a share p of the windows beyond its limit finds n in a row with p to the power of n, as no
    search is in two windows; what several detectors ring for is added. Raises ValueError: the reference is too small.
    """
    size = config.window.searches
    if len(usual) < size:
        return None
    monitor, rng = Monitor(config, Reference(reference, config)), np.random.default_rng(0)
    beyond = dict.fromkeys(config.detectors, 0)
    for _ in range(DRAWS):
        for name, found in monitor.beyond(usual[rng.permutation(len(usual))[:size]]).items():
            beyond[name] += found
    share = sum((count / DRAWS) ** config.consecutive for count in beyond.values())
    return min(1.0, share) * 3600 * searches_per_second / size
