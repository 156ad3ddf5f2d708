"""Behind PgBouncer in transaction mode: no session state, no prepared names."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import psycopg
import pytest

from pyshim import calls
from pyshim.config import Database
from pyshim.connect import connect
from pyshim.session import Session

pytestmark = pytest.mark.heavy


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
