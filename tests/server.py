"""pytest plugin: the server that the tests run against, and a fresh database for each test.

The server is the one that DATABASE_URL (or TIDEGATE_DATABASE_URL, or PG*) names, else the embedded
one. A template database is made once: Tidegate in schema `tidegate`, pgTAP in `tap`, our helpers in
`t`. Each test that asks for `database` gets a clone of it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pytest_postgresql import factories

from pyshim import config, embedded, render
from pyshim.errors import EmbeddedUnavailable
from tests import pgtap_source

SCHEMA = "tidegate"
SETUP = Path(__file__).parent / "sql" / "_setup"
EMBEDDED_SETTINGS = {
    "track_functions": "all",
    "max_connections": "100",
    "autovacuum_naptime": "5s",
    "max_wal_size": "128MB",  # it may stand in memory
}


@dataclass(frozen=True)
class TestServer:
    """Where the tests run, in the shape that pytest-postgresql's `depends_on` reads."""

    host: str
    port: int
    user: str
    password: str | None
    maintenance_dbname: str
    embedded: embedded.Server | None = None
    options: str = ""
    template_dbname: None = None
    __test__ = False

    def conninfo(self, dbname: str) -> str:
        """The connection string of one of its databases."""
        return make_conninfo(
            host=self.host, port=self.port, user=self.user, password=self.password, dbname=dbname
        )


@pytest.fixture(scope="session")
def server() -> Iterator[TestServer]:
    """The server under test."""
    named = config.database()
    if named:
        with psycopg.connect(named.url) as conn:
            info = conn.info
            yield TestServer(info.host, info.port, info.user, info.password, info.dbname)
        return
    with embedded.running(in_memory=True, settings=EMBEDDED_SETTINGS) as ours:
        parts: dict[str, Any] = conninfo_to_dict(ours.url)
        yield TestServer(
            parts["host"], int(parts["port"]), parts["user"], parts["password"], "postgres", ours
        )


@pytest.fixture(scope="session")
def psql(server: TestServer) -> str:
    """Path of a psql: the embedded server's own, or the one on the PATH, or the wheel's."""
    if server.embedded:
        return str(server.embedded.bin / "psql")
    if found := shutil.which("psql"):
        return found
    try:
        return str(embedded.installation(config.embedded_version()) / "bin" / "psql")
    except EmbeddedUnavailable as missing:
        pytest.fail(f"the SQL tests need psql: install PostgreSQL's client ({missing})")


def install(**parts: Any) -> None:
    """Install Tidegate in the database of these connection parameters."""
    with psycopg.connect(**parts) as conn:
        conn.execute(render.render(SCHEMA).encode())


def load_helpers(**parts: Any) -> None:
    """Put pgTAP into schema `tap` and our own helpers into schema `t`."""
    with psycopg.connect(**parts) as conn:
        pgtap_source.load(conn)
        conn.execute("create schema t")
        conn.execute(f"set search_path = {SCHEMA}, t, tap, public")
        for script in sorted(SETUP.glob("*.sql")):
            conn.execute(script.read_bytes())


template = factories.postgresql_noproc(
    depends_on="server", dbname=f"tidegate_{os.getpid()}", load=[install, load_helpers]
)
postgresql = factories.postgresql("template")


@pytest.fixture
def database(server: TestServer, postgresql: psycopg.Connection[Any]) -> str:
    """The connection string of a clone of the template, dropped after the test."""
    dbname = postgresql.info.dbname
    postgresql.close()
    return server.conninfo(dbname)
