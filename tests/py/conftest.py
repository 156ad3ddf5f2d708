"""Fixtures of the driver's tests: empty databases, connections, PostgreSQL's client programs."""

from __future__ import annotations

import io
import logging
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pyshim import cli, config, embedded
from pyshim.config import Database
from pyshim.connect import Connection, connect
from tests.commands import Told
from tests.pgbouncer import PgBouncer
from tests.server import TestServer

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    """What a command that ran in this process has configured ends with its test: caplog would hear
    the next test's lines twice."""
    loggers = logging.getLogger("tidegate"), logging.getLogger("psycopg")
    before = [(each.handlers[:], each.level, each.propagate) for each in loggers]
    yield
    for each, former in zip(loggers, before, strict=True):
        each.handlers[:], each.level, each.propagate = former


@pytest.fixture
def empty_database(server: TestServer) -> Iterator[str]:
    """The connection string of a new database with nothing in it, dropped after the test."""
    name = f"tidegate_empty_{secrets.token_hex(4)}"
    ident = sql.Identifier(name)
    with psycopg.connect(server.conninfo(server.maintenance_dbname), autocommit=True) as conn:
        conn.execute(sql.SQL("create database {} template template0").format(ident))
        yield server.conninfo(name)
        conn.execute(sql.SQL("drop database {} with (force)").format(ident))


@pytest.fixture
async def connection(empty_database: str) -> AsyncIterator[Connection]:
    """A connection to the empty database."""
    conn = await connect(Database(empty_database, "the test"))
    yield conn
    await conn.close()


@pytest.fixture(scope="session")
def programs(server: TestServer) -> Path:
    """The folder of a psql and a pg_dump that are not older than the server under test."""
    if server.embedded:
        return server.embedded.bin
    with psycopg.connect(server.conninfo(server.maintenance_dbname)) as conn:
        needed = conn.info.server_version // 10000
    if (found := shutil.which("pg_dump")) and _major(found) >= needed:
        return Path(found).parent
    return embedded.installation(config.embedded_version()) / "bin"


def _major(program: str) -> int:
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    match = re.search(r"(\d+)", said)
    assert match, said
    return int(match[1])


@pytest.fixture
def dump(programs: Path) -> Callable[[str, str], str]:
    """`dump(conninfo, schema)`: pg_dump of the schema's shape, without what differs by chance."""

    def run(conninfo: str, schema: str) -> str:
        command = [programs / "pg_dump", "--schema-only", "--dbname", conninfo]
        command += ["--schema", '"' + schema + '"']
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return re.sub(r"^(--.*|\\(un)?restrict .*|SET .*|)\n", "", text, flags=re.MULTILINE)

    return run


@pytest.fixture
def apply_file(psql: str) -> Callable[[str, str], subprocess.CompletedProcess[str]]:
    """`apply_file(conninfo, text)`: what `psql -1 -f` does with a file of that text."""

    def run(conninfo: str, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [psql, "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", conninfo, "-f", "-"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def sql_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `sql/` that the driver takes for its own, to be changed by the test."""
    copy = tmp_path / "sql"
    shutil.copytree(ROOT / "sql", copy)
    monkeypatch.setattr("pyshim.assets.sql_root", lambda: copy)
    return copy


@pytest.fixture
def pgbouncer(database: str) -> Iterator[PgBouncer]:
    """A PgBouncer in front of the database."""
    bouncer = PgBouncer(database)
    yield bouncer
    bouncer.end()


@pytest.fixture
def pooled(pgbouncer: PgBouncer) -> str:
    """The database behind a PgBouncer that hands out two server connections by transaction."""
    return pgbouncer.url


@pytest.fixture
def tell(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Told]:
    """`tell(*words, stdin="")`: the command, in this process; nobody is there to be asked."""
    monkeypatch.setenv("TIDEGATE_DATABASE_URL", database)

    def run(*words: str, stdin: str | bytes = b"") -> Told:
        data = stdin if isinstance(stdin, bytes) else stdin.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(list(words))
        code = ended.value.code
        return Told(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run
