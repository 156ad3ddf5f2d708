"""docs/howto/counters.md does what it says."""

from __future__ import annotations

import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pyshim import migrate
from pyshim.connect import Connection

PAGE = Path(__file__).parents[2] / "docs/howto/counters.md"
BLOCKS = re.findall(r"```(?:sql)?\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
FIRST, SYNC, PRINTED, TRIGGERS, BEGINNING = BLOCKS


@pytest.fixture
async def jobs(connection: Connection, empty_database: str, psql: str) -> str:
    """A database with an installation called jobs, and what the page has made in it."""
    await migrate.apply(connection, "jobs")
    first = run(psql, empty_database, FIRST)
    assert first.returncode == 0, first.stderr
    assert re.search(r"\n +1\n\(1 row\)", first.stdout), first.stdout
    return empty_database


def run(psql: str, conninfo: str, text: str) -> subprocess.CompletedProcess[str]:
    """What psql does with the text when it is typed in."""
    command = [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", conninfo]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def counted(conn: psycopg.Connection[Any]) -> dict[str, int]:
    """What the counters of accounts say, but 0."""
    found = conn.execute(
        "select key, value from jobs.counters where key like 'accounts.%' and value > 0"
    )
    return dict(found.fetchall())


def test_a_sync_prints_what_is_printed(jobs: str, psql: str) -> None:
    assert PRINTED in run(psql, jobs, SYNC).stdout


def test_triggers_count_what_statements_change(jobs: str, psql: str) -> None:
    made = run(psql, jobs, f"begin; {TRIGGERS} {BEGINNING} commit;")
    assert made.returncode == 0, made.stderr
    with psycopg.connect(jobs, autocommit=True) as conn:
        assert counted(conn) == {"accounts.trial": 1}
        conn.execute("insert into account select n::text, 'trial' from generate_series(1, 9) as n")
        conn.execute("update account set state = 'paid' where email < '5'")
        conn.execute("update account set email = email || '!'")
        conn.execute("update account set state = null where email like '1%'")
        conn.execute("delete from account where email like '9%'")
        with conn.transaction(force_rollback=True):
            conn.execute("delete from account")
        assert counted(conn) == {"accounts.trial": 5, "accounts.paid": 3}
        said = conn.execute("select state, count(*) from account group by 1 having state <> ''")
        assert {f"accounts.{state}": total for state, total in said} == counted(conn)


def test_triggers_deadlock_with_nobody(jobs: str, psql: str) -> None:
    # given writers that change states in opposite order, and syncs and folds of the same counters
    made = run(psql, jobs, f"begin; {TRIGGERS} {BEGINNING} commit;")
    assert made.returncode == 0, made.stderr
    with psycopg.connect(jobs, autocommit=True) as conn:
        conn.execute("truncate account; delete from jobs.counter; delete from jobs.counter_delta")
    errors: list[Exception] = []

    def write(states: list[str]) -> None:
        try:
            with psycopg.connect(jobs, autocommit=True) as mine:
                for _ in range(60):
                    with mine.transaction():
                        for state in states:
                            mine.execute("insert into account values ('x', %s)", (state,))
        except Exception as error:
            errors.append(error)

    def upkeep() -> None:
        try:
            with psycopg.connect(jobs, autocommit=True) as mine:
                for _ in range(20):
                    mine.execute("select jobs.cleanup_sweep(100)")
                    mine.execute("""select jobs.counter_sync('{"accounts.other": 1}')""")
        except Exception as error:
            errors.append(error)

    orders = (["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"])
    threads = [threading.Thread(target=write, args=(order,)) for order in orders]
    threads += [threading.Thread(target=upkeep) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    # then nobody failed and nothing is lost
    assert errors == []
    with psycopg.connect(jobs, autocommit=True) as conn:
        each = {"accounts.a": 180, "accounts.b": 180, "accounts.c": 180}
        assert counted(conn) == {**each, "accounts.other": 1}
