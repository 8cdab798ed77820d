"""The database of jobs: how it is opened, and how its tables come to be."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from service.jobs.errors import BadInput, JobsUnavailable
from service.jobs.keys import Keys

log = logging.getLogger(__name__)

_BUSY_SECONDS = 30.0
_CONNECT_SECONDS = 5
# Execution options of connections that write nothing: on SQLite those don't wait for whoever writes.
READS_ONLY = {"reads_only": True}
# Replicas that start at the same time: one migrates, the others wait. Any number that no other program takes.
_MIGRATION_LOCK = 7331_2026


def open_database(url: str, keys: Keys) -> Engine:
    """`sqlite:///file` with a write-ahead log, or `postgresql+psycopg://user@host/name`; its tables are up to date.

    keys: for what an older version has stored in clear. Raises JobsUnavailable.
    """
    from alembic.util import CommandError  # memory, once at start

    try:
        engine = _engine(url)
        migrate(engine, keys)
    except (SQLAlchemyError, CommandError, ImportError) as error:
        raise JobsUnavailable(str(error).splitlines()[0]) from error
    return engine


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(
            url, pool_pre_ping=True, hide_parameters=True, connect_args={"connect_timeout": _CONNECT_SECONDS}
        )
    engine = create_engine(
        url, hide_parameters=True, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False}
    )
    event.listen(engine, "connect", _connected)
    event.listen(engine, "begin", _begun)
    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Raises IntegrityError, BadInput for what the database can't hold, and JobsUnavailable where it is away."""
    try:
        with engine.begin() as connection:
            yield connection
    except IntegrityError:
        raise
    except DataError as error:  # a NUL, for PostgreSQL
        raise BadInput(f"jobs can't hold what was sent: {error.orig}; leave it out") from error
    except SQLAlchemyError as error:
        raise JobsUnavailable(f"the database of jobs is away: {str(error).splitlines()[0]}; try again") from error


def migrate(engine: Engine, keys: Keys, revision: str = "head") -> None:
    """To the newest tables; what is newer than this program is left alone, with an error of Alembic."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        config.attributes |= {"connection": connection, "keys": keys, "sweep": False}
        command.upgrade(config, revision)
    if config.attributes["sweep"]:
        _sweep(engine)


def _sweep(engine: Engine) -> None:
    """What was overwritten or deleted is gone from the files too: until then they have it in clear."""
    try:
        if engine.dialect.name == "sqlite":
            with closing(engine.raw_connection()) as connection:  # in no transaction
                for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                    connection.cursor().execute(statement).close()
        else:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as alone:
                alone.exec_driver_sql("VACUUM FULL jobs, items, results")
    except (SQLAlchemyError, sqlite3.Error) as error:
        reason = str(error).splitlines()[0]
        log.warning("files of the database may hold URLs of old jobs in clear until it is vacuumed: %s", reason)


def _connected(connection: Any, record: object) -> None:  # noqa: ARG001  (as SQLAlchemy calls it)
    connection.isolation_level = None  # we begin ourselves: sqlite3 would, too late
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begun(connection: Connection) -> None:
    # A read that turns into a write later would fail at once where another writes meanwhile.
    reads_only = connection.get_execution_options().get("reads_only")
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
