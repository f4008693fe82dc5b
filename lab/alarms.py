"""What a drift monitor's alarm is worth: how often it would ring by chance, and how often miss a change.

A graded load has time for a few windows only. A limit that one window in forty exceeds rings all night, and is quiet in
two such loads of three; windows of which two thirds show a change ring through one load, and hardly in the next. So
windows are drawn from the searches that there are.
"""

from pathlib import Path

import numpy as np
from scipy import stats

from lab import state
from lab.run import Progress, Run
from lab.scenario import AlarmCheck, FalseAlarms, MissedAlarms, Public
from stack.drift.config import DriftConfig
from stack.drift.monitor import Reference, distance_of, limit_of, values_of
from stack.drift.monitor import load as load_reference
from stack.drift.null import resample
from stack.drift.traffic import Searches, read
from stack.settings import load

DRAWS, SEED = 300, 1
"""Other windows than those that the monitor sets its limits by."""
CHANGED_DRAWS = 100
"""They tell a share near one half, not one in a thousand. No fewer than the windows that may have to be in a row."""
STREAKS = 10_000
"""Windows in a row, taken from those at random: by themselves a standard error of .005 at most."""


def alarm_figures(run: Run, public: Public, start: float, progress: Progress) -> dict[str, float | None]:
    """For each check of the alarm its figure, with the monitor's configuration that is in service.

    `start`: of the graded load, unix seconds. The reference is that from before the incident. None where it, or what
    came after the change, is too small for the windows.
    """
    checks = [check for check in public.checks if isinstance(check, AlarmCheck)]
    if not checks:
        return {}
    progress("drawing windows from the monitor's reference: how far apart are they by chance?")
    config, reference = load(run.applied / "drift.yaml", DriftConfig), load_reference(run.folder / state.REFERENCE)
    try:
        alarm = Alarm(config, reference)
    except ValueError:
        return dict.fromkeys((check.id for check in checks), None)
    found: dict[str, float | None] = {}
    for check in checks:
        if isinstance(check, FalseAlarms):
            progress("drawing others: how often would the alarm ring by chance?")
            found[check.id] = alarm.rings_per_hour(check.searches_per_second)
        elif isinstance(check, MissedAlarms):
            progress("drawing windows from what came after the change: how often would the alarm be silent?")
            found[check.id] = _missed(
                alarm, run.applied / config.traffic, config.collection, start + check.after_seconds
            )
    return found


def _missed(alarm: "Alarm", traffic: Path, collection: str, since: float) -> float | None:
    try:
        searches = read(traffic, collection)
        return alarm.silent_share(searches[searches.at >= since])
    except (OSError, ValueError):
        return None


class Alarm:
    """The alarm of a monitor as it is configured, with the limits that its reference gives it."""

    def __init__(self, config: DriftConfig, searches: Searches) -> None:
        """`searches`: of the reference. Raises ValueError: they are too few for the windows."""
        reference = Reference(searches, config)
        self._config = config
        self._searches = searches
        self._compared = reference.compared["pinned"]
        self._limits = {
            name: limit_of(detector.threshold, reference.nulls(detector)["pinned"])
            for name, detector in config.detectors.items()
        }

    def rings_per_hour(self, searches_per_second: float) -> float:
        """False alarms to be expected in an hour of traffic like the reference's, at most.

        A detector that finds a share p of the windows beyond its limit finds n in a row with p to the power of n, as no
        search is in two windows; what several detectors ring for is added, as if they never rang together: how often
        they do is not to be seen in a few hundred windows, of which hardly one is beyond.
        """
        size, share = self._config.window.searches, 0.0
        for name, detector in self._config.detectors.items():
            values = values_of(self._searches, detector)
            drawn = resample(values, size, distance_of(detector), DRAWS, self._compared, SEED)
            share += share_beyond(drawn.values, self._limits[name]) ** self._config.consecutive
        return min(1.0, share) * 3600 * searches_per_second / size

    def silent_share(self, changed: Searches) -> float:
        """Share of the time in which the alarm is silent although the traffic, once like the reference's, is now like
        `changed`: no detector has found as many windows in a row beyond its limit as it must.

        All detectors are asked about the same windows, as the monitor asks them: those that look at the same thing miss
        the same ones. The standard error, for the searches that there are, is at most .05 times the root of how many
        must be in a row (Hoeffding, "A Class of Statistics with Asymptotically Normal Distribution", 1948).

        Raises ValueError: the changed traffic is too small for the windows.
        """
        size = self._config.window.searches
        if len(changed) < size:
            raise ValueError(f"{len(changed)} searches after the change are no window of {size}")
        dice = np.random.default_rng(SEED)
        beyond = np.array(
            [
                self._beyond(
                    self._searches[dice.permutation(len(self._searches))[: self._compared]],
                    changed[dice.permutation(len(changed))[:size]],
                )
                for _ in range(CHANGED_DRAWS)
            ]
        )
        order = dice.permuted(np.tile(np.arange(CHANGED_DRAWS), (STREAKS, 1)), axis=1)
        streaks = beyond[order[:, : self._config.consecutive]]
        return 1 - float(streaks.all(axis=1).any(axis=1).mean())

    def _beyond(self, before: Searches, window: Searches) -> list[bool]:
        """For each detector whether the window is beyond its limit."""
        return [
            distance_of(detector)(values_of(before, detector), values_of(window, detector)) > self._limits[name]
            for name, detector in self._config.detectors.items()
        ]


def share_beyond(distances: np.ndarray, limit: float) -> float:
    """Of windows as far apart as `distances`, the share that is farther than `limit`.

    By the distribution of Pearson's type III with their mean, variance and skewness (a shifted gamma distribution):
    counting a few hundred of them would tell no share below one in a few hundred from 0.
    """
    spread = distances.std(ddof=1)
    if spread == 0:
        return float(distances.mean() > limit)
    return float(stats.pearson3.sf(limit, stats.skew(distances), distances.mean(), spread))
