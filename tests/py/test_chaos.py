"""Two sweepers and four relays at once, killed with -9 at random: every committed event arrives."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.herd import Herd

BATCH = 25
IN_QUEUE = """
    select (r.payload->>'n')::bigint
    from tidegate.ready r join tidegate.channel c using (channel_id)
    where c.kind = 'queue' and c.name = '{}'
"""


def _produce(database: str, events: int, seconds: float, committed: set[int], share: int) -> None:
    """Half of the events to each topic; some transactions, and some savepoints, are rolled back."""
    dice = random.Random(share)
    started = time.monotonic()
    with psycopg.connect(database) as conn:
        for first in range(0, events, BATCH):
            numbers = [share * 10_000_000 + first + n for n in range(BATCH)]
            for topic in ("routed", "relayed"):
                conn.execute(
                    "select tidegate.outbox_put_many(%s,"
                    " (select array_agg(jsonb_build_object('n', n)) from unnest(%s::bigint[]) n))",
                    (topic, numbers),
                )
            doubtful = [number + 1_000_000 for number in numbers[:2]]
            with contextlib.suppress(psycopg.Rollback), conn.transaction():
                conn.execute(
                    "select tidegate.outbox_put('relayed', jsonb_build_object('n', n))"
                    " from unnest(%s::bigint[]) n",
                    (doubtful,),
                )
                raise psycopg.Rollback
            if dice.random() < 0.1:
                conn.rollback()
            else:
                conn.commit()
                committed.update(numbers)
            time.sleep(max(0.0, started + first / events * seconds - time.monotonic()))


def _left(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute(
        "select sum(ready + scheduled + leased) from tidegate.backlog where kind = 'topic'"
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("events", "seconds"),
    [pytest.param(2_000, 6, id="small"), pytest.param(50_000, 60, marks=pytest.mark.heavy)],
)
def test_no_event_is_lost_or_invented_by_kills(
    database: str, tmp_path: Path, events: int, seconds: float
) -> None:
    conn = psycopg.connect(database, autocommit=True)
    conn.execute(
        """
        create table public.handled (n bigint);
        create function public.handle(p_payload jsonb) returns void language sql
        set search_path = public, pg_temp
        as 'insert into handled values ((p_payload->>''n'')::bigint)';
        select tidegate.topic_create('routed'),
            tidegate.topic_create('relayed', '{"doorbell": "5 ms"}');
        select tidegate.queue_create('a'), tidegate.queue_create('b');
        select tidegate.outbox_route('routed', 'a'), tidegate.outbox_route('routed', 'b');
        select tidegate.outbox_route('routed', p_handler => 'public.handle(jsonb)');
        """
    )
    # given two sweepers, four relays, and two producers
    herd = Herd(database, tmp_path)
    for _ in range(2):
        herd.start("sweep", "--follow", "--interval", "100ms")
    for _ in range(4):
        herd.start("relay", "relayed", "--to", "stdout", "--lease", "2s", "--limit", "100")
    committed: set[int] = set()
    producers = [
        threading.Thread(target=_produce, args=(database, events // 4, seconds, committed, share))
        for share in range(2)
    ]
    for producer in producers:
        producer.start()
    # when one of each is killed again and again
    kills = 0
    while any(producer.is_alive() for producer in producers):
        time.sleep(random.uniform(0.5, 2.0))
        herd.kill_one("sweep")
        herd.kill_one("relay")
        kills += 1
    end = time.monotonic() + 60
    while _left(conn) and time.monotonic() < end:
        time.sleep(0.2)
    herd.stop()
    # then what was committed was routed exactly once to each target
    assert _left(conn) == 0
    assert kills >= 2
    for query in (IN_QUEUE.format("a"), IN_QUEUE.format("b"), "select n from public.handled"):
        assert Counter(row[0] for row in conn.execute(query.encode())) == Counter(committed)
    # and relayed at least once, always under the same event_id
    seen: dict[int, set[str]] = {}
    for event in herd.printed():
        seen.setdefault(event["payload"]["n"], set()).add(event["event_id"])
    assert set(seen) == committed
    assert {len(ids) for ids in seen.values()} == {1}
    dead = conn.execute("select tidegate.dead_letter_count()").fetchone()
    assert dead == (0,)
    conn.close()
