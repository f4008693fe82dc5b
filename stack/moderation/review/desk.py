"""The review queue for the service: off the event loop, counted, watched, and down without harm."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Row

from stack.moderation.review.database import Database
from stack.moderation.review.errors import QueueDown
from stack.moderation.review.models import PRIORITIES, Outcome
from stack.moderation.review.queue import NewItem, ReviewQueue
from stack.telemetry.metrics import ModerationMetrics

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0  # for one transaction, its wait for a thread included; then the database counts as down
_WATCH_SECONDS = 1.0

P = ParamSpec("P")
R = TypeVar("R")


class ReviewDesk:
    """Every method may raise QueueDown, and what the queue's method of that name raises."""

    def __init__(self, database: Database, queue: ReviewQueue, metrics: ModerationMetrics) -> None:
        self._database = database
        self._queue = queue
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(1 if database.is_sqlite else 8, thread_name_prefix="review")
        self._migrated = False
        self._up: bool | None = None

    def migrate(self) -> None:
        """Bring the schema up to date, blocking. Raises QueueDown."""
        self._database.migrate()
        self._migrated = True
        self._metrics.queue_up.set(1)

    async def enqueue(self, new: NewItem) -> Row[Any]:
        """The item, on disk."""
        return await self._call(self._queue.enqueue, new)

    async def lease(self, reviewer: str, limit: int, seconds: float) -> list[Row[Any]]:
        """Items for a reviewer."""
        items = await self._call(self._queue.lease, reviewer, limit, seconds)
        for item in items:
            if item.times_leased == 1:
                waited = item.leased_until - seconds - item.enqueued_at
                self._metrics.queue_wait.labels(PRIORITIES[item.priority]).observe(max(0.0, waited))
        return items

    async def decide(self, id_: int, lease: str, outcome: Outcome, note: str | None) -> Row[Any]:
        """The decided item."""
        item, now_decided = await self._call(self._queue.decide, id_, lease, outcome, note)
        if now_decided:
            self._metrics.review_decisions.labels(outcome).inc()
            if outcome != item.leaning:
                self._metrics.overturned.inc()
        return item

    async def renew(self, id_: int, lease: str, seconds: float) -> Row[Any]:
        """The item with a longer lease."""
        return await self._call(self._queue.renew, id_, lease, seconds)

    async def release(self, id_: int, lease: str) -> Row[Any]:
        """The item, free again."""
        return await self._call(self._queue.release, id_, lease)

    async def get(self, id_: int) -> tuple[Row[Any], Sequence[Row[Any]]]:
        """An item and its history."""
        return await self._call(self._queue.get, id_)

    async def page(self, state: str | None, after: int, limit: int) -> Sequence[Row[Any]]:
        """Items in order of arrival."""
        return await self._call(self._queue.page, state, after, limit)

    async def counts(self) -> dict[str, int]:
        """Items by state."""
        return await self._call(self._queue.counts)

    async def watch(self) -> None:
        """Run for ever: reopen what expired, measure the queue, migrate once the database answers."""
        while True:
            try:
                if not self._migrated:
                    await self._in_thread(self.migrate)
                await self._measure()
            except QueueDown as error:
                self._set_up(False, error)
            except Exception:
                log.exception("the review queue cannot be watched")
                self._set_up(False, None)
            else:
                self._set_up(True, None)
            await asyncio.sleep(_WATCH_SECONDS)

    async def _measure(self) -> None:
        expired = await self._call(self._queue.reopen_expired)
        self._metrics.leases_expired.inc(expired)
        for priority, waiting in (await self._call(self._queue.waiting)).items():
            self._metrics.queue_depth.labels(priority).set(waiting.items)
            self._metrics.queue_oldest_age.labels(priority).set(waiting.oldest_seconds)

    def _set_up(self, up: bool, error: QueueDown | None) -> None:
        if up != self._up:
            log.log(
                logging.INFO if up else logging.ERROR,
                "review queue is up" if up else "review queue is down",
                extra={"reason": error and error.message, "cause": error and type(error.__cause__).__name__},
            )
        self._up = up
        self._metrics.queue_up.set(up)

    async def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if not self._migrated:
            raise QueueDown("the review queue's database has not answered yet; try again later")
        return await self._in_thread(function, *args, **kwargs)

    async def _in_thread(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))
        except TimeoutError as error:
            raise QueueDown("the review queue's database does not answer in time; try again later") from error

    def close(self) -> None:
        """Give up what waits, and close the connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._database.close()
