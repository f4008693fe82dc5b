"""The queue's database: an engine for SQLite or PostgreSQL, brought to the newest schema, with transactions."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from stack.moderation.review.errors import QueueDown
from stack.service.sqlite import use_wal

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x6D6F6472  # a number of our own for PostgreSQL's advisory lock

CONNECT_SECONDS = 2
STATEMENT_SECONDS = 2
SQLITE_BUSY_SECONDS = 5


class Database:
    """Transactions on the queue's tables. Errors tell the statement but not its values: they hold what people wrote."""

    def __init__(self, url: str, folder: Path) -> None:
        """`url` as in the configuration; a relative SQLite file counts from `folder`. Opens nothing yet."""
        self.url = _located(make_url(url), folder)
        self.is_sqlite = self.url.drivername == "sqlite"
        self._engine = _sqlite(self.url) if self.is_sqlite else _postgresql(self.url)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that is durable when the block has ended. Raises QueueDown."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except (DBAPIError, PoolTimeout) as error:
            raise QueueDown("the review queue's database does not answer; try again later") from error

    def migrate(self) -> None:
        """Bring the schema to the newest revision; several processes may do so at a time. Raises QueueDown."""
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # it lists its own parts
        if self.is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        with self.transaction() as connection:
            if not self.is_sqlite:  # SQLite's transaction is the only one that writes, whatever it writes
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise QueueDown("the review queue's database was made by a newer version; run that one") from error

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def _located(url: URL, folder: Path) -> URL:
    if url.drivername == "sqlite" and url.database:
        return url.set(database=str(folder / url.database))
    return url


def _sqlite(url: URL) -> Engine:
    # One connection: SQLite has one writer at a time, and waiting for it inside SQLite is sleeping in steps.
    engine = create_engine(
        url,
        hide_parameters=True,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=30,
        connect_args={"check_same_thread": False},  # one thread after another, as the pool hands it out
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own
        connection.execute(f"PRAGMA busy_timeout = {1000 * SQLITE_BUSY_SECONDS}")  # others may have the file open
        use_wal(connection, SQLITE_BUSY_SECONDS)
        connection.execute("PRAGMA synchronous = FULL")  # a commit survives the loss of power too
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # a transaction that reads first could not write later

    return engine


def _postgresql(url: URL) -> Engine:
    return create_engine(
        url,
        hide_parameters=True,
        pool_size=4,
        max_overflow=4,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,  # the server may have been restarted since
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "tcp_user_timeout": 1000 * (CONNECT_SECONDS + STATEMENT_SECONDS),
            "options": f"-c statement_timeout={1000 * STATEMENT_SECONDS}",
        },
    )
