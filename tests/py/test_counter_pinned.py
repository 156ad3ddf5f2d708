"""What counters and upkeep cost under a pinned horizon, in pages and not in time."""

from __future__ import annotations

import psycopg

from tests.pages import pages


def test_a_sync_and_a_read_cost_the_same_after_200_of_them(database: str) -> None:
    options = "-c search_path=tidegate,t"
    sync = (
        "select count(*) from counter_sync("
        "(select jsonb_object_agg('k' || n, n + %s) from generate_series(1, 100) as n))"
    )
    with (
        psycopg.connect(database, options=options, autocommit=True) as conn,
        psycopg.connect(database, options=options) as old,
    ):
        old.execute("set transaction isolation level repeatable read")
        old.execute("select 1")
        queries = {
            "sync": sync % 9999,
            "peek": "select counter_peek('k7')",
            "add": "select counter_add('k7')",
            "start": "select maintenance_start('tick')",
            "finish": "select maintenance_finish('tick')",
        }
        conn.execute((sync % 0).encode())
        first = {name: pages(conn, query) for name, query in queries.items()}
        for n in range(200):
            conn.execute((sync % n).encode())
            conn.execute("select counter_add('k7') from generate_series(1, 50)")
            conn.execute("select _counter_fold(1000)")
            conn.execute(
                "select maintenance_start('tick'), maintenance_finish('tick', null, true)"
                " from generate_series(1, 10)"
            )
        last = {name: pages(conn, query) for name, query in queries.items()}
    # 20 000 dead rows of counter are two hundred pages, 10 000 of counter_delta another sixty,
    # 4 000 of maintenance_run eighty.
    for name, before in first.items():
        assert last[name] <= before * 1.5 + 20, (name, first, last)
