"""The review queue: items wait, are leased to one reviewer at a time, and are decided once.

An item's rank is its class, plus its urgency within the class, plus its age in units of `ageing_seconds`. All items age
alike, so an item is overtaken only by what comes within `ageing_seconds` for each class that it is lower: nothing
starves. A lease is a token; only the holder of an unexpired one decides, by compare-and-set in the database, so
that neither a second reviewer, a retry nor a killed process makes a second decision.

Hosts that share a database must agree on the time to within a fraction of a lease.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from stack.moderation.review.database import Database
from stack.moderation.review.errors import AlreadyDecided, LeaseLost, QueueFull
from stack.moderation.review.models import PRIORITIES, Event, EventKind, Item, Outcome
from stack.service.errors import NotFound

_ITEM = Item.__table__
_EVENT = Event.__table__
_OPEN = Item.decided_at.is_(None)


@dataclass(frozen=True)
class NewItem:
    """What the router hands over."""

    text: str
    tenant: str
    request_id: str
    trace_id: str
    policy_version: str
    category: str
    score: float
    leaning: Outcome
    degraded: bool
    priority: int
    """an index of PRIORITIES"""
    urgency: float
    """from 0 to 1"""

    @property
    def content_hash(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def key(self) -> str:
        """The same for the same text of the same request."""
        return hashlib.sha256("\0".join((self.tenant, self.request_id, self.content_hash)).encode()).hexdigest()


@dataclass(frozen=True)
class Waiting:
    """The undecided items of one class."""

    items: int
    oldest_seconds: float


class ReviewQueue:
    """Every method is one transaction and blocks; each raises QueueDown. `clock` gives seconds since 1970."""

    def __init__(
        self,
        database: Database,
        *,
        capacity: int,
        ageing_seconds: float | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._capacity = capacity
        self._ageing = ageing_seconds
        self._clock = clock

    def enqueue(self, new: NewItem) -> Row[Any]:
        """The item, stored when this returns; the one there is, where the same was sent before. Raises QueueFull."""
        try:
            with self._database.transaction() as connection:
                return _same(connection, new) or self._insert(connection, new)
        except IntegrityError:  # another process was faster by a moment
            with self._database.transaction() as connection:
                found = _same(connection, new)
                assert found
                return found

    def _insert(self, connection: Connection, new: NewItem) -> Row[Any]:
        waiting = connection.scalar(select(func.count()).select_from(Item).where(_OPEN)) or 0
        if waiting >= self._capacity:
            raise QueueFull(f"{waiting} texts wait for review, which is the limit; try again later")
        now = self._clock()
        values = {
            "key": new.key,
            "text": new.text.replace("\0", "\u2400"),  # PostgreSQL's text has no zero character
            "content_hash": new.content_hash,
            "tenant": new.tenant,
            "request_id": new.request_id,
            "trace_id": new.trace_id,
            "policy_version": new.policy_version,
            "category": new.category,
            "score": new.score,
            "leaning": new.leaning,
            "degraded": new.degraded,
            "priority": new.priority,
            "urgency": new.urgency,
            "enqueued_at": now,
            "times_leased": 0,
        }
        item = connection.execute(insert(Item).values(values).returning(*_ITEM.c)).one()
        _record(connection, [item.id], now, "enqueued")
        return item

    def lease(self, reviewer: str, limit: int, seconds: float) -> list[Row[Any]]:
        """The `limit` highest items that nobody has, each with its own token in `lease`."""
        with self._database.transaction() as connection:
            now = self._clock()
            _reopen(connection, now)
            free = (
                select(Item.id)
                .where(_OPEN, Item.lease.is_(None))
                .order_by(*self._order(), Item.id)
                .limit(limit)
                .with_for_update(skip_locked=True)  # PostgreSQL: another process leases the next ones meanwhile
            )
            ids = connection.scalars(free).all()
            return [self._lease_one(connection, id_, reviewer, now, seconds) for id_ in ids]

    def _lease_one(self, connection: Connection, id_: int, reviewer: str, now: float, seconds: float) -> Row[Any]:
        token = secrets.token_hex(16)
        taken = connection.execute(
            update(Item)
            .where(Item.id == id_)
            .values(lease=token, reviewer=reviewer, leased_until=now + seconds, times_leased=Item.times_leased + 1)
            .returning(*_ITEM.c)
        ).one()
        _record(connection, [id_], now, "leased", reviewer=reviewer, lease=token)
        return taken

    def _order(self) -> tuple[ColumnElement[Any], ...]:
        rank = Item.priority + Item.urgency
        if self._ageing is None:
            return rank.desc(), Item.enqueued_at
        return ((Item.enqueued_at - rank * self._ageing),)  # the same order at any moment, as all age alike

    def decide(self, id_: int, lease: str, outcome: Outcome, note: str | None) -> tuple[Row[Any], bool]:
        """The decided item, and whether this call decided it: a repeat of the same decision changes nothing.

        Raises NotFound, LeaseLost, AlreadyDecided.
        """
        with self._database.transaction() as connection:
            now = self._clock()
            decided = connection.execute(
                update(Item)
                .where(*_held(id_, lease, now))
                .values(decided_at=now, outcome=outcome, note=note, leased_until=None)
                .returning(*_ITEM.c)
            ).one_or_none()
            if decided:
                _record(connection, [id_], now, "decided", decided.reviewer, lease, outcome)
                return decided, True
            item = _get(connection, id_)
            if item.decided_at is None:
                raise _lost(id_)
            if item.lease != lease or item.outcome != outcome:
                raise AlreadyDecided(f"item {id_} was decided as {item.outcome}; a decision is final")
            return item, False

    def renew(self, id_: int, lease: str, seconds: float) -> Row[Any]:
        """The item with its lease from now on for `seconds`. Raises NotFound, LeaseLost."""
        return self._change(id_, lease, "renewed", lambda now: {"leased_until": now + seconds})

    def release(self, id_: int, lease: str) -> Row[Any]:
        """The item, free for others again. Raises NotFound, LeaseLost."""
        return self._change(
            id_, lease, "released", lambda _: {"lease": None, "reviewer": None, "leased_until": None}
        )  # fmt: skip

    def _change(
        self, id_: int, lease: str, kind: EventKind, values: Callable[[float], dict[str, Any]]
    ) -> Row[Any]:  # fmt: skip
        with self._database.transaction() as connection:
            now = self._clock()
            changed = connection.execute(
                update(Item).where(*_held(id_, lease, now)).values(values(now)).returning(*_ITEM.c)
            ).one_or_none()
            if changed is None:
                _get(connection, id_)
                raise _lost(id_)
            _record(connection, [id_], now, kind, changed.reviewer, lease)
            return changed

    def reopen_expired(self) -> int:
        """Free the items whose lease ran out; how many there were."""
        with self._database.transaction() as connection:
            return _reopen(connection, self._clock())

    def get(self, id_: int) -> tuple[Row[Any], Sequence[Row[Any]]]:
        """An item and its history. Raises NotFound."""
        with self._database.transaction() as connection:
            events = select(*_EVENT.c).where(Event.item_id == id_).order_by(Event.id)
            return _get(connection, id_), connection.execute(events).all()

    def page(self, state: str | None, after: int, limit: int) -> Sequence[Row[Any]]:
        """Items in order of arrival after the item `after`; state: open, leased, decided, or None for all."""
        where = {
            "open": (_OPEN, Item.lease.is_(None)),
            "leased": (_OPEN, Item.lease.is_not(None)),
            "decided": (Item.decided_at.is_not(None),),
        }
        query = select(*_ITEM.c).where(Item.id > after, *where.get(state or "", ())).order_by(Item.id).limit(limit)
        with self._database.transaction() as connection:
            return connection.execute(query).all()

    def counts(self) -> dict[str, int]:
        """Items by state: open, leased, decided."""
        with self._database.transaction() as connection:
            total, decided, leased = connection.execute(
                select(
                    func.count(), func.count(Item.decided_at), func.count(Item.lease).filter(_OPEN)
                ).select_from(Item)
            ).one()  # fmt: skip
        return {"open": total - decided - leased, "leased": leased, "decided": decided}

    def waiting(self) -> dict[str, Waiting]:
        """The undecided items by priority, leased ones among them; every priority is there."""
        query = (
            select(Item.priority, func.count(), func.min(Item.enqueued_at)).where(_OPEN).group_by(Item.priority)
        )  # fmt: skip
        with self._database.transaction() as connection:
            found = {priority: (items, oldest) for priority, items, oldest in connection.execute(query)}
        now = self._clock()
        result = {name: Waiting(0, 0.0) for name in PRIORITIES}
        for priority, (items, oldest) in found.items():
            result[PRIORITIES[priority]] = Waiting(items, max(0.0, now - oldest))
        return result


def _same(connection: Connection, new: NewItem) -> Row[Any] | None:
    return connection.execute(select(*_ITEM.c).where(Item.key == new.key)).one_or_none()


def _get(connection: Connection, id_: int) -> Row[Any]:
    item = connection.execute(select(*_ITEM.c).where(Item.id == id_)).one_or_none()
    if item is None:
        raise NotFound(f"no review item {id_}")
    return item


def _held(id_: int, lease: str, now: float) -> tuple[ColumnElement[bool], ...]:
    return Item.id == id_, Item.lease == lease, _OPEN, Item.leased_until > now


def _lost(id_: int) -> LeaseLost:
    return LeaseLost(f"item {id_} is not leased by this token, or no longer; lease again")


def _reopen(connection: Connection, now: float) -> int:
    expired = connection.execute(
        select(Item.id, Item.lease, Item.reviewer).where(_OPEN, Item.leased_until <= now).with_for_update()
    ).all()
    for id_, lease, reviewer in expired:
        connection.execute(update(Item).where(Item.id == id_).values(lease=None, reviewer=None, leased_until=None))
        _record(connection, [id_], now, "expired", reviewer, lease)
    return len(expired)


def _record(
    connection: Connection,
    ids: Sequence[int],
    now: float,
    kind: EventKind,
    reviewer: str | None = None,
    lease: str | None = None,
    outcome: Outcome | None = None,
) -> None:
    connection.execute(
        insert(Event),
        [
            {"item_id": id_, "at": now, "kind": kind, "reviewer": reviewer, "lease": lease, "outcome": outcome}
            for id_ in ids
        ],
    )
