"""The store of documents: what a write changes, what a source may not touch, how changes are noticed."""

import sqlite3
import threading
from pathlib import Path

import pytest
from rag_library import document

from stack.rag.store import HiddenDocument, Outcome, Store, StoreError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"sqlite:///{tmp_path / 'documents.sqlite'}")


CAT = document("cat", "A cat sat.")
DOG = document("dog", "A dog ran.", "riverside", "staff")


def test_what_was_written_is_read_in_a_fixed_order(store: Store) -> None:
    assert store.upsert("books", [DOG, CAT]) == Outcome(added=2)
    assert store.documents("books") == [CAT, DOG]
    assert store.documents("other") == []


def test_the_same_twice_changes_nothing(store: Store) -> None:
    store.upsert("books", [CAT, DOG])
    revision = store.revision("books")
    assert store.upsert("books", [DOG, CAT]) == Outcome(unchanged=2)
    assert store.revision("books") == revision


@pytest.mark.parametrize(
    "other", [document("cat", "Another text."), document("cat", "A cat sat.", "*", "staff"),
              document("cat", "A cat sat.").__class__("cat", "Another title", "A cat sat.")],
)  # fmt: skip
def test_text_title_and_rights_are_changes(store: Store, other) -> None:
    store.upsert("books", [CAT])
    revision = store.revision("books")
    assert store.upsert("books", [other]) == Outcome(changed=1)
    assert store.revision("books") == revision + 1
    assert store.documents("books") == [other]


def test_tenants_have_their_own_ids(store: Store) -> None:
    mine, theirs = document("motto", "Read.", "riverside"), document("motto", "Write.", "hilltop")
    store.upsert("books", [mine, theirs])
    assert store.delete("books", ("riverside", "motto"))
    assert store.documents("books") == [theirs]


def test_a_deleted_document_leaves_no_text(store: Store, tmp_path: Path) -> None:
    store.upsert("books", [CAT])
    assert store.delete("books", ("*", "cat"))
    assert not store.delete("books", ("*", "cat"))
    assert store.documents("books") == []
    assert store.rights("books").groups == {}
    with sqlite3.connect(tmp_path / "documents.sqlite") as database:
        assert database.execute("SELECT text, title, content FROM rag_documents").fetchall() == [("", "", "")]


def test_what_a_caller_may_not_see_it_cannot_replace_or_delete(store: Store) -> None:
    store.upsert("books", [DOG])
    with pytest.raises(HiddenDocument):
        store.upsert("books", [CAT, document("dog", "Mine now.", "riverside")], may_see=lambda *_: False)
    assert not store.delete("books", ("riverside", "dog"), may_see=lambda *_: False)
    assert store.documents("books") == [DOG]


# ---- sources


def test_a_source_does_not_overwrite_or_bring_back_what_callers_did(store: Store) -> None:
    bird = document("bird", "A bird sang.")
    store.upsert("books", [CAT, DOG, bird], origin="source")
    mine = document("cat", "A cat, by hand.")
    store.upsert("books", [mine])
    store.delete("books", ("riverside", "dog"))
    assert store.upsert("books", [CAT, DOG, bird], origin="source") == Outcome(unchanged=3)
    assert store.documents("books") == [bird, mine]


def test_what_an_earlier_source_had_goes_and_what_callers_wrote_stays(store: Store) -> None:
    store.upsert("books", [CAT], origin="source")
    store.finish_source("books", "first", [("*", "cat")])
    store.upsert("books", [DOG])
    new = document("new", "New.")
    store.upsert("books", [new], origin="source")
    assert store.finish_source("books", "second", [("*", "new")]) == 1
    assert store.documents("books") == [new, DOG]
    assert store.source("books") == "second"


# ---- failures


def test_a_write_that_fails_leaves_nothing(store: Store) -> None:
    with pytest.raises(ValueError, match="twice"):
        store.upsert("books", [CAT, CAT])
    assert store.revision("books") == 0


def test_writers_at_the_same_time_lose_nothing(store: Store) -> None:
    def write(number: int) -> None:
        for n in range(5):
            store.upsert("books", [document(f"d{number}-{n}", "x"), document("shared", f"{number} {n}")])

    writers = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(store.documents("books")) == 21
    assert store.revision("books") == 20


@pytest.mark.parametrize("url", ["nonsense", "nosuch://host/name"])
def test_a_url_that_is_none_is_told(url: str) -> None:
    with pytest.raises(StoreError, match=r"storage\.database"):
        Store(url)


def test_a_database_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    store = Store("postgresql+psycopg://rag:hush@127.0.0.1:1/rag")
    with pytest.raises(StoreError) as error:
        store.documents("books")
    assert "127.0.0.1:1/rag" in str(error.value)
    assert "hush" not in str(error.value)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "documents.sqlite"
    path.write_text("not a database, but long enough to be looked at as one " * 20)
    with pytest.raises(StoreError, match=r"documents\.sqlite"):
        Store(f"sqlite:///{path}").documents("books")


def test_tables_of_another_version_are_left_alone(store: Store, tmp_path: Path) -> None:
    store.upsert("books", [CAT])
    with sqlite3.connect(tmp_path / "documents.sqlite") as database:
        database.execute("UPDATE rag_schema SET version = 99")
    with pytest.raises(StoreError, match=r"version \[99\]"):
        Store(f"sqlite:///{tmp_path / 'documents.sqlite'}").documents("books")
