"""docs/howto/wake-ups.md does what it says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import psycopg
import pytest

from pyshim import migrate
from pyshim.connect import Connection

PAGE = Path(__file__).parents[2] / "docs/howto/wake-ups.md"
BLOCKS = re.findall(r"```(?:sql)?\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
POLICY, REFUSED, SAID, WITHOUT = BLOCKS


@pytest.fixture
async def jobs(connection: Connection, empty_database: str) -> str:
    """A database with an installation called jobs, a topic and a queue."""
    await migrate.apply(connection, "jobs")
    await connection.execute("select jobs.topic_create('payments'), jobs.queue_create('emails')")
    return empty_database


def run(psql: str, conninfo: str, text: str) -> subprocess.CompletedProcess[str]:
    """What psql does with the text when it is typed in."""
    command = [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", conninfo]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_its_snippets_run_and_its_rings_are_heard(jobs: str, psql: str) -> None:
    done = run(psql, jobs, POLICY)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(jobs, autocommit=True) as conn:
        conn.execute("listen jobs")
        conn.execute("select jobs.outbox_put('payments', '{}'), jobs.queue_send('emails', '{}')")
        assert [n.payload for n in conn.notifies(timeout=0)] == ["topic payments"]

        # Names of prepared transactions are the server's, where others test as well.
        mine = f"payment of {conn.info.dbname}"
        refused = run(psql, jobs, REFUSED.replace("payment 1", mine))
        assert SAID in refused.stderr, refused.stderr
        done = run(psql, jobs, WITHOUT.replace("payment 1", mine))
        assert done.returncode == 0, done.stderr
        found = conn.execute("select ready from jobs.backlog where name = 'payments'").fetchone()
    assert found == (2,)
