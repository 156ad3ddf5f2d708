"""Behind PgBouncer in transaction mode: no session state, no prepared names."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pyshim import calls
from pyshim.config import Database
from pyshim.connect import connect
from pyshim.session import Session

pytestmark = pytest.mark.heavy


@pytest.fixture
def pooled(database: str, tmp_path: Path) -> Iterator[str]:
    """The database behind a PgBouncer that hands out two server connections by transaction."""
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    assert binary, "this test needs pgbouncer: install the package of that name"
    parts = conninfo_to_dict(database)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = tmp_path / "pgbouncer.ini"
    server = " ".join(f"{name}={parts[name]}" for name in ("host", "port", "user", "dbname"))
    secret = f" password={parts['password']}" if parts.get("password") else ""
    settings.write_text(
        f"[databases]\npooled = {server}{secret}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\nlogfile =\n"
    )
    tmp_path.chmod(0o755)
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        for folder in (tmp_path.parent, tmp_path.parent.parent):
            folder.chmod(0o755)
        as_user = {"user": pwd.getpwnam("nobody").pw_uid}
    process = subprocess.Popen([binary, str(settings)], stderr=subprocess.PIPE, cwd="/", **as_user)
    url = f"postgresql://anyone@127.0.0.1:{port}/pooled"
    end = time.monotonic() + 10
    while True:
        try:
            psycopg.connect(url).close()
            break
        except psycopg.OperationalError:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.1)
    yield url
    process.terminate()
    process.communicate()


async def test_two_pools_of_calls_meet_no_prepared_name_and_leave_no_state(
    database: str, pooled: str
) -> None:
    # given two installations of the driver, with more sessions than server connections
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as admin:
        await admin.execute(
            "select tidegate.topic_create('t'), tidegate.topic_create('r'),"
            " tidegate.queue_create('q')"
        )
        await admin.execute("select tidegate.outbox_route('r', 'q')")
        await admin.execute(
            "select tidegate.outbox_put(topic, '{}')"
            " from generate_series(1, 500), unnest(array['t', 'r']) as topic"
        )
        sessions = [
            Session(lambda: connect(Database(pooled, "the test")), "tidegate") for _ in range(6)
        ]
        settled: list[int] = []

        # when each makes its share of 1000 calls
        async def work(session: Session) -> None:
            for _ in range(84):
                lease_id = uuid4()
                claim = {"topic": "t", "limit": 2, "lease": None, "worker": None}
                rows = await session.call(calls.OUTBOX_CLAIM, {**claim, "lease_id": lease_id})
                if rows:
                    done = {"done": [row.message_id for row in rows], "failed": "[]"}
                    answer = await session.one(calls.OUTBOX_SETTLE, {"lease_id": lease_id, **done})
                    settled.append(answer.acked)
                await session.one(calls.OUTBOX_SWEEP, {"limit": 2, "topic": None})

        await asyncio.gather(*(work(session) for session in sessions))
        for session in sessions:
            await session.close()
        # then everything moved, once
        assert sum(settled) == 500
        row = await (
            await admin.execute("select sum(ready) from tidegate.backlog where name = 'q'")
        ).fetchone()
        assert row == (500,)
