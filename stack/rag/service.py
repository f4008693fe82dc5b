"""What the routes share: the collections, the threads that search, who calls."""

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, ClassVar, TypeVar

from fastapi import FastAPI, Header, Request

from stack.rag.access import AccessViolation, Identity, NoIdentity, View, identity
from stack.rag.canary import CanaryWatch
from stack.rag.config import RagConfig
from stack.rag.config.collections import Collection
from stack.rag.hits import RetrievalError
from stack.rag.keeper import Keeper
from stack.rag.live import LiveCollection, Serving
from stack.rag.parts import Parts
from stack.rag.pipeline import Found
from stack.rag.schemas import IndexVersion
from stack.rag.store import StoreError
from stack.rag.traffic import TrafficLog
from stack.service.errors import BadRequest, InternalError, NotFound, NotReady, ServiceError, TooMany
from stack.telemetry.metrics import RagMetrics

log = logging.getLogger(__name__)

R = TypeVar("R")

_STORE_SECONDS = 10.0

ANY_COLLECTION = (NoIdentity, NotFound)
"""Errors of every route that names a collection."""
SEARCH = (*ANY_COLLECTION, BadRequest, TooMany, NotReady)
"""Errors of every route that searches."""


class StoreUnavailable(ServiceError):
    """The document store does not answer."""

    status, code = 503, "store_unavailable"
    headers: ClassVar = {"retry-after": "1"}


class TooManySearches(TooMany):
    """More searches than limits.search_threads and limits.waiting_searches allow."""

    code: ClassVar = "too_many_searches"


class SearchFailed(InternalError):
    """A stage of retrieval cannot do its work."""

    code: ClassVar = "search_failed"


async def caller(
    request: Request,
    x_tenant: Annotated[str | None, Header(description="The tenant for which the request is made.")] = None,
    x_groups: Annotated[str | None, Header(description="Its caller's groups, with commas between them.")] = None,
) -> Identity:
    """Who calls. Raises NoIdentity."""
    # From the request itself: a header that is given twice must not be taken for one.
    return identity(request.headers.getlist("x-tenant"), request.headers.getlist("x-groups"))


class RagService:
    """The collections of one configuration."""

    def __init__(self, config: RagConfig, folder: Path, metrics: RagMetrics) -> None:
        """Paths of `config` count from `folder`. Raises RetrievalError, and OSError where a log cannot be written."""
        self.config = config
        self.folder = folder
        self.metrics = metrics
        self.parts = Parts.of(config, folder, metrics)
        self.collections = {name: LiveCollection(name, self.parts) for name in config.collections}
        self.traffic = TrafficLog(config.traffic, folder)
        self.keeper = Keeper(self.collections, config.storage.rights_seconds, metrics)
        self._searching = ThreadPoolExecutor(config.limits.search_threads, thread_name_prefix="search")
        self._storing = ThreadPoolExecutor(2, thread_name_prefix="store")
        self._searches = 0
        self._canaries = [
            CanaryWatch(live, live.settings.canary, folder, metrics)
            for live in self.collections.values()
            if live.settings.canary
        ]

    @asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncIterator[None]:
        """Around the time in which requests are served."""
        try:
            with ExitStack() as works:
                for one in (self.keeper, *self._canaries):
                    works.enter_context(one.background.running())
                works.enter_context(self.traffic.writing())
                yield
        finally:
            self._searching.shutdown(wait=False, cancel_futures=True)
            self._storing.shutdown(wait=False, cancel_futures=True)
            self.parts.store.close()

    def visible(self, name: str, who: Identity) -> bool:
        """Whether this caller may know of the collection."""
        settings = self.config.collections[name]
        return (
            who.may_see(settings.access.tenant, frozenset(settings.access.groups))
            or bool(who.groups & staff(settings))
            or self.collections[name].documents(who) > 0
        )

    def collection(self, name: str, who: Identity) -> LiveCollection:
        """The collection, for one who may know of it. Raises NotFound."""
        if name not in self.collections or not self.visible(name, who):
            raise NotFound(f"no collection '{name[:64]}' for this caller; GET /v1/collections lists them", "collection")
        return self.collections[name]

    async def search(self, name: str, query: str, limit: int | None, who: Identity) -> tuple[Serving, Found]:
        """One search in a thread. Raises NotFound, BadRequest, NotReady, TooManySearches, SearchFailed."""
        live = self.collection(name, who)
        limits = self.config.limits
        limit = limit or live.settings.query.results
        serving, view = live.view(who)
        if self._searches >= limits.search_threads + limits.waiting_searches:
            raise TooManySearches("too many searches at the same time; try again shortly")
        self._searches += 1
        self.metrics.searches_in_flight.set(self._searches)
        try:
            since = perf_counter()
            found = await self._in_thread(self._searching, self._find, serving, view, query, limit, since)
        except (RetrievalError, AccessViolation) as problem:
            log.error("search failed", extra={"collection": name, "problem": str(problem)})
            raise SearchFailed("the search failed; the log tells more under this request's X-Request-ID") from problem
        finally:
            self._searches -= 1
            self.metrics.searches_in_flight.set(self._searches)
        self.traffic.write(name, who.tenant, found)
        if self.config.telemetry.prompts_in_logs:
            documents = [passage.document for passage in found.passages]
            log.info("search", extra={"collection": name, "query": query, "documents": documents})
        return serving, found

    async def compute(self, work: Callable[..., R], *arguments: Any) -> R:
        """Work that would keep the event loop, in a thread of the searches."""
        return await self._in_thread(self._searching, work, *arguments)

    def _find(self, serving: Serving, view: View, query: str, limit: int, since: float) -> Found:
        name = serving.index.manifest.collection
        self.metrics.stage_seconds.labels(name, "wait").observe(perf_counter() - since)
        return serving.pipeline.search(query, view, limit)

    async def store(self, work: Callable[..., R], *arguments: Any, seconds: float = _STORE_SECONDS) -> R:
        """Work that touches the database, in a thread of its own. Raises StoreUnavailable, also after `seconds`."""
        try:
            # A database that hangs, connections open, is nothing that its driver notices.
            async with asyncio.timeout(seconds):
                return await self._in_thread(self._storing, work, *arguments)
        except (StoreError, TimeoutError) as problem:
            log.error("store unavailable", extra={"problem": str(problem) or f"no answer within {seconds:g} s"})
            raise StoreUnavailable("the document store does not answer; try again later") from problem

    async def _in_thread(self, threads: ThreadPoolExecutor, work: Callable[..., R], *arguments: Any) -> R:
        context = contextvars.copy_context()  # the request's ids, for log lines
        return await asyncio.get_running_loop().run_in_executor(threads, context.run, work, *arguments)


def version_of(serving: Serving) -> IndexVersion:
    """Which index an answer came from."""
    return IndexVersion(slot=serving.index.slot, version=serving.index.manifest.version)


def staff(settings: Collection) -> frozenset[str]:
    """The groups whose members may write to a collection."""
    return frozenset(settings.editors) | frozenset(settings.operators)
