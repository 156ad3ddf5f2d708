"""A claim never walks over the dead: its cost under a pinned horizon, in pages and not in time."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest


@pytest.mark.parametrize("pin", ["reader", "producer"])
def test_a_claim_costs_the_same_after_20_000_messages(database: str, pin: str) -> None:
    """Vacuum can remove nothing meanwhile; with `producer`, somebody also keeps a position open."""
    options = "-c search_path=tidegate,t"
    with (
        psycopg.connect(database, options=options, autocommit=True) as conn,
        psycopg.connect(database, options=options) as old,
    ):
        conn.execute("select clock_stands()")
        conn.execute("select topic_create('orders')")
        if pin == "producer":
            old.execute("select outbox_put('orders', '\"late\"')")
        else:
            old.execute("set transaction isolation level repeatable read")
            old.execute("select 1")
        consume(conn, 2)
        first = cost(conn)
        consume(conn, 40)
        last = cost(conn)
        # 20 000 dead index entries are over a hundred pages, and as many heap pages again.
        assert last <= first * 1.5 + 20, f"a claim touched {first} pages at first, {last} at last"


def test_a_claim_under_an_id_of_the_callers_costs_the_same_after_2_000_leases(
    database: str,
) -> None:
    """As a relay and a worker claim: the lease of that id is looked for first, and found by it."""
    options = "-c search_path=tidegate,t"
    poll = "select count(*) from outbox_claim('orders', 1, p_lease_id => gen_random_uuid())"
    with (
        psycopg.connect(database, options=options, autocommit=True) as conn,
        psycopg.connect(database, options=options) as old,
    ):
        conn.execute("select clock_stands(), topic_create('orders')")
        old.execute("set transaction isolation level repeatable read")
        old.execute("select 1")
        conn.execute("select buffers(%s)", (poll,))
        first = conn.execute("select buffers(%s)", (poll,)).fetchone()
        conn.execute(
            "select count(*) from outbox_put_many('orders', array_fill('1'::jsonb, array[2000]))"
        )
        conn.execute(
            """
            do $$
            declare
                v_lease uuid;
            begin
                for n in 1..2000 loop
                    v_lease := (select lease_id from outbox_claim('orders', 1));
                    commit;
                    assert (select acked from queue_ack(v_lease)) = 1;
                    commit;
                end loop;
            end $$
            """
        )
        conn.execute("analyze lease")  # with nothing living in it: the worst plan comes of that
        for _ in range(2):
            conn.execute("select clock_moves('2 seconds')")
            conn.execute(poll.encode())
        last = conn.execute("select buffers(%s)", (poll,)).fetchone()
        assert first and last
        assert last[0] <= first[0] * 1.5 + 20, f"{first} pages at first, {last} at last"


def consume(conn: psycopg.Connection[Any], rounds: int) -> None:
    """Put, claim and settle 500 messages, and let two seconds pass, so many times."""
    for _ in range(rounds):
        conn.execute(
            "select count(*) from outbox_put_many('orders', array_fill('1'::jsonb, array[500]))"
        )
        conn.execute("select clock_moves('2 seconds')")
        conn.execute("begin; set local tidegate.tick = 'on'")
        # The claim is seen by the settlement only once it is a statement of its own.
        lease = conn.execute("select lease_id from outbox_claim('orders', 500) limit 1").fetchone()
        assert lease
        conn.execute("select queue_ack(%s)", lease)
        conn.execute("commit")


def cost(conn: psycopg.Connection[Any]) -> int:
    """Pages that a claim of 100 touches; it is rolled back."""
    conn.execute(
        "select count(*) from outbox_put_many('orders', array_fill('1'::jsonb, array[100]))"
    )
    conn.execute("select clock_moves('2 seconds')")
    # The look of the tick below the hint has its price, at a distance from the next: not measured.
    conn.execute("select lease_id from outbox_claim('orders', 1)")
    with conn.transaction(force_rollback=True):
        row = conn.execute(
            "select buffers('select count(*) from outbox_claim(''orders'', 100)')"
        ).fetchone()
    assert row
    return int(row[0])
