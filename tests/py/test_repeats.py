"""Every call may be repeated after its connection was lost: one effect, and the answer promised.

The connection is ended by the server before the call, between the call and its commit, and after
the commit; whoever called knows in none of the three what became of it, and calls again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

pytestmark = pytest.mark.slow

WHEN = ("before execute", "before commit", "after commit")
LEASE = uuid.UUID("11111111-1111-4111-8111-111111111111")
CLAIM = "select message_id from tidegate.queue_claim('q', 10, p_lease_id => %(lease)s) order by 1"
SEND = "select outcome from tidegate.queue_send('q', '1', {})"
FAILED = """'[{"message_id": ' || (%(ids)s::bigint[])[2] || ', "error": "no"}]'"""
# The places after one effect, and what the repeat answers when the first attempt was committed.
SETTLEMENTS = {
    "ack": ("queue_ack(%(lease)s)", "", (3, 0, 0, False)),
    "ack of one": ("queue_ack(%(lease)s, (%(ids)s::bigint[])[1:1])", "lease=2", (1, 0, 0, False)),
    "nack": ("queue_nack(%(lease)s, p_error => 'no')", "scheduled=3", (0, 3, 0, False)),
    "final nack": ("queue_nack(%(lease)s, p_retryable => false)", "dead=3", (0, 0, 3, False)),
    "settle": (
        f"queue_settle(%(lease)s, (%(ids)s::bigint[])[1:1], ({FAILED})::jsonb)",
        "scheduled=1 lease=1",
        (1, 1, 0, False),
    ),
    "release": ("queue_release(%(lease)s)", "ready=3", (0, 3, 0, False)),
}


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("select tidegate.queue_create('q', '{\"backoff_base\": \"1 min\"}')")
        yield connection


def _lost(database: str, killer: psycopg.Connection[Any], when: str, call: str, **args: Any) -> Any:
    """The call, by somebody whose connection ends `when`; what it answered, if it came so far."""
    answer = None
    with psycopg.connect(database) as victim:
        if when != "before execute":
            answer = victim.execute(call.encode(), args).fetchall()
        if when == "after commit":
            victim.commit()
        killer.execute("select pg_terminate_backend(%s, 5000)", (victim.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError):
            victim.execute(call.encode() if when == "before execute" else b"commit", args)
        victim.close()
    return answer


def _places(conn: psycopg.Connection[Any]) -> str:
    row = conn.execute("select t.places('q')").fetchone()
    assert row
    return str(row[0])


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize(
    ("key", "repeated"),
    [("p_idempotency_key", "deduplicated"), ("p_job_key", "replaced")],
)
def test_a_send_with_a_key(
    database: str, conn: psycopg.Connection[Any], when: str, key: str, repeated: str
) -> None:
    call = SEND.format(f"{key} => 'k'")
    _lost(database, conn, when, call)
    expected = repeated if when == "after commit" else "inserted"
    assert conn.execute(call.encode()).fetchall() == [(expected,)]
    assert conn.execute("select payload from tidegate.ready").fetchall() == [(1,)]


@pytest.mark.parametrize("when", WHEN)
def test_a_follow_up(database: str, conn: psycopg.Connection[Any], when: str) -> None:
    """The repeat takes the place of itself."""
    call = SEND.format("p_job_key => 'k'")
    conn.execute(call.encode())
    conn.execute(CLAIM, {"lease": LEASE})
    _lost(database, conn, when, call)
    assert conn.execute(call.encode()).fetchall() == [("follow_up",)]
    conn.execute("select tidegate.queue_ack(%s)", (LEASE,))
    assert _places(conn) == "ready=1"


@pytest.mark.parametrize("when", WHEN)
def test_a_claim_by_lease_id(database: str, conn: psycopg.Connection[Any], when: str) -> None:
    conn.execute("select tidegate.queue_send('q', to_jsonb(n)) from generate_series(1, 20) n")
    first = _lost(database, conn, when, CLAIM, lease=LEASE)
    again = conn.execute(CLAIM, {"lease": LEASE}).fetchall()
    assert len(again) == 10
    if when == "after commit":
        assert again == first
    assert _places(conn) == "ready=10 lease=10"


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("what", SETTLEMENTS)
@pytest.mark.parametrize("kind", ["plain", "keyed"])
def test_a_settlement(
    database: str, conn: psycopg.Connection[Any], when: str, what: str, kind: str
) -> None:
    """After a commit that settled all of the lease it is lost; of a part, nothing more is found."""
    function, places, answer = SETTLEMENTS[what]
    keys = ", p_job_key => 'k' || n" if kind == "keyed" else ""
    conn.execute(
        f"select tidegate.queue_send('q', to_jsonb(n){keys}) from generate_series(1, 3) n".encode()
    )
    ids = [row[0] for row in conn.execute(CLAIM, {"lease": LEASE})]
    call = f"select * from tidegate.{function}"
    _lost(database, conn, when, call, lease=LEASE, ids=ids)
    again = conn.execute(call.encode(), {"lease": LEASE, "ids": ids}).fetchone()
    if when == "after commit":
        answer = (0, 0, 0, "lease" not in places)
    assert again == answer
    assert _places(conn) == places
    total = conn.execute("select sum(total) from tidegate.outcomes where outcome <> 'dispatched'")
    settled = 3 if "lease" not in places else 3 - int(places[-1])
    assert total.fetchone() == (settled,)


@pytest.mark.parametrize("when", WHEN)
def test_an_extension(database: str, conn: psycopg.Connection[Any], when: str) -> None:
    conn.execute("select tidegate.queue_send('q', '1')")
    conn.execute(CLAIM, {"lease": LEASE})
    call = "select lost, cancelled from tidegate.queue_extend(%(lease)s, '30 min')"
    _lost(database, conn, when, call, lease=LEASE)
    assert conn.execute(call.encode(), {"lease": LEASE}).fetchall() == [(False, [])]
    left = conn.execute(
        "select expires_at - now() between '29 min' and '30 min' from tidegate.lease"
    )
    assert left.fetchone() == (True,)


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("key", ["", ", p_job_key => 'k'"], ids=["plain", "keyed"])
def test_a_requeue(database: str, conn: psycopg.Connection[Any], when: str, key: str) -> None:
    conn.execute(f"select tidegate.queue_send('q', '1'{key})".encode())
    conn.execute(CLAIM, {"lease": LEASE})
    conn.execute("select tidegate.queue_nack(%s, p_retryable => false)", (LEASE,))
    call = """
        select r.outcome from tidegate.dead_letter d,
            tidegate.dead_letter_requeue(array[d.dead_letter_id]) r
    """
    first = _lost(database, conn, when, call)
    again = conn.execute(call.encode()).fetchall()
    if when == "after commit":
        assert again != first
        assert len(again) == 1
    else:
        assert again == [("requeued",)]
    assert _places(conn) == "ready=1"
    counted = conn.execute("select requeued_count, state from tidegate.dead_letter").fetchall()
    assert counted == [(1, "requeued")]
