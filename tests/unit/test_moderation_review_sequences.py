"""The review queue under any order of events: a model of it, and the real one on SQLite in memory, must agree."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stack.moderation.review.database import Database
from stack.moderation.review.errors import AlreadyDecided, LeaseLost, QueueFull
from stack.moderation.review.queue import NewItem, ReviewQueue

CAPACITY = 6
AGEING = 100.0
LEASE = 50.0


def item(number: int, priority: int = 1, urgency: float = 0.5, **changes: Any) -> NewItem:
    values = {
        "text": f"text {number}",
        "tenant": "demo",
        "request_id": f"request-{number}",
        "trace_id": "0" * 32,
        "policy_version": "1",
        "category": "harassment",
        "score": 0.5,
        "leaning": "block",
        "degraded": False,
        "priority": priority,
        "urgency": urgency,
    }
    return NewItem(**(values | changes))


def queue_in_memory(clock: Any) -> ReviewQueue:
    database = Database("sqlite://", Path())
    database.migrate()
    return ReviewQueue(database, capacity=CAPACITY, ageing_seconds=AGEING, clock=clock)


@dataclass
class Known:
    """What the model knows of an item."""

    priority: int
    urgency: float
    enqueued: float
    lease: str | None = None
    until: float = 0.0
    outcome: str | None = None
    old_leases: list[str] = field(default_factory=list)

    def rank(self, now: float) -> float:
        return self.priority + self.urgency + (now - self.enqueued) / AGEING


class QueueMachine(RuleBasedStateMachine):
    """Enqueues, leases, waits, renews, releases and decides in any order."""

    @initialize()
    def start(self) -> None:
        self.now = 1_000_000.0
        self.queue = queue_in_memory(lambda: self.now)
        self.items: dict[int, Known] = {}
        self.numbers = 0

    def undecided(self) -> list[int]:
        return [id_ for id_, one in self.items.items() if one.outcome is None]

    def held(self) -> list[int]:
        return [id_ for id_ in self.undecided() if self.items[id_].lease and self.items[id_].until > self.now]

    @rule(seconds=st.sampled_from([1.0, 30.0, 51.0, 250.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(priority=st.integers(0, 3), urgency=st.sampled_from([0.0, 0.25, 0.75]))
    def enqueue(self, priority: int, urgency: float) -> None:
        self.numbers += 1
        new = item(self.numbers, priority, urgency)
        if len(self.undecided()) == CAPACITY:
            with pytest.raises(QueueFull):
                self.queue.enqueue(new)
            return
        stored = self.queue.enqueue(new)
        assert stored.id not in self.items
        self.items[stored.id] = Known(priority, urgency, self.now)
        assert self.queue.enqueue(new).id == stored.id, "sent again it is the same item"

    @rule(limit=st.integers(1, 3))
    def lease(self, limit: int) -> None:
        free = [id_ for id_ in self.undecided() if id_ not in self.held()]
        # A microsecond of rounding decides nothing here: ranks differ by hundredths.
        free.sort(key=lambda id_: (-round(self.items[id_].rank(self.now), 6), id_))
        leased = self.queue.lease("ana", limit, LEASE)
        assert [one.id for one in leased] == free[:limit]
        for one in leased:
            known = self.items[one.id]
            if known.lease:
                known.old_leases.append(known.lease)
            known.lease, known.until = one.lease, self.now + LEASE

    @precondition(lambda self: self.held())
    @rule(data=st.data(), outcome=st.sampled_from(["allow", "block"]))
    def decide(self, data: st.DataObject, outcome: Any) -> None:
        id_ = data.draw(st.sampled_from(self.held()))
        known = self.items[id_]
        _, decided = self.queue.decide(id_, known.lease, outcome, None)
        assert decided
        known.outcome = outcome

    @precondition(lambda self: self.held())
    @rule(data=st.data(), give_back=st.booleans())
    def renew_or_release(self, data: st.DataObject, give_back: bool) -> None:
        id_ = data.draw(st.sampled_from(self.held()))
        known = self.items[id_]
        if give_back:
            self.queue.release(id_, known.lease)
            known.old_leases.append(known.lease)
            known.lease = None
        else:
            known.until = self.queue.renew(id_, known.lease, LEASE).leased_until

    @precondition(lambda self: self.items)
    @rule(data=st.data(), outcome=st.sampled_from(["allow", "block"]))
    def decide_with_what_is_no_lease_any_more(self, data: st.DataObject, outcome: Any) -> None:
        id_ = data.draw(st.sampled_from(sorted(self.items)))
        known = self.items[id_]
        stale = [*known.old_leases, "f" * 32]
        if known.outcome is None and known.lease and known.until <= self.now:
            stale.append(known.lease)
        with pytest.raises(LeaseLost if known.outcome is None else AlreadyDecided):
            self.queue.decide(id_, data.draw(st.sampled_from(stale)), outcome, None)

    @precondition(lambda self: any(one.outcome for one in self.items.values()))
    @rule(data=st.data(), outcome=st.sampled_from(["allow", "block"]))
    def decide_again(self, data: st.DataObject, outcome: Any) -> None:
        id_ = data.draw(st.sampled_from([id_ for id_, one in self.items.items() if one.outcome]))
        known = self.items[id_]
        if outcome == known.outcome:
            assert not self.queue.decide(id_, known.lease, outcome, None)[1]
        else:
            with pytest.raises(AlreadyDecided):
                self.queue.decide(id_, known.lease, outcome, None)

    @invariant()
    def nothing_is_lost_and_nothing_is_decided_twice(self) -> None:
        stored = {one.id: one.outcome for one in self.queue.page(None, 0, 200)}
        assert stored == {id_: one.outcome for id_, one in self.items.items()}
        for id_, known in self.items.items():
            kinds = [event.kind for event in self.queue.get(id_)[1]]
            assert kinds.count("decided") == (known.outcome is not None)


TestAnyOrderOfEvents = QueueMachine.TestCase
TestAnyOrderOfEvents.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
