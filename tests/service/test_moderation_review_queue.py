"""The review queue on real databases: what must hold in both, and between processes that share one."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres_process import Postgres, running_postgres
from sqlalchemy import text

from stack.moderation.review.database import Database
from stack.moderation.review.errors import AlreadyDecided, LeaseLost, QueueDown, QueueFull
from stack.moderation.review.models import Base
from stack.moderation.review.queue import NewItem, ReviewQueue
from stack.service.errors import NotFound

Open = Callable[[], Database]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def open_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the test's database, each time as another process would."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/review.sqlite"
    else:
        url = request.getfixturevalue("postgres").url
    opened: list[Database] = []

    def open_() -> Database:
        opened.append(Database(url, tmp_path))
        return opened[-1]

    if request.param == "postgresql":
        with open_().transaction() as connection:
            connection.execute(text("DROP TABLE IF EXISTS review_events, review_items, alembic_version"))
    yield open_
    for database in opened:
        database.close()


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_queue(open_database: Open, clock: Clock) -> Callable[..., ReviewQueue]:
    def make(**changes: Any) -> ReviewQueue:
        database = open_database()
        database.migrate()
        return ReviewQueue(database, **({"capacity": 100, "ageing_seconds": 100.0, "clock": clock} | changes))

    return make


@pytest.fixture
def queue(make_queue: Callable[..., ReviewQueue]) -> ReviewQueue:
    return make_queue()


def new(name: str, priority: int = 1, urgency: float = 0.5, **changes: Any) -> NewItem:
    values: dict[str, Any] = {
        "text": f"the text of {name}",
        "tenant": "demo",
        "request_id": name,
        "trace_id": "0" * 32,
        "policy_version": "1",
        "category": "harassment",
        "score": 0.5,
        "leaning": "block",
        "degraded": False,
    }
    return NewItem(**(values | changes), priority=priority, urgency=urgency)


def names(items: list[Any]) -> list[str]:
    return [item.request_id for item in items]


# ── what waits ──


def test_an_item_is_there_with_all_that_was_said_of_it(queue: ReviewQueue, clock: Clock) -> None:
    id_ = queue.enqueue(new("a", degraded=True, category="hate", leaning="allow", score=0.41)).id
    item, history = queue.get(id_)
    assert (item.text, item.degraded, item.category, item.leaning, item.score) == (
        "the text of a", True, "hate", "allow", 0.41,
    )  # fmt: skip
    assert item.enqueued_at == clock.now
    assert [event.kind for event in history] == ["enqueued"]


def test_the_same_text_of_the_same_request_is_one_item(queue: ReviewQueue) -> None:
    first = queue.enqueue(new("a")).id
    assert queue.enqueue(new("a", score=0.9)).id == first
    others = {new("b"), new("a", text="another"), new("a", tenant="other")}
    assert first not in {queue.enqueue(other).id for other in others}
    assert queue.counts() == {"open": 4, "leased": 0, "decided": 0}


def test_texts_that_databases_dislike_are_stored(queue: ReviewQueue) -> None:
    nasty = "zero \0 and 🙂 and \u202e and ' \" ; -- %s :x"
    id_ = queue.enqueue(new("a", text=nasty)).id
    assert queue.enqueue(new("a", text=nasty)).id == id_
    assert queue.get(id_)[0].text == nasty.replace("\0", "\u2400")


def test_a_full_queue_refuses_what_is_new_and_knows_what_it_has(make_queue: Callable[..., ReviewQueue]) -> None:
    queue = make_queue(capacity=2)
    queue.enqueue(new("a"))
    kept = queue.enqueue(new("b")).id
    with pytest.raises(QueueFull, match="2 texts wait"):
        queue.enqueue(new("c"))
    assert queue.enqueue(new("b")).id == kept
    (item,) = queue.lease("ana", 1, 60)
    with pytest.raises(QueueFull):
        queue.enqueue(new("c"))
    queue.decide(item.id, item.lease, "allow", None)
    queue.enqueue(new("c"))


def test_depth_and_oldest_age_are_told_for_every_priority(queue: ReviewQueue, clock: Clock) -> None:
    queue.enqueue(new("a", priority=0))
    clock.now += 5
    queue.enqueue(new("b", priority=0))
    queue.lease("ana", 1, 60)
    waiting = queue.waiting()
    assert {name: (one.items, one.oldest_seconds) for name, one in waiting.items()} == {
        "low": (2, 5.0), "normal": (0, 0.0), "high": (0, 0.0), "urgent": (0, 0.0),
    }  # fmt: skip


def test_pages_hold_every_item_once(queue: ReviewQueue) -> None:
    for number in range(7):
        queue.enqueue(new(f"r{number}"))
    (leased,) = queue.lease("ana", 1, 60)
    queue.decide(leased.id, leased.lease, "block", None)
    queue.lease("ana", 2, 60)
    after, seen = 0, []
    while page := queue.page(None, after, 3):
        seen += names(page)
        after = page[-1].id
    assert seen == [f"r{number}" for number in range(7)]
    assert [len(queue.page(state, 0, 50)) for state in ("open", "leased", "decided")] == [4, 2, 1]


# ── order ──


def test_higher_classes_come_first_then_the_more_urgent_then_the_older(queue: ReviewQueue, clock: Clock) -> None:
    for name, priority, urgency in [
        ("low", 0, 0.9),
        ("old", 1, 0.5),
        ("new", 1, 0.5),
        ("grave", 1, 0.8),
        ("top", 3, 0),
    ]:
        queue.enqueue(new(name, priority, urgency))
        clock.now += 1
    assert names(queue.lease("ana", 9, 60)) == ["top", "grave", "old", "new", "low"]


def test_an_item_that_waits_is_overtaken_by_no_higher_class_that_comes_later(queue: ReviewQueue, clock: Clock) -> None:
    queue.enqueue(new("patient", priority=0))
    clock.now += 99  # one class is worth 100 s
    queue.enqueue(new("in time", priority=1))
    clock.now += 2
    queue.enqueue(new("too late", priority=1))
    assert names(queue.lease("ana", 9, 60)) == ["in time", "patient", "too late"]


def test_without_ageing_a_higher_class_always_comes_first(make_queue: Callable[..., ReviewQueue], clock: Clock) -> None:
    queue = make_queue(ageing_seconds=None)
    queue.enqueue(new("patient", priority=0))
    clock.now += 1e6
    queue.enqueue(new("late", priority=1))
    assert names(queue.lease("ana", 9, 60)) == ["late", "patient"]


# ── leases ──


def test_a_leased_item_is_nobody_elses_until_the_lease_ends(queue: ReviewQueue, clock: Clock) -> None:
    queue.enqueue(new("a"))
    (mine,) = queue.lease("ana", 1, 60)
    clock.now += 59
    assert queue.lease("bo", 1, 60) == []
    clock.now += 1
    (theirs,) = queue.lease("bo", 1, 60)
    with pytest.raises(LeaseLost):
        queue.decide(mine.id, mine.lease, "allow", None)
    queue.decide(theirs.id, theirs.lease, "block", None)
    kinds = [(event.kind, event.reviewer) for event in queue.get(mine.id)[1]]
    assert kinds == [
        ("enqueued", None), ("leased", "ana"), ("expired", "ana"), ("leased", "bo"), ("decided", "bo"),
    ]  # fmt: skip


def test_an_expired_lease_decides_nothing_even_if_nobody_else_came(queue: ReviewQueue, clock: Clock) -> None:
    queue.enqueue(new("a"))
    (item,) = queue.lease("ana", 1, 60)
    clock.now += 61
    for act in (
        lambda: queue.decide(item.id, item.lease, "allow", None),
        lambda: queue.renew(item.id, item.lease, 60),
        lambda: queue.release(item.id, item.lease),
    ):
        with pytest.raises(LeaseLost):
            act()
    assert queue.counts() == {"open": 0, "leased": 1, "decided": 0}
    assert queue.reopen_expired() == 1
    assert queue.reopen_expired() == 0
    assert queue.counts() == {"open": 1, "leased": 0, "decided": 0}


def test_a_renewed_lease_lasts_longer_and_a_released_item_is_free(queue: ReviewQueue, clock: Clock) -> None:
    queue.enqueue(new("a"))
    (item,) = queue.lease("ana", 1, 60)
    clock.now += 50
    queue.renew(item.id, item.lease, 60)
    clock.now += 50
    assert queue.lease("bo", 1, 60) == []
    queue.release(item.id, item.lease)
    (again,) = queue.lease("bo", 1, 60)
    assert (again.id, again.reviewer, again.times_leased) == (item.id, "bo", 2)


# ── decisions ──


def test_a_decision_is_made_once_and_can_be_repeated_but_not_changed(queue: ReviewQueue) -> None:
    queue.enqueue(new("a"))
    (item,) = queue.lease("ana", 1, 60)
    decided, now = queue.decide(item.id, item.lease, "block", "clear")
    assert (decided.outcome, decided.note, decided.reviewer, now) == ("block", "clear", "ana", True)
    assert queue.decide(item.id, item.lease, "block", "clear")[1] is False
    with pytest.raises(AlreadyDecided):
        queue.decide(item.id, item.lease, "allow", None)
    with pytest.raises(AlreadyDecided):
        queue.decide(item.id, "0" * 32, "block", None)
    with pytest.raises(LeaseLost):
        queue.release(item.id, item.lease)
    assert [event.kind for event in queue.get(item.id)[1]].count("decided") == 1


def test_what_is_not_there_is_not_found(queue: ReviewQueue) -> None:
    token = "0" * 32
    for act in (
        lambda: queue.get(7),
        lambda: queue.decide(7, token, "allow", None),
        lambda: queue.renew(7, token, 60),
        lambda: queue.release(7, token),
    ):
        with pytest.raises(NotFound, match="no review item 7"):
            act()


# ── several processes ──


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """What each of `count` threads returned or raised; they start together."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        barrier.wait()
        try:
            return act(number)
        except (LeaseLost, AlreadyDecided) as error:
            return error

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def test_reviewers_at_several_processes_never_get_the_same_item(make_queue: Callable[..., ReviewQueue]) -> None:
    queues = [make_queue() for _ in range(4)]
    for number in range(40):
        queues[0].enqueue(new(f"r{number}"))
    leased = at_once(4, lambda n: [item for _ in range(5) for item in queues[n].lease(f"reviewer-{n}", 2, 60)])
    ids = [item.id for items in leased for item in items]
    assert len(ids) == len(set(ids)) == 40


def test_of_several_decisions_at_once_one_is_made(make_queue: Callable[..., ReviewQueue]) -> None:
    queues = [make_queue() for _ in range(4)]
    queues[0].enqueue(new("a"))
    (item,) = queues[0].lease("ana", 1, 60)
    outcomes = ("allow", "block", "allow", "block")
    results = at_once(4, lambda n: queues[n].decide(item.id, item.lease, outcomes[n], None))
    assert sum(isinstance(result, tuple) and result[1] for result in results) == 1
    assert sum(isinstance(result, AlreadyDecided) for result in results) == 2
    assert [event.kind for event in queues[0].get(item.id)[1]].count("decided") == 1


def test_a_request_that_reaches_several_processes_is_one_item(make_queue: Callable[..., ReviewQueue]) -> None:
    queues = [make_queue() for _ in range(4)]
    ids = at_once(4, lambda n: [queues[n].enqueue(new(f"r{number}")).id for number in range(10)])
    assert ids[0] == ids[1] == ids[2] == ids[3]
    assert queues[0].counts()["open"] == 10


def test_an_error_of_the_database_tells_no_text(make_queue: Callable[..., ReviewQueue], open_database: Open) -> None:
    queue = make_queue()
    with open_database().transaction() as connection:
        connection.execute(text("ALTER TABLE review_items RENAME COLUMN note TO remark"))
    with pytest.raises(QueueDown) as caught:
        queue.enqueue(new("a", text="purple elephants"))
    assert "note" in str(caught.value.__cause__)
    assert "elephants" not in str(caught.value.__cause__)


# ── schema ──


def test_the_migrations_make_the_tables_that_the_code_uses(open_database: Open) -> None:
    database = open_database()
    database.migrate()
    with database.transaction() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_several_processes_can_start_on_an_empty_database(open_database: Open) -> None:
    """Bug: "database is locked" at once, now and then: SQLite does not wait where it changes the journal's mode."""
    databases = [open_database() for _ in range(8)]
    at_once(8, lambda n: databases[n].migrate())
    with databases[0].transaction() as connection:
        assert connection.scalar(text("SELECT count(*) FROM alembic_version")) == 1


def test_a_database_of_a_newer_version_is_refused(open_database: Open) -> None:
    database = open_database()
    database.migrate()
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(QueueDown, match="newer version"):
        database.migrate()
