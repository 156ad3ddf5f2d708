"""Behind PgBouncer in transaction mode: no session state, no prepared names, and restarts of it."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from pyshim import Client
from pyshim.config import Database
from pyshim.connect import connect
from pyshim.errors import TidegateError
from pyshim.session import Session
from tests.brokers import until
from tests.pgbouncer import PgBouncer
from tests.pipeline import ROLES, Pipeline

pytestmark = pytest.mark.heavy

ROUNDS = int(os.environ.get("ROUNDS", "5"))
CALLS = min(500, 10 * ROUNDS)  # of every function, through each pool: 500 in `make faults`

SPECS = "jsonb_build_array(jsonb_build_object('payload', 4))"


def test_every_role_works_through_a_pooler_that_is_restarted(
    database: str, pgbouncer: PgBouncer, tmp_path: Path
) -> None:
    # given producers and all roles behind a pooler with two server connections
    with (
        Pipeline(pgbouncer.url, tmp_path).running() as pipeline,
        psycopg.connect(database, autocommit=True) as admin,
    ):

        def terminate() -> None:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )

        def kill(role: str) -> None:
            epoch = _number(admin, "select epoch from tidegate.leader")
            pipeline.herd.kill_one(role)
            if role == "maintain":  # another one leads, once the lease is over
                until(lambda: _number(admin, "select epoch from tidegate.leader") > epoch)

        blows = [
            functools.partial(pgbouncer.restart, signal.SIGTERM),
            functools.partial(pgbouncer.restart, signal.SIGKILL),
            terminate,
            *(functools.partial(kill, role) for role, *_ in ROLES),
        ]
        # when it is stopped, killed, its server connections ended, and each role killed
        for _ in range(max(1, ROUNDS // 5)):
            for blow in random.sample(blows, len(blows)):
                blow()
                pipeline.flow()
        pipeline.drain(database)
    # then every event has arrived, repeats under the same id, and no log speaks of prepared names
    pipeline.check()
    log = pipeline.herd.logged()
    print(*log, sep="\n")
    print(f"doubtful {len(pipeline.doubtful)}, repeats {pipeline.repeats()}")
    assert not [line for line in log if "prepared statement" in line]
    assert len(log) < 100 * ROUNDS
    with psycopg.connect(database) as conn:
        assert _number(conn, "select tidegate.dead_letter_count()") == 0


class Caller:
    """Calls functions as the driver does, through one pool, and counts the calls by name."""

    def __init__(self, url: str) -> None:
        self.calls: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._session = Session(lambda: connect(Database(url, "the test")), "tidegate")

    async def __call__(
        self, function: str, arguments: str = "", *, expect: str | None = None, **values: Any
    ) -> Any:
        """The first row, or None; `expect` is the SQLSTATE that it must raise."""
        self.calls[function] += 1
        statement = f"select * from {{schema}}.{function}({arguments})"
        try:
            rows = await self._session.call(statement, values)
        except TidegateError as error:
            assert error.sqlstate == expect, (function, error)
            self.errors[f"{function} {error.sqlstate}"] += 1
            return None
        assert expect is None, f"{function} did not raise {expect}"
        return rows[0] if rows else None

    async def close(self) -> None:
        await self._session.close()


async def _live(call: Caller, tag: str) -> None:
    """Every function once, in an order in which most have something to do."""
    q, t, name = f"q.{tag}", f"t.{tag}", {"n": tag}
    # channels come and go
    await call("queue_create", "%(q)s", q=q)
    await call("queue_configure", "%(q)s, jsonb_build_object('max_attempts', 1)", q=q)
    await call("topic_create", "%(t)s", t=t)
    await call("topic_configure", "%(t)s, jsonb_build_object('max_attempts', 1)", t=t)
    await call("topic_pause", "%(t)s", t=t)
    await call("topic_resume", "%(t)s", t=t)
    await call("queue_pause", "%(q)s", q=q)
    await call("queue_resume", "%(q)s", q=q)
    # a relay
    await call("outbox_put", "%(t)s, '1'", t=t)
    await call("outbox_put_many", "%(t)s, array['2', '3']::jsonb[]", t=t)
    await call(
        "outbox_put_specs", "%(t)s, jsonb_build_array(jsonb_build_object('payload', 4))", t=t
    )
    lease = (await call("outbox_claim", "%(t)s, 1, p_lease_id => %(l)s", t=t, l=uuid4())).lease_id
    await call("outbox_settle", "%(l)s, '{{}}'", l=lease)
    await call("outbox_release", "%(l)s", l=lease)
    # a sweep
    await call("outbox_route", "%(t)s, %(q)s", t=t, q=q)
    swept = await call("outbox_sweep", "10, %(t)s", t=t)
    assert swept.dispatched == 4, swept
    await call("outbox_unroute", "%(t)s, %(q)s", t=t, q=q)
    # workers
    await call("queue_send", "%(q)s, '5', p_job_key => 'k'", q=q)
    await call("queue_send_many", "%(q)s, array['6']::jsonb[]", q=q)
    await call(
        "queue_send_specs", "%(q)s, jsonb_build_array(jsonb_build_object('payload', 7))", q=q
    )
    await call("queue_peek", "%(q)s", q=q)
    await call("queue_cancel", "%(q)s, p_job_key => 'k'", q=q)
    await call("queue_work", "%(q)s, 'public.handle(jsonb)', 1", q=q)
    for settle in ("queue_ack(%(l)s)", "queue_nack(%(l)s)", "queue_release(%(l)s)",
                   "queue_settle(%(l)s, array[%(m)s]::bigint[])"):  # fmt: skip
        row = await call("queue_claim", "%(q)s, 1, p_lease_id => %(l)s", q=q, l=uuid4())
        await call("queue_extend", "%(l)s", l=row.lease_id)
        function, _, arguments = settle.partition("(")
        settled = await call(function, arguments[:-1], l=row.lease_id, m=row.message_id)
        assert not settled.lost, (settle, settled)
    # dead letters: the one that was nacked, and the one that was cancelled
    assert (await call("dead_letter_count", "%(q)s", q=q)).dead_letter_count == 1
    dead = (await call("dead_letter_list", "%(q)s", q=q)).dead_letter_id
    await call("dead_letter_peek", "%(d)s", d=dead)
    await call("dead_letter_payload", "%(d)s", d=dead)
    await call("dead_letter_history", "%(d)s", d=dead)
    await call("dead_letter_stats")
    await call("dead_letter_requeue_matching", "%(q)s, p_dry_run => true", q=q)
    await call("dead_letter_requeue", "array[%(d)s]::bigint[]", d=dead)
    await call("queue_drain", "%(q)s", q=q)
    await call("queue_send", "%(q)s, '8'", q=q, expect="TG023")
    await call("queue_purge", "%(q)s, 'dead_letter'", q=q)
    dead = (await call("dead_letter_list", "%(q)s", q=q)).dead_letter_id
    await call("dead_letter_discard", "array[%(d)s]::bigint[], 'enough'", d=dead)
    await call("dead_letter_put", f"%(q)s, {SPECS}", q=q)
    await call("dead_letter_discard_matching", "'enough', %(q)s", q=q)
    await call("queue_drop", "%(q)s", q=q)
    await call("topic_drop", "%(t)s", t=t)
    await call("queue_claim", "%(q)s", q=q, expect="TG020")
    # barriers
    epoch = (await call("barrier_open", "%(n)s, 2, 'callbacks', p_sealed => false", **name)).epoch
    await call("barrier_add", "%(n)s, %(e)s, 1", n=tag, e=epoch)
    await call("barrier_seal", "%(n)s, %(e)s", n=tag, e=epoch)
    await call("barrier_arrive", "%(n)s, %(e)s, 1, '1'", n=tag, e=epoch)
    await call("barrier_fail", "%(n)s, %(e)s, 2, 'no'", n=tag, e=epoch)
    await call("barrier_status", "%(n)s", n=tag)
    await call("barrier_results", "%(n)s, %(e)s", n=tag, e=epoch)
    await call("barrier_abort", "%(n)s, %(e)s, 'enough'", n=tag, e=epoch)
    sent = await call("barrier_send", "%(n)s, 'members', array['1']::jsonb[]", n=tag)
    await call("barrier_resolve", "%(n)s, %(e)s, 'failed'", n=tag, e=sent.epoch)
    # guards, leaders, runs, counters
    await call("guard_claim", "'s', %(n)s, 'o'", **name)
    await call("guard_renew", "'s', %(n)s, 'o'", **name)
    await call("guard_finish", "'s', %(n)s, 'o', '1'", **name)
    await call("guard_release", "'s', %(n)s, 'o'", **name)
    accepted = UUID(int=hash(tag) & (2**127 - 1))
    assert (await call("inbox_accept", "'c', %(e)s", e=accepted)).inbox_accept
    epoch = (await call("leader_acquire", "%(n)s, 'me'", **name)).epoch
    await call("leader_renew", "%(n)s, %(e)s", n=tag, e=epoch)
    await call("leader_resign", "%(n)s, %(e)s", n=tag, e=epoch)
    await call("run_open", "%(n)s", **name)
    await call("run_status", "%(n)s", **name)
    await call("run_list")
    await call("run_finish", "%(n)s, 'error'", **name)
    await call("run_cancel", "%(n)s, 'enough'", **name)
    await call("run_sweep")
    await call("counter_add", "%(n)s, 1", **name)
    await call("counter_peek", "%(n)s", **name)
    await call(
        "counter_sync", "jsonb_build_array(jsonb_build_object('key', %(n)s, 'value', 2))", **name
    )
    await call("counter_reconcile")
    # upkeep, and what is seen
    await call("recovery_sweep")
    await call("cleanup_sweep")
    await call("maintenance_due")
    await call("maintenance_start", "'counters'")
    await call("maintenance_finish", "'counters'")
    await call("maintenance_tick")
    await call("maintenance_configure", "'counters', '1 hour'")
    await call("metrics_snapshot")
    await call("metrics")
    await call("doctor")
    await call("schema_version")


async def test_two_pools_of_calls_of_every_function_meet_no_surprise(
    database: str, pgbouncer: PgBouncer
) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as admin:
        await admin.execute(
            "select tidegate.queue_create('callbacks'), tidegate.queue_create('members'),"
            " tidegate.queue_create('app')"
        )
        await admin.execute(
            "create function public.handle(jsonb) returns void language sql"
            " set search_path = pg_catalog, pg_temp as ''"
        )
        cursor = await admin.execute(
            "select proname from pg_proc"
            " where pronamespace = 'tidegate'::regnamespace and prosecdef"
        )
        public = {name for (name,) in await cursor.fetchall() if not name.startswith("_")}
        probe = Caller(pgbouncer.url)
        await _live(probe, "probe")
        await probe.close()
        assert public - set(probe.calls) == set(), "give it a place in _live"
        # given two pools, each with more sessions than server connections, and an application's
        # own connection, which prepares what it executes five times
        left = {url: iter(range(CALLS)) for url in (pgbouncer.url, pgbouncer.other)}
        callers = {url: [Caller(url) for _ in range(3)] for url in left}

        async def live(url: str, call: Caller) -> None:
            for number in left[url]:
                await _live(call, f"{url.rpartition('/')[2]}.{number}")

        async def send(url: str) -> None:
            client = Client("tidegate")
            async with await psycopg.AsyncConnection.connect(url) as conn:
                for number in range(CALLS):
                    async with conn.transaction():
                        await client.send(conn, "app", {"n": number})
                        await client.counter_add(conn, "sent", 1)

        # when each makes its calls
        await asyncio.gather(
            *(live(url, call) for url in left for call in callers[url]), *map(send, left)
        )
        # then every function has been called, nothing was unexpected, and nothing is left behind
        for each in callers.values():
            calls = sum((call.calls for call in each), Counter[str]())
            assert set(calls) == public
            assert min(calls.values()) >= CALLS
            assert sum((call.errors for call in each), Counter[str]()) == {
                "queue_send TG023": CALLS, "queue_claim TG020": CALLS
            }  # fmt: skip
        for url in left:
            async with await psycopg.AsyncConnection.connect(
                url, autocommit=True, prepare_threshold=None
            ) as conn:
                for nothing in (
                    "select count(*) from pg_prepared_statements",
                    "select count(*) from pg_locks where locktype = 'advisory' and"
                    " pid = pg_backend_pid()",
                    "select count(*) from pg_class where relpersistence = 't'",
                    "select count(*) from pg_settings where source = 'session'"
                    " and name not in ('application_name', 'client_encoding')",
                ):
                    cursor = await conn.execute(nothing.encode())
                    assert await cursor.fetchone() == (0,), nothing
        cursor = await admin.execute("select value from tidegate.counters where key = 'sent'")
        assert await cursor.fetchone() == (2 * CALLS,)
        for call in (call for each in callers.values() for call in each):
            await call.close()


def _number(conn: psycopg.Connection[Any], query: str) -> int:
    row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])
