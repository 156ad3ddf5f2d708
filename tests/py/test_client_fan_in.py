"""The client's barriers, runs, guards and counters: in the caller's transaction, typed answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from pyshim import Client
from pyshim.client import BarrierState, Guarded, Opened, RunCancelled, RunFinished
from pyshim.errors import BadArgument, BarrierSealed, NoSuchBarrier, RunIsFinal

client = Client("tidegate")


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    """An application's connection, as psycopg makes it by default."""
    with psycopg.connect(database) as connection:
        connection.execute("select tidegate.queue_create('work'), tidegate.queue_create('q')")
        connection.commit()
        yield connection


def state(conn: psycopg.Connection[Any], name: str) -> BarrierState:
    found = client.barrier_status(conn, name)
    assert found
    return found


def test_a_barrier_is_sent_with_the_commit_and_fires_with_the_last_arrival(
    conn: psycopg.Connection[Any],
) -> None:
    opened = client.barrier_send(
        conn, "b", "work", [{"page": n} for n in (1, 2, 3)], callback_queue="q",
        callback_payload=[7], callback_headers={"h": 1}, callback_priority=2, policy="collect",
        expires_in=timedelta(hours=1), stall_after="5 minutes", run_id=None, inline_limit=100,
    )  # fmt: skip
    assert isinstance(opened, Opened) and opened.outcome == "opened"
    conn.rollback()
    assert client.barrier_status(conn, "b") is None
    epoch = client.barrier_send(
        conn, "b", "work", (n for n in (1, 2, 3)), callback_queue="q", policy="collect"
    ).epoch
    conn.commit()
    assert client.barrier_arrive(conn, "b", epoch, 2, {"words": 5}) == "arrived"
    assert client.barrier_arrive(conn, "b", epoch, 2) == "duplicate"
    assert client.barrier_fail(conn, "b", epoch, 1, "no paper") == "failed"
    assert state(conn, "b")[2:4] == ("open", None)
    assert client.barrier_arrive(conn, "b", epoch, 3) == "fired"
    # R75: late ones of a closed barrier are told so, and raise nothing
    aborted = client.barrier_open(conn, "c", 2).epoch
    assert client.barrier_abort(conn, "c", aborted, "not wanted") == "aborted"
    assert client.barrier_arrive(conn, "c", aborted, 1) == "closed"
    assert client.barrier_fail(conn, "c", aborted, 1, "late") == "closed"
    assert client.barrier_arrive(conn, "nobody", 1, 1) == "unknown"
    row = conn.execute("select payload from tidegate.queue_peek('q')").fetchone()
    assert row and row[0]["results"] == [None, {"words": 5}, None]
    assert (state(conn, "b").failed, state(conn, "c").reason) == (1, "not wanted")


def test_members_are_added_until_the_seal(conn: psycopg.Connection[Any]) -> None:
    epoch = client.barrier_open(conn, "b", 0, callback_queue="q", sealed=False, key="k").epoch
    assert client.barrier_open(conn, "b", 0, sealed=False, key="k").epoch == epoch
    assert client.barrier_add(conn, "b", epoch, 2, key="first") == 1
    assert client.barrier_add(conn, "b", epoch, 2, key="first") == 1
    assert client.barrier_add(conn, "b", epoch) == 3
    assert client.barrier_seal(conn, "b", epoch) == "sealed"
    with pytest.raises(BarrierSealed), conn.transaction():
        client.barrier_add(conn, "b", epoch)
    with pytest.raises(NoSuchBarrier), conn.transaction():
        client.barrier_add(conn, "c", 1)
    client.barrier_abort(conn, "b", epoch)
    assert client.barrier_add(conn, "b", epoch) is None


def test_runs_end_by_compare_and_set(conn: psycopg.Connection[Any]) -> None:
    assert client.run_open(conn, "r", tenant="acme", fail_on_dead_letter=True) == "open"
    assert client.run_open(conn, "child", parent="r") == "open"
    assert client.run_finish(conn, "child", "completed") == RunFinished("changed", "completed")
    assert client.run_finish(conn, "child", "error") == RunFinished("refused", "completed")
    client.send(conn, "work", 1, run_id="r")
    assert client.run_cancel(conn, "r", "not wanted") == RunCancelled("cancelled", 1, 1)
    with pytest.raises(RunIsFinal), conn.transaction():
        client.run_cancel(conn, "child")


def test_a_guard_lets_one_through(conn: psycopg.Connection[Any]) -> None:
    mine = ("callback", "7", "me")
    assert client.guard_claim(conn, *mine) == Guarded("won", None, False)
    assert client.guard_claim(conn, "callback", "7", "you", lease="1 minute").outcome == "held"
    assert client.guard_release(conn, *mine) == "released"
    assert client.guard_claim(conn, *mine, lease=timedelta(minutes=1), run_id="r").outcome == "won"
    assert client.guard_finish(conn, *mine, {"sent": 1}) == "done"
    assert client.guard_claim(conn, *mine) == Guarded("done", {"sent": 1}, True)


def test_a_counter_counts_with_the_commit(conn: psycopg.Connection[Any]) -> None:
    client.counter_add(conn, "k")
    client.counter_add(conn, "k", -3)
    conn.rollback()
    client.counter_add(conn, "k", 2**40)
    conn.commit()
    row = conn.execute("select value from tidegate.counters where key = 'k'").fetchone()
    assert row == (2**40,)


async def test_the_async_forms_do_the_same(conn: psycopg.Connection[Any], database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database) as aconn:
        epoch = (await client.barrier_open(aconn, "b", 1, callback_queue="q")).epoch
        assert await client.barrier_arrive(aconn, "b", epoch, 1, result="x") == "fired"
        assert (await client.guard_claim(aconn, "s", "k", "o")).outcome == "won"
        assert await client.run_open(aconn, "r") == "open"
        await client.counter_add(aconn, "k")
    assert state(conn, "b").state == "fired"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c: client.barrier_arrive(c, "b", 1, 1, "a\0b"), r"result holds \\u0000"),
        (lambda c: client.barrier_arrive(c, "b", "1", 1), "epoch is '1', of type str"),
        (lambda c: client.barrier_arrive(c, "b", 1, True), "member is True, of type bool"),
        (lambda c: client.barrier_open(c, "b", 1, sealed="no"), "allowed: True or False"),
        (lambda c: client.barrier_open(c, "b", 1, expires_in=60), "expires_in is 60"),
        (lambda c: client.barrier_send(c, "b", "q", "abc"), "allowed: a list"),
        (lambda c: client.guard_finish(c, "s", "k", "o", float("nan")), "result cannot be"),
        (lambda c: client.run_open(c, None), "run_id is None"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(
    conn: psycopg.Connection[Any], call: Any, said: str
) -> None:
    with pytest.raises(BadArgument, match=said):
        call(conn)
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    with pytest.raises(TypeError, match=r"barrier_open\(\) has no option 'callback'"):
        client.barrier_open(conn, "b", 1, callback="q")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="the connection is of type str"):
        client.counter_add("x", "k")  # type: ignore[call-overload]


def test_a_method_tells_what_it_does() -> None:
    assert "A member is done" in (client.barrier_arrive.__doc__ or "")
    assert "A member is done" in (Client.barrier_arrive.__doc__ or "")
