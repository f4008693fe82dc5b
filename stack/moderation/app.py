"""The moderation service as an application: the configuration made into tiers, and the routes over them."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header, Request

from stack.moderation import api
from stack.moderation.batch import Scorer
from stack.moderation.config import ModerationConfig
from stack.moderation.judge import Judge
from stack.moderation.policy import Policy
from stack.moderation.review.database import Database
from stack.moderation.review.desk import ReviewDesk
from stack.moderation.review.errors import QueueDown
from stack.moderation.review.queue import ReviewQueue
from stack.moderation.review.routes import add_review_routes
from stack.moderation.router import Router, Sender
from stack.moderation.tiers import Screen, Tier2, load_tier2
from stack.service.app import create_service
from stack.service.errors import TooMany, responses
from stack.settings import ConfigError
from stack.telemetry.metrics import ModerationMetrics

Tenant = Annotated[str | None, Header(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", description="set by the gateway")]


def build(config: ModerationConfig, folder: Path) -> FastAPI:
    """The application; relative paths of the configuration count from `folder`. Raises ConfigError."""
    policy = Policy(config)
    metrics = ModerationMetrics(policy.band_edges)
    screen = Screen(config, folder)
    tier2 = load_tier2(config, policy, folder)
    desk = _desk(config, folder, metrics)
    service = Moderation(config, policy, screen, tier2, desk, metrics)
    app = create_service(
        title="Moderation",
        version=config.policy.version,
        body_bytes=config.limits.body_bytes,
        metrics=metrics,
        registry=metrics.registry,
        ready=list,  # what could be missing refuses the start; a judge or a database that is down degrades decisions
        lifespan=service.lifespan,
    )
    _add_moderation_route(app, service)
    add_review_routes(app, desk, config.review)
    return app


def _desk(config: ModerationConfig, folder: Path, metrics: ModerationMetrics) -> ReviewDesk:
    database = Database(config.review.url, folder)
    queue = ReviewQueue(database, capacity=config.review.capacity, ageing_seconds=config.review.ageing_seconds)
    desk = ReviewDesk(database, queue, metrics)
    if database.is_sqlite:  # a file that cannot be used now will not mend itself, as a server may
        try:
            desk.migrate()
        except (QueueDown, OSError) as error:
            problem = f"review.url: cannot use {database.url.database}: {error.__cause__ or error}"
            raise ConfigError("moderation.yaml", [f"moderation.yaml: {problem}"]) from error
    return desk


class Moderation:
    """What the route of moderations needs, for the life of the service."""

    def __init__(
        self,
        config: ModerationConfig,
        policy: Policy,
        screen: Screen,
        tier2: Tier2,
        desk: ReviewDesk,
        metrics: ModerationMetrics,
    ) -> None:
        self.config = config
        self.model = tier2.model
        self.policy = policy
        self.found = screen.categories | tier2.categories
        self._desk = desk
        self._metrics = metrics
        self._in_flight = 0
        self._judge = Judge(config.tier3, metrics) if config.tier3.enabled else None
        self._scorer = Scorer(tier2.score_all, config.tier2.batch, metrics.batch_texts)
        self.router = Router(config, policy, screen, self._scorer, self._judge, desk, metrics)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Watches the queue while the application runs."""
        # What the start made lives as long as the process. Going over it took each full collection 0.1 s, in which
        # nobody was answered.
        gc.collect()
        gc.freeze()
        watcher = asyncio.create_task(self._desk.watch())
        try:
            yield
        finally:
            watcher.cancel()
            if self._judge:
                await self._judge.close()
            self._scorer.close()
            self._desk.close()

    @contextmanager
    def places(self, texts: int) -> Iterator[None]:
        """Places for so many texts among those in progress. Raises TooMany."""
        most = self.config.limits.in_flight
        if self._in_flight + texts > most:
            raise TooMany(f"{self._in_flight} texts are in progress and {most} is the limit; try again shortly")
        self._in_flight += texts
        self._metrics.in_flight.set(self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= texts
            self._metrics.in_flight.set(self._in_flight)


def _add_moderation_route(app: FastAPI, service: Moderation) -> None:
    Body = api.request_model(service.config.limits)

    @app.post("/v1/moderations", responses=responses(TooMany))
    async def moderations(
        body: Body,  # type: ignore[valid-type]
        request: Request,
        x_tenant: Tenant = None,
    ) -> api.ModerationResponse:
        """Decide one text or several."""
        ids = request.state.ids
        sender = Sender(x_tenant or "unknown", ids)
        with service.places(len(body.texts)):
            verdicts = await asyncio.gather(*(service.router.decide(text, sender) for text in body.texts))
        version = service.policy.version
        return api.ModerationResponse(
            id=f"modr-{ids.request_id}",
            model=service.model,
            results=[api.result(verdict, version, ids, service.found) for verdict in verdicts],
        )
