"""docs/howto/in-database.md does what it says."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

from pyshim import migrate
from pyshim.connect import Connection

PAGE = Path(__file__).parents[2] / "docs/howto/in-database.md"
BLOCKS = re.findall(r"```(?:sql)?\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
FIRST, PRINTED, WATCH, CRON, SURVIVES = BLOCKS


@pytest.fixture
async def jobs(connection: Connection, empty_database: str) -> str:
    """A database with an installation called jobs."""
    await migrate.apply(connection, "jobs")
    return empty_database


def run(psql: str, conninfo: str, text: str) -> subprocess.CompletedProcess[str]:
    """What psql does with the text when it is typed in."""
    command = [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", conninfo]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_it_prints_what_is_printed(jobs: str, psql: str) -> None:
    first = run(psql, jobs, FIRST)
    assert first.returncode == 0, first.stderr
    assert PRINTED in first.stdout
    once = WATCH.replace("\\watch 1", ";")
    assert once != WATCH
    again = run(psql, jobs, once)
    assert "0 |       0 |             0 | f" in again.stdout, again.stderr
    # What pg_cron would run; pg_cron itself is not here.
    scheduled = re.search(r"\$\$(.*?)\$\$", CRON)
    assert scheduled
    assert run(psql, jobs, scheduled[1]).returncode == 0


def test_a_message_that_kills_the_server_process_is_cornered_and_the_others_are_done(
    jobs: str, psql: str
) -> None:
    assert run(psql, jobs, FIRST).returncode == 0
    with psycopg.connect(jobs, autocommit=True) as conn:
        conn.execute(
            """
            select jobs.queue_configure('mail', '{"max_attempts": 1, "lease": "300 ms"}');
            truncate shop.mailed;
            create or replace function shop.mail(p_job jsonb) returns void
            language plpgsql set search_path = shop, pg_temp
            as $$
            begin
                if p_job = '{"customer": 3}' then
                    perform pg_terminate_backend(pg_backend_pid(), 1000);
                end if;
                insert into mailed (customer) values ((p_job ->> 'customer')::int);
            end $$;
            select jobs.queue_send('mail', jsonb_build_object('customer', n))
            from generate_series(1, 8) as n;
            """
        )
        # By a work alone it would never end: each is undone with its process.
        for _ in range(3):
            assert run(psql, jobs, "select jobs.queue_work('mail', 'shop.mail')").returncode != 0
        assert conn.execute("select count(*) from shop.mailed").fetchone() == (0,)
        deaths = 0
        give_up = time.monotonic() + 60
        while (
            conn.execute(
                "select from jobs.dead_letter where payload = '{\"customer\": 3}'"
            ).fetchone()
            is None
            or conn.execute("select from jobs.ready").fetchone()
        ):
            assert time.monotonic() < give_up
            deaths += run(psql, jobs, SURVIVES).returncode != 0
            time.sleep(0.4)
        assert deaths == 4  # of 8, 4, 2 and 1
        done = conn.execute("select array_agg(customer order by customer) from shop.mailed")
        assert done.fetchone() == ([1, 2, 4, 5, 6, 7, 8],)
        dead = conn.execute("select reason, attempts from jobs.dead_letter order by 1").fetchall()
        assert dead == [("expired", 1), ("not_retryable", 1)]
