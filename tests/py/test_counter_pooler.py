"""Issue 4, 8: `counter_sync` of 10 000 keys, through two pools behind a transaction pooler."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import AsyncClientCursor
from psycopg.rows import namedtuple_row

from pyshim import calls
from pyshim.config import Database
from pyshim.connect import connect
from pyshim.session import Session

pytestmark = pytest.mark.heavy

CALLS = int(os.environ.get("TIDEGATE_COUNTER_CALLS", "500"))
KEYS = int(os.environ.get("TIDEGATE_COUNTER_KEYS", "10000"))
SYNC = """
select count(*) as counters, count(*) filter (where outcome = 'written') as written
from {schema}.counter_sync(p_values => %(values)s::jsonb)
"""
ADD = "select {schema}.counter_add(p_key => %(key)s::text, p_amount => 1)"


async def test_two_pools_sync_the_same_counters_while_others_settle(
    database: str, pooled: str, caplog: pytest.LogCaptureFixture
) -> None:
    # given two pools of sessions, more than the pooler has connections for
    pools = [
        [Session(lambda: connect(Database(pooled, "the test")), "tidegate") for _ in range(3)]
        for _ in range(2)
    ]
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as admin:
        await admin.execute("select tidegate.queue_create('q')")
        deadlocks = await _deadlocks(admin)
        left = iter(range(CALLS))
        done = added = settled = 0
        syncing = True

        async def sync(session: Session, is_reversed: bool) -> None:
            nonlocal done
            for call in left:
                numbers = range(KEYS)
                keys = reversed(numbers) if is_reversed else numbers
                # One key in fifty says something new; entries come in opposite orders.
                values = [
                    {"key": f"k{n:05}", "value": n + (call if n % 50 == call % 50 else 0)}
                    for n in keys
                ]
                row = await session.one(SYNC, {"values": json.dumps(values)})
                assert row.counters == KEYS
                done += 1

        async def settle(session: Session) -> None:
            nonlocal added, settled
            while syncing:
                send = {"queue": "q", "payload": "{}"}
                await session.one(calls.QUEUE_SEND.replace("{options}", ""), send)
                lease_id = uuid4()
                claim = {"queue": "q", "limit": 10, "lease": None, "worker": None}
                rows = await session.call(calls.QUEUE_CLAIM, {**claim, "lease_id": lease_id})
                # A settlement that counts in its own transaction, in an order of its own.
                if rows:
                    conn = await connect(Database(pooled, "the test"))
                    async with conn, conn.transaction():
                        cursor = AsyncClientCursor(conn, row_factory=namedtuple_row)
                        for n in (7, 3, 5):
                            add = calls.bind(ADD, "tidegate")
                            await cursor.execute(add, {"key": f"n{n}"})
                        ack = {"lease_id": lease_id, "message_ids": None, "result": None}
                        await cursor.execute(calls.bind(calls.QUEUE_ACK, "tidegate"), ack)
                        answer: Any = await cursor.fetchone()
                    added += 1
                    settled += answer.acked
                await asyncio.sleep(0.01)

        async def reconcile(session: Session) -> None:
            while syncing:
                await session.call("select * from {schema}.counter_reconcile()", {})
                await session.call("select * from {schema}.cleanup_sweep()", {})
                await asyncio.sleep(0.2)

        # when each makes its share of the calls, beside settlements, folds and reconciles
        others = [
            asyncio.ensure_future(settle(pools[0][2])),
            asyncio.ensure_future(reconcile(pools[1][2])),
        ]
        try:
            await asyncio.gather(
                *(sync(session, bool(n)) for n, pool in enumerate(pools) for session in pool[:2])
            )
        finally:
            syncing = False
            await asyncio.gather(*others)
            for session in [session for pool in pools for session in pool]:
                await session.close()
        # then all of them succeeded, none by a second try
        assert done == CALLS
        assert await _deadlocks(admin) == deadlocks
        assert "reconnecting" not in caplog.text
        # and what was counted by settlements is all there
        cursor = await admin.execute(
            "select key, value from tidegate.counters where key like 'n%' order by 1"
        )
        assert added and settled
        assert await cursor.fetchall() == [(f"n{n}", added) for n in (3, 5, 7)]


async def _deadlocks(admin: psycopg.AsyncConnection[Any]) -> int:
    await admin.execute("select pg_stat_clear_snapshot()")
    await asyncio.sleep(1.1)  # backends report when idle for a second
    cursor = await admin.execute(
        "select deadlocks from pg_stat_database where datname = current_database()"
    )
    row = await cursor.fetchone()
    assert row
    return int(row[0])
