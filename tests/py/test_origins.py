"""docs/origins.md is true; and the races of row s that have no other home, by their names."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pyshim import Client

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "origins.md").read_text(encoding="utf-8")
client = Client("tidegate")


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`((?:tests/)[\w./]+?)(?:::(\w+))?`", PAGE)
    assert len(named) > 30
    for path, function in named:
        assert (ROOT / path).is_file(), path
        if function:
            assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8"), function


def test_every_row_of_the_requirements_is_there() -> None:
    assert re.findall(r"^## (\w)", PAGE, re.MULTILINE) == ["h", "g", "r", "s", "b"]


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        connection.execute(
            "select queue_create('work', '{\"max_attempts\": 1}'), queue_create('q'), run_open('r')"
        )
        yield connection


def scalar(conn: psycopg.Connection[Any], query: str) -> Any:
    row = conn.execute(query.encode()).fetchone()
    assert row
    return row[0]


# Positional identity: which run, and whose member, a message is stands in columns, so that a
# payload of any shape carries it to its end.
SHAPES = {
    "no arguments at all": "null",
    "arguments in another order": '["r2", {"run_id": "r3", "member": 9}, "x"]',
    "arguments that look like an identity": '{"run_id": "other", "barrier": "c", "epoch": 1}',
}


@pytest.mark.parametrize("payload", SHAPES.values(), ids=SHAPES)
def test_positional_identity_survives_every_shape_of_payload(
    conn: psycopg.Connection[Any], payload: str
) -> None:
    conn.execute("select queue_send('work', %s, p_run_id => 'r', p_tenant => 't')", (payload,))
    conn.execute("select queue_nack(lease_id) from queue_claim('work')")
    seen = conn.execute("select run_id, tenant, payload::text from dead_letter").fetchall()
    assert [row[:2] for row in seen] == [("r", "t")]


@pytest.mark.parametrize("payload", SHAPES.values(), ids=SHAPES)
def test_poison_finalises_its_member_and_its_run_end_to_end(
    conn: psycopg.Connection[Any], payload: str
) -> None:
    conn.execute("select run_open('fragile', p_fail_on_dead_letter => true)")
    conn.execute(
        "select barrier_send('b', 'work', array[%s]::jsonb[], 'q', p_run_id => 'fragile')",
        (payload,),
    )
    # its worker dies of it, once too often
    conn.execute("select queue_claim('work', 1, '1 ms')")
    end = time.monotonic() + 10
    while scalar(conn, "select state from barrier_status('b')") == "open":
        assert time.monotonic() < end
        time.sleep(0.05)
        conn.execute("select queue_claim('work')")
    assert scalar(conn, "select state from barrier_status('b')") == "aborted"
    assert scalar(conn, "select failed from run_sweep()") == 1
    assert scalar(conn, "select state from run_status('fragile')") == "error"
    assert scalar(conn, "select state from run_status('r')") == "open"


def test_a_finished_run_skips_its_work_and_keeps_the_claim(conn: psycopg.Connection[Any]) -> None:
    """Terminal entry: nothing is done for a run that has ended, and the claim stays, so that a
    redelivery is skipped too."""
    client.run_finish(conn, "r", "completed")
    for owner in ("first", "redelivered"):
        assert client.guard_claim(conn, "step", "7", owner, run_id="r").outcome == "terminal"
    assert client.guard_release(conn, "step", "7", "first") in ("done", "lost")
    assert client.guard_claim(conn, "step", "7", "third", run_id="r").outcome == "terminal"


@pytest.mark.parametrize("ended", ["completed", "error", "stopped", None])
def test_a_callback_is_suppressed_by_its_completion_only(
    conn: psycopg.Connection[Any], ended: str | None
) -> None:
    """COMPLETED, ERROR, STOPPED, or no word of the run at all (it lives elsewhere): the callback's
    guard is its own, claimed without the run."""
    if ended:
        client.run_finish(conn, "r", ended)
    assert client.guard_claim(conn, "callback", "e1", "first").outcome == "won"
    assert client.guard_claim(conn, "callback", "e1", "second").outcome == "held"
    assert client.guard_release(conn, "callback", "e1", "first") == "released"
    # it failed: the marker is popped, and the next one runs
    assert client.guard_claim(conn, "callback", "e1", "second").outcome == "won"
    assert client.guard_finish(conn, "callback", "e1", "second") == "done"
    assert client.guard_claim(conn, "callback", "e1", "third").outcome == "done"


@pytest.mark.parametrize("is_member", [True, False])
def test_a_marker_is_there_exactly_where_there_is_a_barrier(
    conn: psycopg.Connection[Any], is_member: bool
) -> None:
    if is_member:
        client.barrier_send(conn, "b", "work", [1], callback_queue="q")
    else:
        client.send(conn, "work", 1)
    row = conn.execute("select barrier, member, lease_id from queue_claim('work')").fetchone()
    assert row and row[:2] == (("b", 1) if is_member else (None, None))
    conn.execute("select queue_ack(%s)", (row[2],))
    assert scalar(conn, "select count(*) from queue_peek('q')") == int(is_member)


def test_exactly_one_of_many_at_once_fires(conn: psycopg.Connection[Any], database: str) -> None:
    epoch = client.barrier_open(conn, "b", 8, callback_queue="q").epoch
    line, told = threading.Barrier(16), []

    def arrive(member: int) -> None:
        with psycopg.connect(database) as mine:
            line.wait()
            told.append(client.barrier_arrive(mine, "b", epoch, member))

    threads = [threading.Thread(target=arrive, args=(n % 8 + 1,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(told) == {"arrived": 7, "fired": 1, "duplicate": 8}
    assert scalar(conn, "select count(*) from queue_peek('q')") == 1


def test_ten_at_once_enqueue_fifty_each(conn: psycopg.Connection[Any], database: str) -> None:
    """All succeed; with keys, one row of each is left."""
    line, told = threading.Barrier(10), []

    def send(number: int) -> None:
        with psycopg.connect(database, autocommit=True) as mine:
            line.wait()
            for n in range(50):
                told.append(client.send(mine, "work", [number, n]).outcome)
                told.append(client.send(mine, "q", [number, n], job_key=f"k{n}").outcome)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(told) == {"inserted": 550, "replaced": 450}
    depths = conn.execute("select name, ready from backlog order by name").fetchall()
    assert depths == [("q", 50), ("work", 500)]


def test_a_success_after_failures_leaves_no_dead_letter(conn: psycopg.Connection[Any]) -> None:
    client.send(conn, "q", 1, max_attempts=3)
    for _ in range(2):
        conn.execute("select queue_nack(lease_id, p_retry_in => '0') from queue_claim('q')")
    row = conn.execute("select attempt, lease_id from queue_claim('q')").fetchone()
    assert row and row[0] == 3
    conn.execute("select queue_ack(%s)", (row[1],))
    assert scalar(conn, "select count(*) from dead_letter") == 0
    assert scalar(conn, "select ready + scheduled + leased from backlog where name = 'q'") == 0
