"""What the doctor says of other sessions, and `tidegate doctor`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.commands import Tell


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        connection.execute("select queue_create('q')")
        yield connection


def _finding(conn: psycopg.Connection[Any], check: str) -> tuple[str, str, str | None]:
    row = conn.execute(
        "select status, seen, advice from doctor() where check_name = %s", (check,)
    ).fetchone()
    assert row is not None
    return row


def _make_old(conn: psycopg.Connection[Any], check: str, *ages: tuple[str, str]) -> None:
    """Shorten the ages that a check of the doctor tolerates: nobody waits for minutes here."""
    text = conn.execute("select pg_get_functiondef('_doctor_look_server'::regproc)").fetchone()
    assert text is not None
    head, begin, body = text[0].partition(f"when '{check}' then")
    for old, new in ages:
        assert old in body
        body = body.replace(f"interval '{old}'", f"interval '{new}'")
    conn.execute((head + begin + body).encode())


def test_a_session_that_pins_the_horizon_is_named(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    assert _finding(conn, "horizon")[0] == "ok"
    with psycopg.connect(database, application_name="forgotten") as other:
        other.execute("set transaction isolation level repeatable read")
        other.execute("select txid_current()")
        conn.execute("create table public.other (id int)")
        status, seen, _ = _finding(conn, "horizon")
        assert status == "ok"  # young
        _make_old(conn, "horizon", ("5 minutes", "0"))
        status, seen, advice = _finding(conn, "horizon")
        assert status == "warn"
        assert f"pid {other.info.backend_pid} " in seen
        assert "forgotten, idle in transaction" in seen
        assert advice is not None
        assert f"pg_terminate_backend({other.info.backend_pid})" in advice
        held = conn.execute(
            "select p.value from _metrics_probe('horizon', 1, now()) p"
            " where p.labels->>'holder' = 'session'"
        ).fetchone()
        assert held is not None
        assert held[0] >= 1


def test_a_prepared_transaction_that_pins_the_horizon_is_named(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("begin; create table public.other (id int); prepare transaction 'lost one'")
        try:
            conn.execute("select txid_current()")
            _make_old(conn, "horizon", ("1 minute", "0"))
            status, seen, advice = _finding(conn, "horizon")
            assert status == "warn"
            assert "prepared transaction 'lost one'" in seen
            assert "rollback prepared 'lost one'" in (advice or "")
        finally:
            other.execute("rollback prepared 'lost one'")


def test_a_claim_that_is_left_open_is_named(database: str, conn: psycopg.Connection[Any]) -> None:
    conn.execute("select queue_send('q', '{}')")
    with psycopg.connect(database) as other:
        other.execute("select tidegate.queue_claim('q')")
        assert _finding(conn, "open_claims")[0] == "ok"
        _make_old(conn, "open_claims", ("1 minute", "0"))
        status, seen, advice = _finding(conn, "open_claims")
        assert status == "warn"
        assert f"pid {other.info.backend_pid} " in seen
        assert "ready" in seen
        assert "Commit the claim" in (advice or "")
    assert _finding(conn, "open_claims")[0] == "ok"


def test_who_waits_for_a_lock_is_named_with_who_holds_it(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    _make_old(conn, "locks", ("5 seconds", "0"))
    with psycopg.connect(database) as holder, psycopg.connect(database) as waiter:
        holder.execute("lock table tidegate.ready in access exclusive mode")
        waiter.execute("set lock_timeout = '20s'")
        pid = waiter.info.backend_pid
        waiter.pgconn.send_query(b"select count(*) from tidegate.ready")
        waiter.pgconn.flush()
        for _ in range(20):
            status, seen, _ = _finding(conn, "locks")
            if status == "fail":
                break
        assert f"pid {pid} (" in seen
        assert f"has waited for pid {holder.info.backend_pid} for" in seen
        holder.rollback()
        while waiter.pgconn.get_result():
            pass


def test_who_may_not_see_sessions_is_told_so(database: str, conn: psycopg.Connection[Any]) -> None:
    name = f"plain_{conn.info.dbname}"
    conn.execute(f"create role {name}".encode())
    try:
        conn.execute(f"grant all on all tables in schema tidegate to {name}".encode())
        conn.execute(f"grant execute on all functions in schema tidegate to {name}".encode())
        conn.execute(f"grant usage on schema tidegate to {name}".encode())
        conn.execute(f"grant usage, select on all sequences in schema tidegate to {name}".encode())
        for routine in ("doctor()", "metrics_snapshot(integer)"):
            conn.execute(f"alter function {routine} security invoker".encode())
        conn.execute(f"set role {name}".encode())
        status, seen, advice = _finding(conn, "horizon")
        assert status == "warn"
        assert "cannot be seen" in seen
        assert "grant pg_read_all_stats" in (advice or "")
        held = conn.execute(
            "select array_agg(p.labels->>'holder') from _metrics_probe('horizon', 1, now()) p"
            " where p.name = 'tidegate_horizon_transactions'"
        ).fetchone()
        assert held is not None
        assert sorted(held[0]) == ["prepared", "slot"]  # what is not seen is absent, not 0
    finally:
        conn.execute("reset role")
        conn.execute(f"drop owned by {name}".encode())
        conn.execute(f"drop role {name}".encode())


def test_the_command_says_what_to_do_and_exits_1(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    told = tell("doctor")
    assert told.code == 1
    assert "FAIL  maintenance: no job of the upkeep has ever started" in told.out
    assert "→ Run tidegate maintain" in told.out
    assert "checks are ok" in told.out
    assert "OK " not in told.out
    conn.execute("select maintenance_start(job) from maintenance_due()")
    told = tell("doctor", "-v")
    assert told.code == 0
    assert "OK    maintenance: a job started" in told.out
    told = tell("doctor", "--json")
    rows = json.loads(told.out)
    assert {"check_name", "status", "seen", "advice"} == set(rows[0])
    assert told.code == 0
