"""What a recovery costs under a pinned horizon, in pages and not in time.

Each barrier that has closed leaves an entry in the index by which recovery looks for those that are
due, at an instant that passes; each guard and run likewise. None of it can be vacuumed here.
"""

from __future__ import annotations

from typing import Any

import psycopg

from tests.pages import pages


def _pages(conn: psycopg.Connection[Any]) -> int:
    """Pages that a sweep touches which finds nothing; it is rolled back. The look below the floors
    is not in it: that walks over the dead, every five minutes."""
    return pages(conn, "select recovery_sweep()", "select * from recovery_sweep()")


def _live(conn: psycopg.Connection[Any], rounds: int) -> None:
    """Forty barriers open and fire, ten more fail in recovery, forty guards come and go."""
    for _ in range(rounds):
        conn.execute(
            """
            select count(run_open(n::text || clock_now())) from generate_series(1, 10) n;
            select count(*)
            from generate_series(1, 40) n,
                barrier_open('b' || n, 1, 'q', p_expires_in => '1 minute') o,
                barrier_arrive('b' || n, o.epoch, 1);
            select count(*)
            from generate_series(1, 10) n,
                barrier_open('f' || n, 1, 'q', p_run_id => n::text || clock_now(),
                    p_expires_in => '1 minute');
            select count(*)
            from generate_series(1, 40) n, guard_claim('s', n::text, 'w', '1 minute', n || 'r'),
                guard_release('s', n::text, 'w');
            select clock_moves('2 minutes');
            """
        )
        conn.execute("select recovery_sweep()")


def test_a_sweep_costs_the_same_after_thousands_of_barriers(database: str) -> None:
    options = "-c search_path=tidegate,t"
    with (
        psycopg.connect(database, options=options, autocommit=True) as conn,
        psycopg.connect(database, options=options) as old,
    ):
        conn.execute("select clock_stands()")
        conn.execute("select queue_create('q')")
        old.execute("set transaction isolation level repeatable read")
        old.execute("select 1")
        _live(conn, 3)
        first = _pages(conn)
        _live(conn, 60)
        last = _pages(conn)
        failed = conn.execute("select count(*) from run where state = 'error'").fetchone()
    assert failed == (630,)
    # 3 000 dead entries of barriers stand in a dozen pages of the index, and send a scan to as many
    # hundred pages of the table.
    assert last <= first * 1.5 + 20, f"a sweep touched {first} pages at first, {last} at last"


def test_a_barrier_that_commits_late_is_not_passed_by(database: str) -> None:
    """Scans start where everything has been seen; not above what somebody has yet to commit."""
    options = "-c search_path=tidegate,t"
    with (
        psycopg.connect(database, options=options, autocommit=True) as conn,
        psycopg.connect(database, options=options) as late,
    ):
        conn.execute("select clock_stands()")
        conn.execute("select queue_create('q')")
        conn.execute("select recovery_sweep()")
        late.execute("select barrier_open('late', 1, 'q', p_expires_in => '1 minute')")
        for _ in range(20):
            conn.execute("select clock_moves('10 minutes')")
            conn.execute("select recovery_sweep()")
        late.commit()
        found = conn.execute("select failed from recovery_sweep()").fetchone()
        assert found == (1,)
        # and once it has ended, the start goes on
        conn.execute("select clock_moves('10 minutes')")
        conn.execute("select recovery_sweep()")
        conn.execute("select clock_moves('10 minutes')")
        conn.execute("select recovery_sweep()")
        behind = conn.execute(
            "select clock_now() - max(scan_from) < '15 minutes' from recovery_mark"
            " where source = 'barrier'"
        ).fetchone()
        assert behind == (True,)
