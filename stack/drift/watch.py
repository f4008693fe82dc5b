"""The monitor at work: reads the traffic log, collects a reference where there is none, tells what windows are like."""

import logging
from collections import deque
from pathlib import Path

from stack.drift.config import DriftConfig
from stack.drift.monitor import Looked, Monitor, Reference, joined, load, save
from stack.drift.traffic import Log, Parser, Searches
from stack.service.background import Background
from stack.settings import ConfigError
from stack.telemetry.metrics import DriftMetrics

log = logging.getLogger(__name__)

KEPT = 1000  # windows that are told of
_NICENESS = 10  # nobody waits for it, and it must not slow down what it watches


class Watch:
    """Looks at traffic in the background."""

    def __init__(self, config: DriftConfig, folder: Path, metrics: DriftMetrics) -> None:
        """Paths of `config` count from `folder`. Raises ConfigError: the reference there cannot be used."""
        self._config = config
        self._metrics = metrics
        self._file = folder / config.reference.file
        self._collected: list[Searches] = []
        self._monitor: Monitor | None = None
        self._failure: str | None = None
        self.background = Background("drift", self.look, config.every_seconds, _NICENESS)
        self._reference = self._stored()
        dimensions = self._reference.searches.dimensions if self._reference is not None else None
        self._parser = Parser(config.collection, dimensions)
        self._log = Log(folder / config.traffic, self._parser)
        if self._reference is not None:
            self._log.skip()  # an alarm about yesterday must not come again with every start
        self._searches = metrics.searches.labels(config.collection)  # there, and 0, before the first one comes
        self.looked: deque[Looked] = deque(maxlen=KEPT)

    def _stored(self) -> Reference | None:
        if not self._file.exists():
            return None
        try:
            return Reference(load(self._file), self._config)
        except (OSError, ValueError) as problem:
            raise ConfigError("drift.yaml", [f"drift.yaml: reference.file: {problem}"]) from problem

    @property
    def measuring(self) -> list[str]:
        """Why it is not ready. Without a reference it is: to collect one may take days."""
        if self._failure is not None:
            return [f"the last look at the traffic failed: {self._failure}"]
        if self._reference is None or self._monitor is not None:
            return []
        return ["measuring how far windows of the reference are apart by chance"]

    @property
    def reasons(self) -> list[str]:
        """Why nothing is compared."""
        if self._reference is None:
            there = sum(map(len, self._collected))
            collecting = f"collecting the reference: {there:,} of {self._config.reference.searches:,} searches"
            return [collecting, *self.measuring]
        return self.measuring

    def look(self) -> None:
        """Take what is new in the traffic log."""
        try:
            self._look()
        except Exception as problem:  # whatever it is, the metrics must not go on saying that all is well
            self._failure = f"{type(problem).__name__}: {problem}"
            self._metrics.failures.inc()
            raise
        self._failure = None

    def _look(self) -> None:
        refused = self._parser.refused
        new = self._log.new()
        self._metrics.refused.inc(self._parser.refused - refused)
        if new is not None:
            self._searches.inc(len(new))
            new = self._collect(new) if self._reference is None else new
        if self._reference is not None and self._monitor is None:
            with self._metrics.measuring.track_inprogress():
                self._monitor = Monitor(self._config, self._reference)
            self._metrics.reference_searches.set(len(self._reference.searches))
            log.info("looking", extra={"reference": len(self._reference.searches)})
        if new is not None and self._monitor is not None:
            for looked in self._monitor.take(new):
                self._tell(looked)

    def _collect(self, new: Searches) -> Searches | None:
        """What is left when the reference is full, else None."""
        together = joined([*self._collected, new])
        self._collected = [together]
        wanted = self._config.reference.searches
        if len(together) < wanted:
            return None
        save(together[:wanted], self._file)  # first: what is not kept would be another one after the next start
        self._reference = Reference(together[:wanted], self._config)
        self._collected = []
        return together[wanted:]

    def _tell(self, looked: Looked) -> None:
        self.looked.append(looked)
        metrics = self._metrics
        metrics.windows.inc()
        metrics.window_end.set(looked.ended)
        metrics.no_answer.set(looked.no_answer)
        if len(self.looked) >= self._config.consecutive:
            last = list(self.looked)[-self._config.consecutive :]
            metrics.no_answer_lasting.set(min(one.no_answer for one in last))
        for one in looked.compared:
            labels = (one.detector, one.reference)
            metrics.distance.labels(*labels).set(one.distance)
            metrics.usual.labels(*labels).set(one.usual)
            metrics.limit.labels(*labels).set(one.limit)
            metrics.p_value.labels(*labels).set(one.p_value)
            metrics.in_a_row.labels(*labels).set(one.in_a_row)
            metrics.detected.labels(*labels).set(one.drift)
        beyond = sorted({f"{one.detector} ({one.reference})" for one in looked.compared if one.beyond})
        log.info("window", extra={"number": looked.number, "searches": looked.searches, "beyond": beyond,
                                  "drift": looked.drift})  # fmt: skip
