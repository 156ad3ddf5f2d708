"""Races that once lost or stopped something: narrow windows, met by doing it very often, or forced.

Those that can be told step by step stand in tests/sql/isolation.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

pytestmark = pytest.mark.slow

Connection = psycopg.Connection[Any]

# The places that hold something, and how much.
PLACES = """
select p.place, p.held from (
    select 'ready', count(*) from ready union all select 'scheduled', count(*) from scheduled
    union all select 'blocked', count(*) from blocked union all select 'lease', count(*) from lease
) p (place, held)
where p.held > 0
"""


@pytest.fixture
def connect(database: str) -> Callable[..., Connection]:
    """`connect(autocommit=True)`: a connection with Tidegate and the helpers on its path."""

    def connect(autocommit: bool = True) -> Connection:
        return psycopg.connect(
            database, autocommit=autocommit, options="-c search_path=tidegate,t,public"
        )

    return connect


def drain(conn: Connection) -> None:
    """Claim up to a hundred, and settle them."""
    for (lease_id,) in conn.execute("select distinct lease_id from queue_claim('q', 100)"):
        conn.execute("select queue_ack(%s)", (lease_id,))


def meanwhile(
    seconds: float, threads: int, deed: Callable[[Connection, random.Random], None], connect: Any
) -> tuple[ThreadPoolExecutor, list[Future[None]]]:
    """Do it again and again in some threads, each with a connection of its own."""
    end = time.monotonic() + seconds

    def run(number: int) -> None:
        dice = random.Random(number)
        with connect() as conn:
            while time.monotonic() < end:
                deed(conn, dice)

    pool = ThreadPoolExecutor(threads)
    return pool, [pool.submit(run, number) for number in range(threads)]


def test_a_first_of_a_group_that_is_replaced_again_and_again_is_not_left_behind(
    connect: Callable[..., Connection],
) -> None:
    """A turn was given to a message whose row had a new version by then, and stayed in blocked."""
    conn = connect()
    conn.execute("select queue_create('q')")

    def replace(conn: Connection, dice: random.Random) -> None:
        n = dice.randrange(300)
        conn.execute(
            "select queue_send('q', '1', p_group_key => %s, p_job_key => %s)", (f"g{n}", f"k{n}")
        )

    # given keyed sends in many groups, beside one who drains them
    pool, senders = meanwhile(5, 6, replace, connect)
    while not all(sender.done() for sender in senders):
        drain(conn)
        time.sleep(0.02)
    pool.shutdown()
    for sender in senders:
        sender.result()

    # when nothing is sent any more, then all of it comes
    end = time.monotonic() + 20
    while (left := conn.execute(PLACES).fetchall()) and time.monotonic() < end:
        drain(conn)
        time.sleep(0.02)
    assert left == []
    conn.close()


def test_a_claim_waits_for_no_other_that_gives_the_same_group_its_first_turn(
    connect: Callable[..., Connection],
) -> None:
    conn, late, first = connect(), connect(autocommit=False), connect(autocommit=False)
    conn.execute("select queue_create('q')")
    conn.execute("select queue_send('q', '0')")
    assert len(conn.execute("select queue_claim('q')").fetchall()) == 1
    # given a claim that gives a new group its turn and stays open
    late.execute("select queue_send('q', '\"late\"', p_group_key => 'g')")
    conn.execute("select queue_send('q', '\"early\"', p_group_key => 'g')")
    end = time.monotonic() + 10
    while not (found := first.execute("select payload from queue_claim('q')").fetchall()):
        first.rollback()
        assert time.monotonic() < end
        time.sleep(0.1)
    assert found == [("early",)]
    # and one of that group with an earlier position, committed since
    late.commit()
    # when others may tick again, since it hangs
    conn.execute("select clock_stands(clock_timestamp() + '10 s')")
    conn.execute("select queue_send('q', '1')")
    conn.execute("set lock_timeout = '2 s'")
    found = conn.execute("select payload from queue_claim('q')").fetchall()
    # then they wait for nothing
    assert found == [(1,)]
    assert conn.execute("select sqlstate, message from incident").fetchall() == []
    # and when it is undone, nothing of the group is lost
    first.rollback()
    order = []
    for _ in range(10):
        conn.execute("select clock_moves('1 s')")
        for lease_id, payload in conn.execute("select lease_id, payload from queue_claim('q', 9)"):
            order.append(payload)
            conn.execute("select queue_ack(%s)", (lease_id,))
    assert order == ["late", "early"]
    for each in (conn, late, first):
        each.close()


def test_a_claim_of_one_finds_something_while_the_first_is_replaced(
    connect: Callable[..., Connection],
) -> None:
    """It locked the new version of the row, deleted where the old one stood, and found nothing."""
    conn = connect(autocommit=False)
    conn.execute("select queue_create('q')")
    conn.execute("select queue_send('q', '0', p_job_key => 'k')")
    conn.execute("select queue_send_many('q', array_fill('1'::jsonb, array[100]))")
    conn.commit()

    def replace(conn: Connection, _: random.Random) -> None:
        conn.execute("select queue_send('q', '0', p_job_key => 'k')")

    pool, senders = meanwhile(4, 2, replace, connect)
    claims = empty = 0
    while not all(sender.done() for sender in senders):
        empty += not conn.execute("select payload from queue_claim('q')").fetchall()
        claims += 1
        conn.rollback()
    pool.shutdown()
    for sender in senders:
        sender.result()
    assert claims > 100
    assert empty == 0
    conn.close()


def test_a_namesake_after_a_crash_hides_nobody(connect: Callable[..., Connection]) -> None:
    """After the crash of a backend virtual transactions are numbered from one again."""
    conn, late, namesake = connect(), connect(autocommit=False), connect(autocommit=False)
    names = [
        each.execute(
            "select virtualtransaction from pg_locks where pid = pg_backend_pid() limit 1"
        ).fetchone()
        for each in (late, namesake)
    ]
    conn.execute("select queue_create('q')")
    conn.execute("select queue_create('other')")
    # given a position below the hint, in a transaction that is still open
    late.execute("select queue_send('q', '\"late\"')")
    end = time.monotonic() + 20
    while True:
        conn.execute("select queue_send('q', '1')")
        drain(conn)
        row = conn.execute(
            "select f.hints[1] > f.floors[1] and cardinality(f.holders) = 1"
            " from floor f inner join channel c using (channel_id)"
            " where c.name = 'q' order by f.floor_id desc limit 1"
        ).fetchone()
        if row == (True,):
            break
        assert time.monotonic() < end
        time.sleep(0.1)
    # when it has ended, and another that holds a position got its name
    late.commit()
    namesake.execute("select queue_send('other', '1')")
    for table in ("tide", "floor"):
        conn.execute(
            f"update {table} set holders = array("
            "select replace(h.name, %s, %s) from unnest(holders) with ordinality h (name, nr)"
            " order by h.nr)",
            [name[0] for name in names if name],
        )
    # then what it left is found all the same
    found: list[Any] = []
    end = time.monotonic() + 10
    while "late" not in found and time.monotonic() < end:
        conn.execute("select queue_send('q', '1')")
        found += [payload for (payload,) in conn.execute("select payload from queue_claim('q', 9)")]
        time.sleep(0.1)
    assert "late" in found
    for each in (conn, late, namesake):
        each.close()
