"""Workers that fail and are killed, on many groups: the order of each is exact, none stays locked.

TIDEGATE_GROUP_MESSAGES says how many messages the ordinary run has; the heavy one has 20 000.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import psycopg
import pytest

WORKERS = 8
ATTEMPTS = 4
MESSAGES = int(os.environ.get("TIDEGATE_GROUP_MESSAGES", "1500"))


def _work(database: str, done: Any, seed: int) -> None:
    """Log the begin and the end of each message: a tenth fails, and of a hundredth for good."""
    dice = random.Random(seed)
    with psycopg.connect(database, autocommit=True) as conn:
        while not done.is_set():
            claimed = conn.execute(
                "select lease_id, message_id, (payload->>'n')::int, group_key, attempt"
                " from tidegate.queue_claim('q', %s)",
                (dice.choice((1, 5, 50)),),
            ).fetchall()
            if not claimed:
                time.sleep(0.03)
                continue
            for lease_id, message_id, number, group, attempt in claimed:
                step = (number, group, attempt)
                # Not on what has been taken away while it waited its turn. The lock on the lease
                # puts a delivery to somebody else after this begin.
                begun = conn.execute(
                    "insert into public.step select 'begin', %s, %s, %s from tidegate.lease"
                    " where lease_id = %s for key share",
                    (*step, lease_id),
                )
                if not begun.rowcount:
                    break
                chance = dice.random()
                with conn.transaction():
                    if chance < 0.11:
                        settled = conn.execute(
                            "select * from tidegate.queue_nack(%s, %s, 'no', %s)",
                            (lease_id, [message_id], chance < 0.10),
                        ).fetchone()
                    else:
                        settled = conn.execute(
                            "select * from tidegate.queue_ack(%s, %s)", (lease_id, [message_id])
                        ).fetchone()
                    assert settled
                    ended = "lost" if settled[3] else ("acked", "retried", "dead")[settled.index(1)]
                    # Within the settlement's transaction: until it commits nobody can have begun on
                    # the next one of the group.
                    conn.execute("insert into public.step values (%s, %s, %s, %s)", (ended, *step))


def _send(database: str, groups: int, messages: int) -> None:
    """In transactions of different lengths, one group in each, so that numbers of a group rise."""
    dice = random.Random(7)
    with psycopg.connect(database) as conn:
        number = 0
        while number < messages:
            for _ in range(dice.randint(1, 20)):
                if number < messages:
                    conn.execute(
                        "select tidegate.queue_send('q', %s::jsonb, p_group_key => %s)",
                        (f'{{"n": {number}}}', f"g{number % groups}"),
                    )
                    number += 1
            conn.commit()


@pytest.mark.parametrize(
    ("groups", "messages", "kills"),
    [
        pytest.param(40, MESSAGES, 2, id="small"),
        pytest.param(200, 20_000, 12, marks=pytest.mark.heavy, id="20000"),
    ],
)
def test_groups_keep_their_order_among_failing_and_killed_workers(
    database: str, groups: int, messages: int, kills: int
) -> None:
    conn = psycopg.connect(database, autocommit=True)
    conn.execute(
        """
        create unlogged table public.step (
            what text, n int, group_key text, attempt int, at timestamptz default clock_timestamp()
        );
        select tidegate.queue_create('q', '{"lease": "2 s", "max_attempts": 4,
            "backoff_base": "20 ms", "backoff_cap": "50 ms"}');
        """
    )
    # given eight workers and a producer
    processes = multiprocessing.get_context("spawn")
    done = processes.Event()

    def start(seed: int) -> Any:
        process = processes.Process(target=_work, args=(database, done, seed), daemon=True)
        process.start()
        return process

    workers = [start(seed) for seed in range(WORKERS)]
    producer = processes.Process(target=_send, args=(database, groups, messages), daemon=True)
    producer.start()
    # when some are killed, until nothing is left
    dice = random.Random(3)
    end = time.monotonic() + (60 if messages < 20_000 else 600)
    killed = 0
    while time.monotonic() < end:
        time.sleep(0.5)
        if killed < kills:
            victim = dice.randrange(WORKERS)
            os.kill(workers[victim].pid, signal.SIGKILL)
            workers[victim].join()
            killed += 1
            workers[victim] = start(100 + killed)
        elif not producer.is_alive() and _left(conn) == 0:
            break
    left = _left(conn)
    done.set()
    for worker in workers:
        worker.join(20)
    assert producer.exitcode == 0
    assert [worker.exitcode for worker in workers] == [0] * WORKERS

    # then no group stays locked
    assert left == 0
    assert conn.execute("select count(*) from tidegate.incident").fetchone() == (0,)
    # and every message has one end
    steps = conn.execute("select what, n, group_key, attempt, at from public.step").fetchall()
    ends = Counter(n for what, n, *_ in steps if what in ("acked", "dead"))
    dead = conn.execute("select (payload->>'n')::int from tidegate.dead_letter").fetchall()
    for (number,) in dead:
        ends.setdefault(number, 1)  # an expiry that was the last: no worker has seen it
    assert ends == Counter(range(messages))
    # and of each group one is worked on after the other, in order
    _check(steps)
    conn.close()


def _left(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute(
        """
        select (select count(*) from tidegate.ready) + (select count(*) from tidegate.blocked)
            + (select count(*) from tidegate.scheduled) + (select count(*) from tidegate.lease)
        """
    ).fetchone()
    assert row
    return int(row[0])


def _check(steps: list[tuple[Any, ...]]) -> None:
    """Deliveries of a group, by their begin: numbers never fall, and none begins within another.

    A lost one ended when its lease expired, whatever its worker believed; one without an end was
    its worker's last.
    """
    spans: dict[str, dict[tuple[int, int, Any], Any]] = defaultdict(dict)
    open_span: dict[tuple[int, int], Any] = {}
    for what, number, group, attempt, at in sorted(steps, key=lambda step: step[4]):
        if what == "begin":
            open_span[number, attempt] = at
            spans[group][number, attempt, at] = None
        elif what != "lost":
            began = open_span[number, attempt]
            assert spans[group][number, attempt, began] is None, (group, number, attempt)
            spans[group][number, attempt, began] = at
    for group, deliveries in spans.items():
        in_order = sorted(deliveries.items(), key=lambda delivery: delivery[0][2])
        for ((first, _, _), ended), ((second, _, began), _) in pairwise(in_order):
            assert first <= second, (group, first, second)
            assert ended is None or ended <= began, (group, first, second)
