"""One call, one transaction, one effect: whatever happens to the connection, and wherever."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from pyshim import calls
from pyshim.errors import NoSuchChannel
from pyshim.retry import DeadlineExceeded
from pyshim.session import Session

SWEEP = {"limit": 500, "topic": None}


class Fragile(psycopg.AsyncConnection[Any]):
    """A connection to which `harm` may happen before the call, before its commit, or after it."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.harm: Callable[[Fragile], Awaitable[None]] | None = None
        self.where = ""


class FragileCursor(psycopg.AsyncClientCursor[Any]):
    """What the harm is done in: calls and commit are one message, which is cut in two for it."""

    async def execute(self, query: Any, *arguments: Any, **more: Any) -> Any:
        connection = self.connection
        if not isinstance(connection, Fragile) or connection.harm is None:
            return await super().execute(query, *arguments, **more)
        harm, connection.harm = connection.harm, None
        calls_alone = query.removesuffix(b";\ncommit")
        assert calls_alone != query
        if connection.where == "after the commit":
            await super().execute(query, *arguments, **more)
            await harm(connection)
            raise psycopg.OperationalError("the connection was lost")
        await super().execute(calls_alone, *arguments, **more)
        await harm(connection)
        return await super().execute(b"commit", *arguments, **more)


class Bench:
    """A session over fragile connections, and a second connection to look and kill with."""

    def __init__(self, conninfo: str, admin: psycopg.AsyncConnection[Any], **options: Any) -> None:
        self.opened: list[Fragile] = []
        self.slept: list[float] = []
        self.admin = admin
        self._conninfo = conninfo
        self.session = Session(self.open, "tidegate", sleep=self.sleep, **options)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def open(self) -> Fragile:
        connection = await Fragile.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        self.opened.append(connection)
        return connection

    async def scalar(self, query: str, *arguments: Any) -> Any:
        row = await (await self.admin.execute(query, arguments)).fetchone()
        assert row is not None
        return row[0]

    async def terminate(self, connection: Fragile) -> None:
        pid = connection.info.backend_pid
        await self.admin.execute("select pg_terminate_backend(%s, 5000)", (pid,))

    async def cut(self, connection: Fragile) -> None:
        """Close the socket under the connection, and wait until the server has noticed."""
        pid = connection.info.backend_pid
        with socket.socket(fileno=os.dup(connection.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)
        for _ in range(200):
            if not await self.scalar("select count(*) from pg_stat_activity where pid = %s", pid):
                return
            await asyncio.sleep(0.02)

    async def harm_next(self, where: str, how: str) -> None:
        """Let the connection that is open die at that point of the next call."""
        harm = self.terminate if how == "terminated" else self.cut
        if where == "before the call":
            await harm(self.opened[-1])
        else:
            self.opened[-1].where = where
            self.opened[-1].harm = harm


@pytest.fixture
async def bench(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr("pyshim.session.AsyncClientCursor", FragileCursor)
    admin = await psycopg.AsyncConnection.connect(database, autocommit=True)
    await admin.execute("select tidegate.topic_create('t')")
    await admin.execute("select tidegate.topic_create('routed')")
    await admin.execute("select tidegate.queue_create('q')")
    await admin.execute("select tidegate.outbox_route('routed', 'q')")
    await admin.execute(
        "select tidegate.outbox_put(topic, jsonb_build_object('n', n))"
        " from generate_series(1, 5) as n, unnest(array['t', 'routed']) as topic"
    )
    found = Bench(database, admin)
    await found.session.call(calls.CLEANUP_SWEEP, {"limit": 1})
    yield found
    await found.session.close()
    await admin.close()


def _claim() -> dict[str, Any]:
    return {"topic": "t", "limit": 10, "lease": None, "worker": "w", "lease_id": uuid4()}


anywhere = pytest.mark.parametrize(
    "where", ["before the call", "before the commit", "after the commit"]
)
anyhow = pytest.mark.parametrize("how", ["terminated", "cut"])


@anywhere
@anyhow
async def test_a_claim_that_loses_its_connection_has_one_effect(
    bench: Bench, where: str, how: str
) -> None:
    # given five events and a connection that dies at this point
    await bench.harm_next(where, how)
    # when they are claimed
    rows = await bench.session.call(calls.OUTBOX_CLAIM, _claim())
    # then they are there, under one lease, over a second connection
    assert len(rows) == 5
    assert len({row.lease_id for row in rows}) == 1
    assert await bench.scalar("select count(*) from tidegate.lease") == 1
    assert len(bench.opened) == 2
    assert bench.slept == [0.5]


@anywhere
@anyhow
async def test_a_settlement_that_loses_its_connection_has_one_effect(
    bench: Bench, where: str, how: str
) -> None:
    claim = _claim()
    rows = await bench.session.call(calls.OUTBOX_CLAIM, claim)
    await bench.harm_next(where, how)
    failure = psycopg.types.json.Jsonb([{"message_id": rows[0].message_id, "error": "no"}])
    settled = await bench.session.one(
        calls.OUTBOX_SETTLE,
        {
            "lease_id": claim["lease_id"],
            "done": [row.message_id for row in rows[1:]],
            "failed": failure,
        },
    )
    # then the repeat after the commit says lost, and either way one failure was charged once
    assert settled.lost == (where == "after the commit")
    assert await bench.scalar("select count(*) from tidegate.lease") == 0
    assert await bench.scalar("select array_agg(attempts) from tidegate.scheduled") == [1]


@anywhere
@anyhow
async def test_a_sweep_that_loses_its_connection_delivers_once(
    bench: Bench, where: str, how: str
) -> None:
    await bench.harm_next(where, how)
    await bench.session.one(calls.OUTBOX_SWEEP, SWEEP)
    assert await bench.scalar("select count(*) from tidegate.queue_claim('q', 100)") == 5


async def test_the_second_failure_is_raised(bench: Bench) -> None:
    # given a server that kills every backend that starts a transaction
    await bench.harm_next("before the call", "terminated")
    original = bench.open

    async def open_doomed() -> Fragile:
        connection = await original()
        connection.where, connection.harm = "before the commit", bench.terminate
        return connection

    bench.session._opener = open_doomed
    with pytest.raises(psycopg.OperationalError):
        await bench.session.one(calls.OUTBOX_SWEEP, SWEEP)
    assert len(bench.opened) == 2


async def test_a_connection_opened_for_this_call_is_not_retried(bench: Bench) -> None:
    await bench.session.close()
    original = bench.open

    async def open_doomed() -> Fragile:
        connection = await original()
        connection.where, connection.harm = "before the commit", bench.terminate
        return connection

    bench.session._opener = open_doomed
    with pytest.raises(psycopg.OperationalError):
        await bench.session.one(calls.OUTBOX_SWEEP, SWEEP)
    assert len(bench.opened) == 2  # the fixture's, and the one that died


async def test_an_adopted_connection_is_neither_retried_nor_closed(bench: Bench) -> None:
    adopted = await bench.open()
    session = Session.adopt(adopted, "tidegate")
    with pytest.raises(NoSuchChannel):
        await session.call(calls.OUTBOX_CLAIM, {**_claim(), "topic": "nope"})
    await session.close()
    assert not adopted.closed
    await bench.terminate(adopted)
    with pytest.raises(psycopg.OperationalError):
        await session.one(calls.OUTBOX_SWEEP, SWEEP)
    assert len(bench.opened) == 2


async def test_a_mistake_is_raised_at_once_with_its_own_error(bench: Bench) -> None:
    with pytest.raises(NoSuchChannel, match="nope"):
        await bench.session.call(calls.OUTBOX_CLAIM, {**_claim(), "topic": "nope"})
    # and the connection stays in use
    await bench.session.one(calls.OUTBOX_SWEEP, SWEEP)
    assert len(bench.opened) == 1


async def test_a_lost_race_is_tried_again_on_the_same_connection(bench: Bench) -> None:
    await bench.admin.execute("create sequence public.tries")
    await bench.admin.execute(
        "create function public.raced() returns bigint language plpgsql as $$ begin"
        " if nextval('public.tries') < 3 then raise exception 'x' using errcode = '40P01'; end if;"
        " return currval('public.tries'); end $$"
    )
    (row,) = await bench.session.call("select public.raced()", {})
    assert row.raced == 3
    assert len(bench.opened) == 1


async def test_a_call_that_waits_for_a_lock_ends_in_time_and_leaves_none(database: str) -> None:
    # given a function that waits for a lock which somebody keeps
    admin = await psycopg.AsyncConnection.connect(database, autocommit=True)
    await admin.execute(
        "create function public.stuck() returns void language sql"
        " as 'select pg_advisory_xact_lock(1); select pg_advisory_xact_lock(2)'"
    )
    await admin.execute("select pg_advisory_lock(2)")
    bench = Bench(database, admin, timeout=0.3)
    # when it is called
    started = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled):
        await bench.session.call("select public.stuck()", {})
    # then it ends by statement_timeout, and what it had locked is free
    assert time.monotonic() - started < 1.0
    assert await bench.scalar("select pg_try_advisory_lock(1)")
    await bench.session.close()
    await admin.close()


async def test_a_server_that_does_not_answer_is_given_up_after_the_deadline(
    database: str,
) -> None:
    # given a call which the server's own timeout does not bound
    admin = await psycopg.AsyncConnection.connect(database, autocommit=True)
    bench = Bench(database, admin, timeout=0.2)
    slow = "select set_config('statement_timeout', '0', true); select pg_sleep(30)"
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await bench.session.call(slow, {})
    assert time.monotonic() - started < 3
    # then nothing of it goes on in the server
    running = (
        "select count(*) from pg_stat_activity where strpos(query, %s) > 0 and state = 'active'"
    )
    for _ in range(100):
        if await bench.scalar(running, "pg_sleep(" + "30)") == 0:
            break
        await asyncio.sleep(0.02)
    assert await bench.scalar(running, "pg_sleep(" + "30)") == 0
    # and the next call has a new connection
    await bench.session.call("select 1 as one", {})
    assert len(bench.opened) == 2
    await bench.session.close()
    await admin.close()


async def test_nothing_of_a_call_stays_in_the_session(bench: Bench) -> None:
    await bench.session.one(calls.OUTBOX_SWEEP, SWEEP)
    (connection,) = bench.opened
    row = await (
        await connection.execute(
            "select current_setting('statement_timeout'), current_setting('tidegate.tick', true),"
            " (select count(*) from pg_prepared_statements)"
        )
    ).fetchone()
    assert row == ("0", "", 0)


async def test_calls_that_are_made_together_have_their_effect_together(bench: Bench) -> None:
    claim = _claim()
    done = [
        row.message_id
        for row in await bench.session.call(calls.OUTBOX_CLAIM, {**claim, "limit": 2})
    ]
    failed = psycopg.types.json.Jsonb([])
    settle = {"lease_id": claim["lease_id"], "done": done, "failed": failed}
    # given a settlement, and a claim that is refused
    with pytest.raises(NoSuchChannel):
        await bench.session.calls(
            (calls.OUTBOX_SETTLE, settle), (calls.OUTBOX_CLAIM, {**_claim(), "topic": "nope"})
        )
    assert await bench.scalar("select count(*) from tidegate.lease") == 1
    # and then one that is not
    second = _claim()
    wanted = ((calls.OUTBOX_SETTLE, settle), (calls.OUTBOX_CLAIM, second))
    (settled,), rows = await bench.session.calls(*wanted)
    assert (settled.acked, settled.lost) == (2, False)
    assert {row.lease_id for row in rows} == {second["lease_id"]}
    assert len(rows) == 3


async def test_two_calls_at_once_on_one_session_take_turns(bench: Bench) -> None:
    await asyncio.gather(*(bench.session.one(calls.OUTBOX_SWEEP, SWEEP) for _ in range(5)))
    assert len(bench.opened) == 1
