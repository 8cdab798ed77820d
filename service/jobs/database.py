"""The database of jobs: how it is opened, and how its tables come to be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from service.jobs.errors import BadInput, JobsUnavailable

_BUSY_SECONDS = 30.0
_CONNECT_SECONDS = 5
# Execution options of connections that write nothing: on SQLite those don't wait for whoever writes.
READS_ONLY = {"reads_only": True}
# Replicas that start at the same time: one migrates, the others wait. Any number that no other program takes.
_MIGRATION_LOCK = 7331_2026


def open_database(url: str) -> Engine:
    """`sqlite:///file` with a write-ahead log, or `postgresql+psycopg://user@host/name`; its tables are up to date.

    Raises JobsUnavailable.
    """
    from alembic.util import CommandError  # memory, once at start

    try:
        engine = _engine(url)
        migrate(engine)
    except (SQLAlchemyError, CommandError, ImportError) as error:
        raise JobsUnavailable(str(error).splitlines()[0]) from error
    return engine


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_SECONDS})
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False})
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


def migrate(engine: Engine) -> None:
    """To the newest tables; what is newer than this program is left alone, with an error of Alembic."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _connected(connection: Any, record: object) -> None:  # noqa: ARG001  (as SQLAlchemy calls it)
    connection.isolation_level = None  # we begin ourselves: sqlite3 would, too late
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begun(connection: Connection) -> None:
    # A read that turns into a write later would fail at once where another writes meanwhile.
    reads_only = connection.get_execution_options().get("reads_only")
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
