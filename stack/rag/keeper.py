"""Gets collections ready, keeps up with what other processes do, and builds indexes on demand, in the background."""

import logging
import threading
from collections.abc import Mapping
from time import monotonic

from stack.rag.config.collections import Slot
from stack.rag.hits import RetrievalError
from stack.rag.live import LiveCollection
from stack.rag.store import StoreError
from stack.service.background import Background, lower_priority
from stack.service.errors import TooMany
from stack.telemetry.metrics import RagMetrics

log = logging.getLogger(__name__)

_SOON_SECONDS = 3.0  # between two attempts to get a collection ready
_LATER_SECONDS = 30.0  # where only somebody's hand can mend what is wrong
_NICENESS = 10  # of a build beside searches


class Keeper:
    """What is done for collections beside searches."""

    def __init__(self, collections: Mapping[str, LiveCollection], seconds: float, metrics: RagMetrics) -> None:
        """`seconds`: between two looks at the store and at the slots."""
        self._collections = collections
        self._metrics = metrics
        self.background = Background("keeper", self._work, seconds)
        """Does not wait for a build when it stops: killed at any moment, the build goes on at the next start."""
        self._tried: dict[str, float] = {}
        self._building: dict[str, Slot] = {}
        self._outcomes: dict[str, str] = {}
        self._problems: dict[str, str | None] = {}
        self._lock = threading.Lock()

    @property
    def reasons(self) -> list[str]:
        """Why not every collection can be searched."""
        return [reason for live in self._collections.values() if (reason := live.reason)]

    @property
    def stuck(self) -> bool:
        """Whether a collection cannot be searched until something is changed."""
        return any(live.reason and not live.passing for live in self._collections.values())

    def build(self, name: str, slot: Slot) -> None:
        """Build an index in the background. Raises TooMany while another build of the service runs; RetrievalError."""
        live = self._collections[name]
        live.index_settings(slot)
        with self._lock:
            if self._building:
                raise TooMany("an index is being built already; try again when it is done")
            self._building[name] = slot
        threading.Thread(target=self._build, args=(live, slot), name="build", daemon=True).start()

    def building(self, name: str) -> Slot | None:
        """The slot that is being built on demand."""
        return self._building.get(name)

    def outcome(self, name: str) -> str | None:
        """What the last build on demand came to."""
        return self._outcomes.get(name)

    def _build(self, live: LiveCollection, slot: Slot) -> None:
        lower_priority(_NICENESS)
        try:
            built = live.build(slot)
            outcome = f"{slot}: {built.outcome}, version {built.manifest.version}"
        except RetrievalError as problem:
            log.error("index not built", extra={"collection": live.name, "slot": slot, "problem": str(problem)})
            outcome = f"{slot}: failed: {problem}"
        except Exception:
            log.exception("index not built", extra={"collection": live.name, "slot": slot})
            outcome = f"{slot}: failed; the log tells more"
        with self._lock:
            self._outcomes[live.name] = outcome
            self._building.pop(live.name, None)

    def _work(self) -> None:
        store_answers = True
        for name, live in self._collections.items():
            try:
                again = _SOON_SECONDS if live.passing else _LATER_SECONDS
                if live.problem and monotonic() - self._tried.get(name, float("-inf")) > again:
                    live.prepare()
                    self._tried[name] = monotonic()
                live.refresh()
                self._tell(name, None)
            except RetrievalError as problem:
                store_answers &= not isinstance(problem, StoreError)
                self._tell(name, str(problem))
            except Exception as problem:
                log.exception("cannot keep up", extra={"collection": name})
                self._tell(name, repr(problem))
        self._metrics.store_ready.set(store_answers)

    def _tell(self, name: str, problem: str | None) -> None:
        """Into the log, once for each change."""
        if problem != self._problems.get(name):
            level = logging.ERROR if problem else logging.INFO
            log.log(level, "keeping up", extra={"collection": name, "problem": problem})
        self._problems[name] = problem
