"""Databases that jobs are tested on: SQLite, and PostgreSQL where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import needs_postgres, postgres

NAMES = ["sqlite", pytest.param("postgresql", marks=needs_postgres)]


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=NAMES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Empty: of PostgreSQL a database of its own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    from sqlalchemy import create_engine, text

    url: str = request.getfixturevalue("postgres_url")
    name = f"jobs_{abs(hash(request.node.nodeid))}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.rpartition("/")[0] + f"/{name}"
