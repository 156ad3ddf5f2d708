"""Nothing walks over the dead: what a message costs under a pinned horizon, in pages."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.pages import pages

PUT = {
    "plain": "select count(*) from queue_send_many('orders', array_fill('1'::jsonb, array[%s]))",
    "groups": """
        select count(*) from queue_send_specs('orders', (
            select jsonb_agg(jsonb_build_object('payload', 1, 'group_key', n))
            from generate_series(1, %s) n
        ))
    """,
}


# Not groups beside a producer: what a tick looks at there grows (docs/decisions/0008).
@pytest.mark.parametrize(
    ("kind", "pin"), [("plain", "reader"), ("plain", "producer"), ("groups", "reader")]
)
def test_a_message_costs_the_same_after_20_000_others(database: str, kind: str, pin: str) -> None:
    """Vacuum can remove nothing meanwhile; with `producer`, somebody also keeps a position open.

    With `groups` each message is the last of its group: nothing waits where its settlement looks.
    """
    put = PUT[kind]
    options = "-c search_path=tidegate,t"
    with (
        psycopg.connect(database, options=options, autocommit=True) as conn,
        psycopg.connect(database, options=options) as old,
    ):
        conn.execute("select clock_stands()")
        conn.execute("select queue_create('orders'), queue_create('other')")
        if pin == "producer":
            old.execute("select queue_send('other', '\"late\"')")
        else:
            old.execute("set transaction isolation level repeatable read")
            old.execute("select 1")
        consume(conn, put, 6)
        first = cost(conn, put)
        consume(conn, put, 40)
        last = cost(conn, put)
        # 20 000 dead index entries are over a hundred pages, and as many heap pages again.
        assert last <= first * 1.1 + 50, f"{first} pages at first, {last} at last"


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


def consume(conn: psycopg.Connection[Any], put: str, rounds: int) -> None:
    """Put, claim and settle 500 messages, and let two seconds pass, so many times."""
    for _ in range(rounds):
        conn.execute((put % 500).encode())
        conn.execute("select clock_moves('2 seconds')")
        conn.execute("begin; set local tidegate.tick = 'on'")
        # The claim is seen by the settlement only once it is a statement of its own.
        lease = conn.execute("select lease_id from queue_claim('orders', 500) limit 1").fetchone()
        assert lease
        conn.execute("select queue_ack(%s)", lease)
        conn.execute("commit")


def cost(conn: psycopg.Connection[Any], put: str) -> int:
    """Pages that the claim of one message and its tick touch, and its settlement."""
    ready = (put % 1, "select clock_moves('2 seconds')", "set local tidegate.tick = 'on'")
    claim = "select count(*) from queue_claim('orders', 100)"
    return pages(conn, *ready, claim) + pages(
        conn, *ready, claim, "select queue_ack(lease_id) from lease"
    )
