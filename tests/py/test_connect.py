"""What a connection is like, and how often it is tried."""

from __future__ import annotations

import asyncio
import logging
import socket
import time

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pyshim import __version__, connect
from pyshim.config import Database
from pyshim.connect import Connection
from pyshim.errors import DatabaseUnavailable


async def test_a_connection_keeps_nothing_that_a_pooler_would_lose(connection: Connection) -> None:
    assert connection.autocommit
    assert connection.prepare_threshold is None
    assert connection.isolation_level == psycopg.IsolationLevel.READ_COMMITTED
    for _ in range(10):
        await connection.execute("select %s::int", (1,))
    cursor = await connection.execute("select count(*) as prepared from pg_prepared_statements")
    assert await cursor.fetchall() == [{"prepared": 0}]
    cursor = await connection.execute("select current_setting('application_name') as name")
    assert await cursor.fetchall() == [{"name": f"tidegate {__version__}"}]


@pytest.mark.parametrize(
    ("attempts", "pauses"),
    [(1, []), (3, [0.5, 1.0]), (99, [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0])],
)
async def test_pauses_double_up_to_five_seconds_and_ten_attempts(
    attempts: int,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    down = Database("postgresql://me:secret@127.0.0.1:1/x", "the test")
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(DatabaseUnavailable, match="named by the test") as error,
    ):
        await connect.connect(down, attempts=attempts)
    assert slept == pauses
    assert "secret" not in caplog.text + str(error.value)


async def test_a_server_that_comes_up_in_time_is_reached(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = psycopg.AsyncConnection.connect
    tries: list[str] = []

    async def flaky(url: str, **options: object) -> object:
        tries.append(url)
        if len(tries) < 3:
            raise psycopg.OperationalError("the database system is starting up")
        return await real(url, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", flaky)
    monkeypatch.setattr(connect, "FIRST_DELAY", 0.01)
    conn = await connect.connect(Database(empty_database, "the test"))
    assert len(tries) == 3
    await conn.close()


async def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "CONNECT_TIMEOUT", 2)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = Database(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x", "the test")
        with pytest.raises(DatabaseUnavailable, match="timeout"):
            await connect.connect(where, attempts=1)
    assert 1 < time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("parameters", "environment", "used"),
    [({}, None, "5"), ({"connect_timeout": "30"}, None, "30"), ({}, "40", "40")],
)
async def test_a_timeout_of_the_user_s_own_is_kept(
    empty_database: str,
    parameters: dict[str, str],
    environment: str | None,
    used: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    if environment:
        monkeypatch.setenv("PGCONNECT_TIMEOUT", environment)
    url = make_conninfo(empty_database, **parameters)
    conn = await connect.connect(Database(url, "the test"))
    options = {option.keyword: option.val for option in conn.pgconn.info}
    assert (options[b"connect_timeout"] or b"").decode() == used
    await conn.close()
