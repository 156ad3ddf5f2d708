"""A thousand members over eight workers that are killed, terminated and cut off: one callback.

ROUNDS says how often. A round ends when the barrier has fired; then there is one callback with the
result of each member at its place, and of its deliveries one has its effect.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import socket
import threading
import time
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

ROUNDS = int(os.environ.get("ROUNDS", "2"))
WORKERS = 8
BLOWS = 60  # a round: a slow machine must get to start what was killed

STANDING = """
select b.arrived, b.outstanding, b.progress_at, clock_timestamp() as now, l.ready, l.scheduled,
    l.leased,
    (select count(*) from pg_stat_activity where application_name = 'member') as connected,
    (select count(*) from tidegate.lease where expires_at < clock_timestamp()) as expired
from tidegate.barrier_status('all') b, tidegate.backlog l
where l.name = 'work'
"""


def _cut(conn: psycopg.Connection[Any], after: float) -> None:
    """The network goes away under a connection, at any point of what it does."""
    time.sleep(after)
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(conn.fileno())) as line,
    ):
        line.shutdown(socket.SHUT_RDWR)


def _settle(conn: psycopg.Connection[Any], way: int, delivery: tuple[Any, ...]) -> None:
    """Three ways in which a member may arrive; whatever was cut off is simply called again. Whose
    lease is lost gives up what he did in the same transaction: somebody else has the member."""
    lease_id, message_id, barrier, epoch, member = delivery
    result = Jsonb({"member": member, "square": member * member})
    ack = "select tidegate.queue_ack(%s, %s, %s)"
    if way == 0:
        conn.execute(ack, (lease_id, [message_id], result))
    elif way == 1:
        with conn.transaction():
            conn.execute("insert into public.business values (%s, %s)", (epoch, member))
            lost = "select a.lost from tidegate.queue_ack(%s, %s, %s) a"
            if conn.execute(lost, (lease_id, [message_id], result)).fetchone() == (True,):
                raise psycopg.Rollback
    else:
        arrive = "select tidegate.barrier_arrive(%s, %s, %s, %s)"
        conn.execute(arrive, (barrier, epoch, member, result))
        conn.execute(ack, (lease_id, [message_id], None))


def _work(database: str, done: Any, seed: int) -> None:
    dice = random.Random(seed)
    while not done.is_set():
        with (
            contextlib.suppress(psycopg.OperationalError),
            psycopg.connect(database, autocommit=True, application_name="member") as conn,
        ):
            if dice.random() < 0.3:
                threading.Thread(
                    target=_cut, args=(conn, dice.uniform(0.05, 2)), daemon=True
                ).start()
            while not done.is_set():
                claimed = conn.execute(
                    "select lease_id, message_id, barrier, epoch, member"
                    " from tidegate.queue_claim('work', %s)",
                    (dice.choice((1, 3, 20)),),
                ).fetchall()
                if not claimed:
                    time.sleep(0.05)
                for delivery in claimed:
                    _settle(conn, dice.randrange(3), delivery)


def _handle(database: str, die: bool) -> int:
    """Deliveries of the callback taken; its effect is guarded by its event_id. `die`: no ack."""
    with psycopg.connect(database, autocommit=True) as conn:
        claimed = conn.execute(
            "select lease_id, event_id, payload"
            " from tidegate.queue_claim('callbacks', 10, '100 ms')"
        ).fetchall()
        for lease_id, event_id, payload in claimed:
            with conn.transaction():
                won = conn.execute(
                    "select outcome from tidegate.guard_claim('callback', %s, %s)",
                    (str(event_id), str(lease_id)),
                ).fetchone()
                if won == ("won",):
                    conn.execute("insert into public.effect values (%s)", (payload["epoch"],))
                    conn.execute(
                        "select tidegate.guard_finish('callback', %s, %s)",
                        (str(event_id), str(lease_id)),
                    )
            if not die:
                conn.execute("select tidegate.queue_ack(%s)", (lease_id,))
        return len(claimed)


@pytest.mark.parametrize(
    ("members", "rounds"),
    [
        pytest.param(200, 1, id="small"),
        pytest.param(1_000, ROUNDS, marks=pytest.mark.heavy, id="1000"),
    ],
)
def test_a_callback_comes_once_however_workers_die(
    database: str, members: int, rounds: int
) -> None:
    conn = psycopg.connect(database, autocommit=True)
    conn.execute(
        """
        create table public.business (epoch bigint, member int, primary key (epoch, member));
        create table public.effect (epoch bigint);
        select tidegate.queue_create('work', '{"lease": "1 s", "max_attempts": 0,
            "backoff_base": "20 ms", "backoff_cap": "50 ms"}');
        select tidegate.queue_create('callbacks', '{"max_attempts": 0, "backoff_base": "10 ms",
            "backoff_cap": "20 ms"}');
        """
    )
    processes = multiprocessing.get_context("spawn")
    done = processes.Event()
    started = 0

    def start() -> Any:
        nonlocal started
        started += 1
        process = processes.Process(target=_work, args=(database, done, started), daemon=True)
        process.start()
        return process

    workers = [start() for _ in range(WORKERS)]
    dice = random.Random(11)
    kills = terminated = 0
    for _ in range(rounds):
        # given a barrier of so many members, under the name of the one before
        opened = conn.execute(
            "select epoch from tidegate.barrier_send('all', 'work', %s::jsonb[], 'callbacks')",
            ([str(n) for n in range(1, members + 1)],),
        ).fetchone()
        assert opened
        epoch = opened[0]
        # when workers die while it fills
        end = time.monotonic() + 240
        blows = 0
        while (
            state := conn.execute("select state from tidegate.barrier_status('all')").fetchone()
        ) == ("open",):
            assert time.monotonic() < end, f"{conn.execute(STANDING).fetchone()}"
            time.sleep(dice.uniform(0.02, 0.3))
            blows += 1
            if blows > BLOWS:
                continue
            if dice.random() < 0.4:
                victim = dice.randrange(WORKERS)
                os.kill(workers[victim].pid, signal.SIGKILL)
                workers[victim].join()
                workers[victim] = start()
                kills += 1
            else:
                terminated += len(
                    conn.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity"
                        " where application_name = 'member' order by random() limit 1"
                    ).fetchall()
                )
        # then it has fired, with the result of each at its place
        assert state == ("fired",)
        sent = conn.execute(
            "select payload->'results' from tidegate.queue_peek('callbacks')"
            " where (payload->>'epoch')::bigint = %s",
            (epoch,),
        ).fetchall()
        assert len(sent) == 1
        assert sent[0][0] == [{"member": n, "square": n * n} for n in range(1, members + 1)]
        # and of its deliveries one has its effect
        for die in (True, True, False):
            end = time.monotonic() + 20
            while not _handle(database, die):
                assert time.monotonic() < end
                time.sleep(0.05)
        effects = conn.execute("select count(*) from public.effect where epoch = %s", (epoch,))
        assert effects.fetchone() == (1,)
    # and nothing is left: what killed workers held came back, found its member arrived, and ended
    end = time.monotonic() + 60
    left = "select sum(ready + scheduled + blocked + leased) from tidegate.backlog"
    while conn.execute(left).fetchone() != (0,):
        assert time.monotonic() < end, conn.execute("select * from tidegate.backlog").fetchall()
        time.sleep(0.1)
    done.set()
    for worker in workers:
        worker.join(20)
    assert [worker.exitcode for worker in workers] == [0] * WORKERS
    assert conn.execute("select count(*) from tidegate.dead_letter").fetchone() == (0,)
    assert conn.execute(
        "select count(*) from tidegate.barrier_slot where pending <> 0"
    ).fetchone() == (0,)
    assert kills + terminated > 0
    conn.close()
