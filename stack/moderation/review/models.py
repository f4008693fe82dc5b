"""The queue's tables. Moments are seconds since 1970 in UTC: both databases calculate with them in the same way."""

from typing import Literal

from sqlalchemy import BigInteger, Double, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Outcome = Literal["allow", "block"]
EventKind = Literal["enqueued", "leased", "renewed", "released", "expired", "decided"]

PRIORITIES = ("low", "normal", "high", "urgent")

_Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up INTEGER keys only


class Base(DeclarativeBase):
    """The metadata that migrations are compared with."""


class Item(Base):
    """One text to decide. Open while `decided_at` is null, leased while `lease` is set besides."""

    __tablename__ = "review_items"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of tenant, request and content: what is sent again is the same item"""
    text: Mapped[str] = mapped_column(Text)
    content_hash: Mapped[str] = mapped_column(String(64))
    tenant: Mapped[str] = mapped_column(String(64))
    request_id: Mapped[str] = mapped_column(String(64))
    trace_id: Mapped[str] = mapped_column(String(32))
    policy_version: Mapped[str] = mapped_column(String(32))
    category: Mapped[str] = mapped_column(String(32))
    score: Mapped[float] = mapped_column(Double)
    """the last tier's"""
    leaning: Mapped[str] = mapped_column(String(8))
    """what that score alone would have decided"""
    degraded: Mapped[bool]
    """a tier that should have seen the text has not"""
    priority: Mapped[int] = mapped_column(Integer)
    """class of its category, an index of PRIORITIES"""
    urgency: Mapped[float] = mapped_column(Double)
    """place within the class, from 0 to 1"""
    enqueued_at: Mapped[float] = mapped_column(Double)

    lease: Mapped[str | None] = mapped_column(String(32))
    """the token that decides it; kept after the decision"""
    reviewer: Mapped[str | None] = mapped_column(String(64))
    leased_until: Mapped[float | None] = mapped_column(Double)
    times_leased: Mapped[int] = mapped_column(Integer)

    decided_at: Mapped[float | None] = mapped_column(Double)
    outcome: Mapped[str | None] = mapped_column(String(8))
    note: Mapped[str | None] = mapped_column(Text)


Index(
    "ix_review_items_open",
    Item.priority,
    Item.enqueued_at,
    sqlite_where=Item.decided_at.is_(None),
    postgresql_where=Item.decided_at.is_(None),
)


class Event(Base):
    """What happened to an item: never changed, never deleted."""

    __tablename__ = "review_events"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("review_items.id"), index=True)
    at: Mapped[float] = mapped_column(Double)
    kind: Mapped[str] = mapped_column(String(16))
    reviewer: Mapped[str | None] = mapped_column(String(64))
    lease: Mapped[str | None] = mapped_column(String(32))
    outcome: Mapped[str | None] = mapped_column(String(8))
