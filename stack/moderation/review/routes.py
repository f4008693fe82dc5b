"""The review queue over HTTP, for reviewers and their tools."""

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model
from sqlalchemy import Row

from stack.moderation.config import Review
from stack.moderation.review.desk import ReviewDesk
from stack.moderation.review.errors import AlreadyDecided, LeaseLost, QueueDown
from stack.moderation.review.models import PRIORITIES, EventKind, Outcome
from stack.service.errors import NotFound, responses

_MOST_IDS = (1 << 63) - 1
_LEASE_LIMIT = 100

Id = Annotated[int, Path(ge=1, le=_MOST_IDS)]
Lease = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="the item's token, from its lease")]
State = Literal["open", "leased", "decided"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class DecisionRequest(_Body):
    lease: Lease
    outcome: Outcome
    note: str | None = Field(None, max_length=2000, description="for colleagues; kept with the item")


class ReleaseRequest(_Body):
    lease: Lease


class Item(BaseModel):
    """What is known of an item, its text left out."""

    id: int
    state: State
    priority: str
    category: str
    score: float = Field(description="of the last tier that gave one")
    leaning: Outcome = Field(description="what that score alone would have decided")
    degraded: bool = Field(description="a tier that should have seen the text has not")
    policy_version: str
    tenant: str
    request_id: str
    trace_id: str
    enqueued_at: float = Field(description="seconds since 1970, UTC, as every moment here")
    reviewer: str | None
    leased_until: float | None
    times_leased: int
    decided_at: float | None
    outcome: Outcome | None
    note: str | None


class LeasedItem(Item):
    """An item with its text and the token that decides it."""

    lease: str
    text: str


class Event(BaseModel):
    at: float
    kind: EventKind
    reviewer: str | None
    outcome: Outcome | None


class FullItem(Item):
    """An item with its text and history."""

    text: str
    history: list[Event]


class Counts(BaseModel):
    open: int
    leased: int
    decided: int


class Page(BaseModel):
    counts: Counts
    items: list[Item]
    next_after: int | None = Field(description="`after` of the next page; null on the last")


class Leased(BaseModel):
    items: list[LeasedItem]


def add_review_routes(app: FastAPI, desk: ReviewDesk, config: Review) -> None:
    """The routes below /v1/reviews."""
    seconds = Annotated[float, Field(ge=1, le=config.lease_seconds)]
    length = (seconds, Field(config.lease_seconds, description="less than the configured time, where that is enough"))
    lease_request: Any = create_model(
        "LeaseRequest",
        __base__=_Body,
        reviewer=(Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")], ...),
        limit=(Annotated[int, Field(ge=1, le=_LEASE_LIMIT), BeforeValidator(_whole)], 1),
        lease_seconds=length,
    )
    renew_request: Any = create_model("RenewRequest", __base__=ReleaseRequest, lease_seconds=length)
    held = responses(NotFound, LeaseLost, QueueDown)

    @app.get("/v1/reviews", responses=responses(QueueDown))
    async def reviews(
        state: State | None = None,
        after: Annotated[int, Query(ge=0, le=_MOST_IDS)] = 0,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Page:
        """Counts, and a page of items in order of arrival."""
        counts, items = await desk.counts(), await desk.page(state, after, limit)
        full = len(items) == limit
        return Page(
            counts=Counts(**counts), items=[_item(one) for one in items], next_after=items[-1].id if full else None
        )

    @app.get("/v1/reviews/{id:int}", responses=responses(NotFound, QueueDown))
    async def review(id: Id) -> FullItem:
        """One item, its text and its history."""
        item, events = await desk.get(id)
        history = [Event(at=one.at, kind=one.kind, reviewer=one.reviewer, outcome=one.outcome) for one in events]
        return FullItem(**_known(item), text=item.text, history=history)

    @app.post("/v1/reviews/lease", responses=responses(QueueDown))
    async def lease(body: lease_request) -> Leased:
        """The next items that nobody has, for this reviewer alone until `leased_until`."""
        items = await desk.lease(body.reviewer, body.limit, body.lease_seconds)
        return Leased(items=[LeasedItem(**_known(one), lease=one.lease, text=one.text) for one in items])

    @app.post("/v1/reviews/{id:int}/decision", responses=responses(NotFound, LeaseLost, AlreadyDecided, QueueDown))
    async def decision(id: Id, body: DecisionRequest) -> Item:
        """Decide a leased item, once; the same decision sent again is answered as the first time."""
        return _item(await desk.decide(id, body.lease, body.outcome, body.note))

    @app.post("/v1/reviews/{id:int}/renew", responses=held)
    async def renew(id: Id, body: renew_request) -> Item:
        """Keep an item for longer, counted from now."""
        return _item(await desk.renew(id, body.lease, body.lease_seconds))

    @app.post("/v1/reviews/{id:int}/release", responses=held)
    async def release(id: Id, body: ReleaseRequest) -> Item:
        """Give an item back undecided."""
        return _item(await desk.release(id, body.lease))


def _whole(value: Any) -> Any:
    """JSON has one kind of numbers: 3.0 is an integer there."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _item(row: Row[Any]) -> Item:
    return Item(**_known(row))


def _known(row: Row[Any]) -> dict[str, Any]:
    """The fields of Item."""
    known = {name: getattr(row, name) for name in Item.model_fields if name not in ("state", "priority")}
    state: State = "decided" if row.decided_at is not None else "leased" if row.lease else "open"
    return known | {"state": state, "priority": PRIORITIES[row.priority]}
