"""The documents: the truth from which every index is built, and who may see them. On SQLite or PostgreSQL, by URL.

A document belongs to a collection and a tenant, and is known by its id there: two tenants may use the same id and
never learn of each other. What was deleted by hand stays in the table without its text, so that loading the
collection's source again does not bring it back.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Literal

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from stack.rag.hits import RetrievalError
from stack.rag.sources.collection import Document
from stack.service.sqlite import use_wal

SCHEMA = 1
SQLITE_BUSY_SECONDS = 10  # others may write
_SETUP_LOCK = 7_239_461  # any number that no other program of the same database takes
Origin = Literal["source", "caller"]
Key = tuple[str, str]
"""Tenant and id of a document."""
MaySee = Callable[[str, frozenset[str]], bool]
"""Whether a caller may see documents of that tenant and those groups."""

_TABLES = sql.MetaData()
_VERSION = sql.Table("rag_schema", _TABLES, sql.Column("version", sql.Integer, primary_key=True))
_COLLECTIONS = sql.Table(
    "rag_collections",
    _TABLES,
    sql.Column("name", sql.String(64), primary_key=True),
    sql.Column("revision", sql.Integer, nullable=False),
    sql.Column("source", sql.String(200), nullable=False),
)
_DOCUMENTS = sql.Table(
    "rag_documents",
    _TABLES,
    sql.Column("collection", sql.String(64), primary_key=True),
    sql.Column("tenant", sql.String(64), primary_key=True),
    sql.Column("id", sql.String(200), primary_key=True),
    sql.Column("groups", sql.Text, nullable=False),
    sql.Column("title", sql.Text, nullable=False),
    sql.Column("text", sql.Text, nullable=False),
    sql.Column("content", sql.String(64), nullable=False),
    sql.Column("origin", sql.String(8), nullable=False),
    sql.Column("deleted", sql.Boolean, nullable=False),
    sql.Column("updated", sql.DateTime, nullable=False),
)
_D = _DOCUMENTS.c


def key_of(document: Document) -> Key:
    """Tenant and id."""
    return document.tenant, document.id


def content_of(document: Document) -> str:
    """SHA-256 of title and text, in hex."""
    return hashlib.sha256(f"{document.title}\0{document.text}".encode()).hexdigest()


@dataclass(frozen=True)
class Rights:
    """Who may see what of a collection, at one moment: `groups` and `content` (SHA-256 in hex) by document."""

    revision: int
    groups: dict[Key, frozenset[str]]
    content: dict[Key, str]


@dataclass(frozen=True)
class Outcome:
    """What became of the documents of one write."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        mine, others = astuple(self), astuple(other)
        return Outcome(*(one + more for one, more in zip(mine, others, strict=True)))


class StoreError(RetrievalError):
    """The database cannot be reached, or is not this program's."""


class HiddenDocument(Exception):
    """A caller would overwrite a document that it may not see."""


class Store:
    """Thread-safe. Every method raises StoreError while the database does not answer."""

    def __init__(self, url: str) -> None:
        """`url` is SQLAlchemy's: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME. Does not connect yet."""
        try:
            self.name = make_url(url).render_as_string(hide_password=True)
            self._engine = _engine(url)
        except (ArgumentError, ImportError, ValueError) as error:
            raise StoreError(f"storage.database: not a database URL that can be used: {error}") from error
        self._has_tables = False

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def revision(self, collection: str) -> int:
        """A number that grows with each change of the collection; 0 where nothing was ever written."""
        with self._transaction(write=False) as run:
            return _revision(run, collection)

    def rights(self, collection: str) -> Rights:
        """Who may see what, of one moment."""
        query = sql.select(_D.tenant, _D.id, _D.groups, _D.content).where(_D.collection == collection, ~_D.deleted)
        with self._transaction(write=False) as run:
            revision = _revision(run, collection)
            rows = run.execute(query).all()
        return Rights(
            revision,
            groups={(tenant, name): _split(groups) for tenant, name, groups, _ in rows},
            content={(tenant, name): content for tenant, name, _, content in rows},
        )

    def documents(self, collection: str) -> list[Document]:
        """All documents, in the order of tenant and id."""
        query = (
            sql.select(_D.id, _D.title, _D.text, _D.tenant, _D.groups)
            .where(_D.collection == collection, ~_D.deleted)
        )  # fmt: skip
        with self._transaction(write=False) as run:
            rows = run.execute(query).all()
        found = [Document(row.id, row.title, row.text, row.tenant, tuple(sorted(_split(row.groups)))) for row in rows]
        # Sorted here: databases sort text by their own rules, and an index must not depend on them.
        return sorted(found, key=key_of)

    def upsert(
        self, collection: str, documents: Sequence[Document], origin: Origin = "caller", may_see: MaySee | None = None
    ) -> Outcome:
        """Write documents in one transaction; what is there already, the same, is not touched.

        A source does not overwrite what a caller wrote or deleted. `may_see` is the caller's rule for tenant and
        groups: raises HiddenDocument, and writes nothing, where one of them is there and closed to the caller.
        """
        if len({key_of(document) for document in documents}) < len(documents):
            raise ValueError("a document is given twice")
        with self._transaction() as run:
            _lock(run, collection)
            there = _there(run, collection, [key_of(document) for document in documents])
            if may_see and any(_hidden(row, may_see) for row in there.values()):
                raise HiddenDocument("some of these documents are there already, and closed to the caller")
            added, changed = [], []
            for document in documents:
                row = there.get(key_of(document))
                if origin == "source" and row and row.origin == "caller":
                    continue
                if row is None or row.deleted:
                    added.append(document)
                elif (row.content, row.groups) != (content_of(document), _joined(document.groups)):
                    changed.append(document)
            written = added + changed
            outcome = Outcome(len(added), len(changed), unchanged=len(documents) - len(written))
            if written:
                _remove(run, collection, [key_of(document) for document in written])
                run.execute(_DOCUMENTS.insert(), [_row(collection, document, origin) for document in written])
                _bump(run, collection)
        return outcome

    def delete(self, collection: str, key: Key, may_see: MaySee | None = None) -> bool:
        """Delete one document; False where there is none, or none that `may_see` allows."""
        with self._transaction() as run:
            _lock(run, collection)
            row = _there(run, collection, [key]).get(key)
            if row is None or row.deleted or (may_see and _hidden(row, may_see)):
                return False
            run.execute(
                _DOCUMENTS.update()
                .where(_D.collection == collection, _D.tenant == key[0], _D.id == key[1])
                .values(deleted=True, origin="caller", title="", text="", content="", groups="", updated=_now())
            )
            _bump(run, collection)
        return True

    def source(self, collection: str) -> str:
        """Which source was loaded completely into the collection; empty where none was."""
        with self._transaction(write=False) as run:
            query = sql.select(_COLLECTIONS.c.source).where(_COLLECTIONS.c.name == collection)
            return run.scalar(query) or ""

    def finish_source(self, collection: str, source: str, keys: Iterable[Key]) -> int:
        """Note that `source` is loaded: the documents `keys`. Those of an earlier source go; gives their number."""
        keep = set(keys)
        with self._transaction() as run:
            _lock(run, collection)
            query = sql.select(_D.tenant, _D.id).where(_D.collection == collection, _D.origin == "source")
            gone = [(tenant, name) for tenant, name in run.execute(query) if (tenant, name) not in keep]
            if gone:
                _remove(run, collection, gone)
                _bump(run, collection)
            run.execute(_COLLECTIONS.update().where(_COLLECTIONS.c.name == collection).values(source=source))
        return len(gone)

    @contextmanager
    def _transaction(self, write: bool = True) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                if self._engine.dialect.name == "sqlite":
                    # SQLite locks late: two that read first and write then would stand in each other's way.
                    connection.exec_driver_sql("BEGIN IMMEDIATE" if write or not self._has_tables else "BEGIN")
                if not self._has_tables:
                    self._make_tables(connection)
                yield connection
                connection.commit()
                self._has_tables = True
        except SQLAlchemyError as error:
            cause = " ".join(str(getattr(error, "orig", None) or error).split())
            raise StoreError(f"the document store {self.name} does not answer: {cause[:300]}") from error

    def _make_tables(self, run: Connection) -> None:
        """Where they are absent. Raises StoreError for those of another version of this program."""
        if run.dialect.name == "postgresql":  # two services that start together must not both make them
            run.execute(sql.select(sql.func.pg_advisory_xact_lock(_SETUP_LOCK)))
        _TABLES.create_all(run)
        versions = run.scalars(sql.select(_VERSION.c.version)).all()
        if not versions:
            run.execute(_VERSION.insert().values(version=SCHEMA))
        elif versions != [SCHEMA]:
            raise StoreError(
                f"{self.name}: its tables have version {versions}, this program needs [{SCHEMA}]; "
                "name another database in storage.database, and load the documents again"
            )


def _engine(url: str) -> Engine:
    engine = sql.create_engine(url, pool_pre_ping=True, connect_args=_connect_arguments(url))
    if engine.dialect.name == "sqlite":

        @sql.event.listens_for(engine, "connect")
        def _(connection, _record) -> None:
            connection.isolation_level = None  # transactions are begun by hand, see Store._transaction
            use_wal(connection, SQLITE_BUSY_SECONDS)
            connection.execute("PRAGMA synchronous=NORMAL")

    return engine


def _connect_arguments(url: str) -> dict[str, object]:
    """How long to wait for a lock (SQLite), for a connection and for a statement (PostgreSQL)."""
    if make_url(url).get_backend_name() == "sqlite":
        return {"timeout": SQLITE_BUSY_SECONDS}
    return {"connect_timeout": 3, "options": "-c statement_timeout=30000"}


def _revision(run: Connection, collection: str) -> int:
    return run.scalar(sql.select(_COLLECTIONS.c.revision).where(_COLLECTIONS.c.name == collection)) or 0


def _lock(run: Connection, collection: str) -> None:
    """Writers of a collection come one after the other; its row is made when it is absent."""
    insert = sqlite.insert if run.dialect.name == "sqlite" else postgresql.insert
    run.execute(insert(_COLLECTIONS).values(name=collection, revision=0, source="").on_conflict_do_nothing())
    run.execute(sql.select(_COLLECTIONS.c.name).where(_COLLECTIONS.c.name == collection).with_for_update())


def _bump(run: Connection, collection: str) -> None:
    revision = _COLLECTIONS.c.revision
    run.execute(_COLLECTIONS.update().where(_COLLECTIONS.c.name == collection).values(revision=revision + 1))


def _there(run: Connection, collection: str, keys: Sequence[Key]) -> dict[Key, sql.Row]:
    found: dict[Key, sql.Row] = {}
    for tenant, names in _by_tenant(keys):
        query = sql.select(_D.tenant, _D.id, _D.content, _D.groups, _D.origin, _D.deleted).where(
            _D.collection == collection, _D.tenant == tenant, _D.id.in_(names)
        )
        found |= {(row.tenant, row.id): row for row in run.execute(query)}
    return found


def _hidden(row: sql.Row, may_see: MaySee) -> bool:
    return not row.deleted and not may_see(row.tenant, _split(row.groups))


def _remove(run: Connection, collection: str, keys: Sequence[Key]) -> None:
    for tenant, names in _by_tenant(keys):
        here = (_D.collection == collection, _D.tenant == tenant, _D.id.in_(names))
        run.execute(_DOCUMENTS.delete().where(*here))


def _by_tenant(keys: Sequence[Key], most: int = 500) -> Iterator[tuple[str, list[str]]]:
    """The ids of each tenant, at most so many at a time as a statement may have parameters."""
    for tenant in sorted({tenant for tenant, _ in keys}):
        names = [name for of, name in keys if of == tenant]
        for start in range(0, len(names), most):
            yield tenant, names[start : start + most]


def _row(collection: str, document: Document, origin: Origin) -> dict[str, object]:
    return {
        "collection": collection,
        "tenant": document.tenant,
        "id": document.id,
        "groups": _joined(document.groups),
        "title": document.title,
        "text": document.text,
        "content": content_of(document),
        "origin": origin,
        "deleted": False,
        "updated": _now(),
    }


def _joined(groups: Iterable[str]) -> str:
    return ",".join(sorted(set(groups)))


def _split(groups: str) -> frozenset[str]:
    return frozenset(groups.split(",")) if groups else frozenset()


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
