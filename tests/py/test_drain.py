"""docs/runbooks/drain.md is tried, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "runbooks" / "drain.md").read_text()


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    """A queue that has messages, one of them leased, and a topic that is delivered there."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        connection.execute("select queue_create('emails'), topic_create('orders')")
        connection.execute("select queue_create('rests'), queue_pause('rests')")
        connection.execute("select outbox_route('orders', 'emails')")
        connection.execute("select queue_send_many('emails', array_fill('{}'::jsonb, array[3]))")
        connection.execute("select queue_claim('emails', 1, p_worker => 'host-7:1')")
        yield connection


def block(number: int, conn: psycopg.Connection[Any]) -> list[Any]:
    """Run a block of the page; the rows of its last statement."""
    text = re.findall(r"^```sql\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)[number]
    rows: list[Any] = []
    for statement in filter(None, map(str.strip, text.split(";"))):
        cursor = conn.execute(statement.encode())
        rows = cursor.fetchall() if cursor.description else []
    return rows


def rows(conn: psycopg.Connection[Any], query: str) -> list[Any]:
    """What a query of the page answers."""
    assert " ".join(query.split()) in " ".join(PAGE.split())
    return conn.execute(query.encode()).fetchall()


def test_a_queue(conn: psycopg.Connection[Any]) -> None:
    assert block(0, conn) == [(2, 0, 0, 1)]
    with pytest.raises(psycopg.DatabaseError) as refused:
        conn.execute("select queue_send('emails', '{}')")
    assert refused.value.sqlstate == "TG023"
    conn.execute("select outbox_put('orders', '{}')")
    assert conn.execute("select claimed from outbox_sweep()").fetchone() == (0,)
    assert rows(conn, "select min(next_due_at) from backlog") == [(None,)]
    conn.execute("select queue_ack(lease_id) from in_flight")
    conn.execute("select queue_ack(lease_id) from queue_claim('emails', 9) limit 1")
    assert block(0, conn) == [(0, 0, 0, 0)]
    rows(conn, "select queue_resume('emails')")
    assert conn.execute("select dispatched from outbox_sweep()").fetchone() == (1,)


def test_a_machine(conn: psycopg.Connection[Any]) -> None:
    ((worker, kind, name, count, _),) = block(1, conn)
    assert (worker, kind, name, count) == ("host-7:1", "queue", "emails", 1)
    rows(
        conn,
        "select queue_release(lease_id) from in_flight"
        " where worker like 'host-7:%' and kind = 'queue'",
    )
    assert block(1, conn) == []
    # and nobody was charged
    again = conn.execute("select max(attempt), count(*) from queue_claim('emails', 9)").fetchone()
    assert again == (1, 3)


def test_everything(conn: psycopg.Connection[Any]) -> None:
    ((kind, name, count, worker, _),) = block(2, conn)
    assert (kind, name, count, worker) == ("queue", "emails", 1, "host-7:1")
    # producers go on, and what is leased is settled
    conn.execute("select queue_send('emails', '{}'), outbox_put('orders', '{}')")
    assert conn.execute("select count(*) from queue_claim('emails')").fetchone() == (0,)
    assert conn.execute("select claimed from outbox_sweep()").fetchone() == (0,)
    conn.execute("select queue_ack(lease_id) from in_flight")
    block(3, conn)
    assert conn.execute("select dispatched from outbox_sweep()").fetchone() == (1,)
    assert conn.execute("select count(*) from queue_claim('emails', 9)").fetchone() == (4,)
    # what was paused before stays so
    paused = conn.execute("select name from policy where is_paused").fetchall()
    assert paused == [("rests",)]
