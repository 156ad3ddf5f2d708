"""plpgsql_check reads every PL/pgSQL body: names, types, dead code. Debian brings the extension."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pyshim import embedded, migrate
from pyshim.config import Database
from pyshim.connect import connect

DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/lib/plpgsql_check.so"))

# A bigint count assigned to an integer is meant; the server raises should it ever not fit.
CHECK = """
select p.oid::regprocedure::text as routine, c.lineno, c.level, c.message
from pg_proc as p
inner join pg_language as l on p.prolang = l.oid
cross join lateral plpgsql_check_function_tb(
    p.oid, fatal_errors => false, extra_warnings => true, performance_warnings => false
) as c
where p.pronamespace = 'app'::regnamespace and l.lanname = 'plpgsql'
    and c.message <> 'target type is different type than source type'
order by 1, 2
"""


@pytest.fixture(scope="module")
def checked() -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A database of Debian's server with the extension and an installation in schema app."""
    assert DEBIAN, "no plpgsql_check: apt-get install postgresql-15-plpgsql-check"

    async def install(url: str) -> None:
        async with await connect(Database(url, "the test")) as connection:
            await migrate.apply(connection, "app")

    with embedded.running(DEBIAN[-1].parents[1]) as server:
        asyncio.run(install(server.url))
        with psycopg.connect(server.url, autocommit=True) as conn:
            conn.execute("create extension plpgsql_check")
            yield conn


@pytest.mark.heavy
def test_no_body_has_an_error_or_a_warning(
    checked: psycopg.Connection[tuple[object, ...]],
) -> None:
    assert checked.execute(CHECK).fetchall() == []


@pytest.mark.heavy
def test_a_wrong_body_is_seen(checked: psycopg.Connection[tuple[object, ...]]) -> None:
    with checked.transaction(force_rollback=True):
        checked.execute(
            "create function app.wrong() returns void language plpgsql"
            " as $$ begin perform nosuchfunction(1); end; $$"
        )
        assert "nosuchfunction" in str(checked.execute(CHECK).fetchall())
