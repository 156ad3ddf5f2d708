"""Where pg_locks may not be read nothing is proven: floors stay, and everything else goes on."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pyshim import render


@pytest.fixture
def conn(empty_database: str) -> Iterator[psycopg.Connection[Any]]:
    """An installation whose owner is no superuser, with a queue that has never ticked."""
    owner = sql.Identifier(f"hidden_{secrets.token_hex(4)}")
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(sql.SQL("create role {}").format(owner))
        try:
            grant = sql.SQL("grant create on database {} to {}")
            conn.execute(grant.format(sql.Identifier(conn.info.dbname), owner))
            conn.execute(sql.SQL("set role {}").format(owner))
            conn.execute(render.render("tidegate").encode())
            conn.execute("set search_path = tidegate")
            conn.execute("select queue_create('q', '{\"lease\": \"0.4 s\"}')")
            yield conn
        finally:
            conn.execute("reset role")
            conn.execute(sql.SQL("drop owned by {} cascade").format(owner))
            conn.execute(sql.SQL("drop role {}").format(owner))


def hide(conn: psycopg.Connection[Any]) -> None:
    """Take pg_locks from everybody but superusers, in this database."""
    user = conn.execute("select current_user").fetchone()
    assert user
    conn.execute("reset role")
    conn.execute("revoke all on pg_locks from public")
    conn.execute(sql.SQL("set role {}").format(sql.Identifier(user[0])))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("select * from pg_locks")


def claim(conn: psycopg.Connection[Any], payload: str) -> int:
    """Claim until the payload comes, and return which attempt it is."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        row = conn.execute("select payload, attempt from queue_claim('q')").fetchone()
        if row:
            assert row[0] == payload
            return int(row[1])
        time.sleep(0.1)
    raise AssertionError(f"{payload} never came")


def send(conn: psycopg.Connection[Any], payload: str, delay: str = "0") -> None:
    conn.execute(
        "select queue_send('q', to_jsonb(%s::text), p_run_at => clock_now() + %s::interval)",
        (payload, delay),
    )


@pytest.mark.parametrize("ticked_before", [False, True])
def test_what_is_due_is_delivered(conn: psycopg.Connection[Any], ticked_before: bool) -> None:
    if ticked_before:
        send(conn, "before", "0.3 s")
        assert claim(conn, "before") == 1
        conn.execute("select queue_ack(lease_id) from lease")
    hide(conn)
    send(conn, "delayed", "0.3 s")
    assert claim(conn, "delayed") == 1
    # its worker dies: it is taken back, and comes again after its backoff
    conn.execute("update channel set backoff_base = '0.1 s'")
    assert claim(conn, "delayed") == 2
    conn.execute("select queue_ack(lease_id) from lease")
    incidents = conn.execute("select message from incident").fetchall()
    assert incidents == []


def test_floors_do_not_rise(conn: psycopg.Connection[Any]) -> None:
    hide(conn)
    for n in range(3):
        send(conn, f"{n}")
        assert claim(conn, f"{n}") == 1
        conn.execute("select queue_ack(lease_id) from lease")
        time.sleep(0.3)
    assert conn.execute("select max(floors[1]) from floor").fetchone() == (0,)
