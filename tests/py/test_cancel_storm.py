"""Fifty runs are cancelled among sends, sweeps, claims, settlements, arrivals and work of theirs
and others.

TIDEGATE_STORM_SECONDS says for how long, `make faults` for 60; each run is cancelled by four of
TIDEGATE_STORM_CANCELLERS sessions at about the same time (a server takes 100 connections).
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

SECONDS = float(os.environ.get("TIDEGATE_STORM_SECONDS", "20"))
CANCELLERS = int(os.environ.get("TIDEGATE_STORM_CANCELLERS", "70"))
RUNS = [f"cancelled-{n}" for n in range(50)]
OTHERS = [f"kept-{n}" for n in range(10)]

SETUP = """
select tidegate.queue_create('q', '{"lease": "2 s", "max_attempts": 0,
    "backoff_base": "20 ms", "backoff_cap": "50 ms"}');
select tidegate.queue_create('w', '{"max_attempts": 0}');
select tidegate.queue_create('members', '{"lease": "2 s", "max_attempts": 0}');
select tidegate.queue_create('callbacks', '{"max_attempts": 0}');
select tidegate.topic_create('t');
select tidegate.topic_create('h');
select tidegate.topic_create('relayed', '{"lease": "2 s", "max_attempts": 0}');
create unlogged table public.seen (n int, run_id text, at timestamptz default clock_timestamp());
create function public.see(p_message tidegate.message) returns void
language sql set search_path = public, pg_temp
as $$ insert into seen (n, run_id) values ((p_message.payload ->> 'n')::int, p_message.run_id) $$;
create unlogged table public.called (name text);
create function public.hear(p_payload jsonb) returns void
language sql set search_path = public, pg_temp
as $$ insert into called (name) values (p_payload ->> 'barrier') $$;
select tidegate.outbox_route('t', p_queue => 'q');
select tidegate.outbox_route('h', p_handler => 'public.see');
"""

SEND = """
select outcome from tidegate.queue_send(
    %(where)s, jsonb_build_object('n', %(n)s::int), p_run_id => %(run)s,
    p_run_at => now() + %(later)s::interval, p_group_key => %(group)s, p_job_key => %(key)s
)
"""
PUT = """
select outcome from tidegate.outbox_put(
    %(where)s, jsonb_build_object('n', %(n)s::int), p_run_id => %(run)s,
    p_run_at => now() + %(later)s::interval
)
"""
CLAIM = "select lease_id, message_id, (payload->>'n')::int, run_id from tidegate.{}"
PLACES = """
select place, channel_id, run_id, message_id
from (
    select 'ready' as place, channel_id, run_id, message_id from tidegate.ready
    union all select 'blocked', channel_id, run_id, message_id from tidegate.blocked
    union all select 'scheduled', channel_id, run_id, message_id from tidegate.scheduled
    union all select 'lease', channel_id, worker, message_count from tidegate.lease
    union all select 'job_key', channel_id, key, message_id from tidegate.job_key
) p
limit 20
"""


class Storm:
    """What happened, as all threads saw it. Lists are appended to by many at once."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.begun = time.monotonic()
        self.stopped = threading.Event()  # nothing is sent any more
        self.done = threading.Event()  # and nothing is left
        self.numbers = iter(range(10_000_000))
        self.sent: list[tuple[int, str | None, bool]] = []  # n, run, has a job key
        self.deliveries: list[tuple[int, str | None, float]] = []  # n, run, when it was asked for
        self.ended: list[int] = []
        self.cancels: list[tuple[str, float]] = []  # run, when its commit was known
        self.refused = 0
        self.barriers: dict[str, str | None] = {}  # its run
        self.arrivals: Counter[str] = Counter()
        self.errors: list[str] = []

    def thread(self, play: Callable[..., None], *args: Any) -> threading.Thread:
        """A thread with a connection of its own, whose errors are kept."""

        def run() -> None:
            try:
                with psycopg.connect(self.database, autocommit=True) as conn:
                    play(conn, *args)
            except Exception as error:
                self.errors.append(f"{play.__name__}: {error!r}")
                self.stopped.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def send(self, conn: psycopg.Connection[Any], seed: int) -> None:
        """One to eight in a transaction, with and without a run, a group, a key, a delay."""
        dice = random.Random(seed)
        while not self.stopped.is_set():
            sent = []
            with conn.transaction():
                for _ in range(dice.randint(1, 8)):
                    number = next(self.numbers)
                    run = dice.choice((None, dice.choice(OTHERS), *[dice.choice(RUNS)] * 3))
                    where = dice.choice(("q", "q", "q", "w", "t", "h", "relayed"))
                    group = dice.choice((None, f"g{dice.randrange(8)}"))
                    key = f"k{number % 20}" if where == "q" and dice.random() < 0.1 else None
                    arguments = {
                        "where": where,
                        "n": number,
                        "run": run,
                        "later": dice.choice((None, None, None, "30 ms")),
                        "group": None if key else group,
                        "key": key,
                    }
                    row = conn.execute(SEND if where in ("q", "w") else PUT, arguments).fetchone()
                    assert row
                    if row[0] == "cancelled":
                        self.refused += 1
                    else:
                        sent.append((number, run, key is not None))
            self.sent.extend(sent)
            time.sleep(dice.random() * 0.004)

    def claim(self, conn: psycopg.Connection[Any], seed: int, claim: str, settle: str) -> None:
        """Claim, and then ack, fail, give back, extend or forget."""
        dice = random.Random(seed)
        while not self.done.is_set():
            asked = time.monotonic()
            rows = conn.execute(
                CLAIM.format(claim).encode(), (dice.choice((1, 1, 5, 30)),)
            ).fetchall()
            if not rows:
                time.sleep(0.01)
                continue
            self.deliveries.extend((number, run, asked) for _, _, number, run in rows)
            lease = rows[0][0]
            chance = dice.random()
            if chance < 0.02 and not self.stopped.is_set():
                continue  # it expires
            if chance < 0.2 and claim.startswith("queue"):
                conn.execute("select tidegate.queue_extend(%s)", (lease,))
            cut = dice.randint(0, len(rows)) if chance < 0.5 else len(rows)
            done = [message for _, message, _, _ in rows[:cut]]
            with conn.transaction():
                if cut < len(rows):
                    rest = [message for _, message, _, _ in rows[cut:]]
                    back = dice.choice(("queue_nack", "queue_release"))
                    conn.execute(f"select tidegate.{back}(%s, %s)".encode(), (lease, rest))
                row = conn.execute(
                    f"select (s).lost, (s).acked from tidegate.{settle} s".encode(),
                    {"lease": lease, "done": done},
                ).fetchone()
            assert row
            if not row[0]:
                assert row[1] == len(done)
                self.ended.extend(number for _, _, number, _ in rows[:cut])

    def sweep(self, conn: psycopg.Connection[Any]) -> None:
        """Sweep, so that what is in topics comes into queues, and before the handler."""
        while not self.done.is_set():
            conn.execute("select tidegate.outbox_sweep(50)")
            time.sleep(0.005)

    def work(self, conn: psycopg.Connection[Any]) -> None:
        """Work within the database."""
        while not self.done.is_set():
            conn.execute("select tidegate.queue_work('w', 'public.see', 20)")
            conn.execute("select tidegate.queue_work('callbacks', 'public.hear', 20)")
            time.sleep(0.005)

    def fan_out(self, conn: psycopg.Connection[Any], seed: int) -> None:
        """Barriers of four members, of runs and of none; two arrive by their message."""
        dice = random.Random(seed)
        for n in itertools.count():
            if self.stopped.is_set():
                return
            run = dice.choice((None, dice.choice(OTHERS), *[dice.choice(RUNS)] * 2))
            name = f"{seed}-{n}"
            with conn.transaction():
                row = conn.execute(
                    "select epoch from tidegate.barrier_send(%s, 'members', %s::jsonb[],"
                    " 'callbacks', p_policy => 'collect', p_run_id => %s)",
                    (name, [f'{{"name": "{name}"}}'] * 4, run),
                ).fetchone()
            assert row
            if row[0] is None:
                assert run is not None
                continue  # it was stopped
            self.barriers[name] = run
            for member in (1, 2):
                told = conn.execute(
                    "select tidegate.barrier_arrive(%s, %s, %s)", (name, row[0], member)
                ).fetchone()
                assert told
                self.arrivals[told[0]] += 1
            time.sleep(dice.random() * 0.05)

    def arrive(self, conn: psycopg.Connection[Any], seed: int) -> None:
        """Acks of members, several barriers in one lease."""
        dice = random.Random(seed)
        while not self.done.is_set():
            leases = conn.execute(
                "select distinct lease_id from tidegate.queue_claim('members', %s)",
                (dice.choice((1, 4, 20)),),
            ).fetchall()
            for lease in leases:
                conn.execute("select tidegate.queue_ack(%s, p_result => '1')", lease)
            if not leases:
                time.sleep(0.01)

    def cancel(self, conn: psycopg.Connection[Any], mine: list[tuple[float, str]]) -> None:
        """Cancel runs, each at its time. A child goes with its parent."""
        for at, run in mine:
            time.sleep(max(0.0, self.begun + at - time.monotonic()))
            conn.execute("select tidegate.run_cancel(%s, 'storm')", (run,))
            self.cancels.append((run, time.monotonic()))


def left(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute(
        """
        select (select count(*) from tidegate.ready) + (select count(*) from tidegate.blocked)
            + (select count(*) from tidegate.scheduled) + (select count(*) from tidegate.lease)
            + (select count(*) from tidegate.job_key)
        """
    ).fetchone()
    assert row
    return int(row[0])


@pytest.mark.heavy
def test_nothing_of_a_cancelled_run_is_delivered_and_nothing_of_others_is_lost(
    database: str,
) -> None:
    conn = psycopg.connect(database, autocommit=True)
    conn.execute(SETUP)
    # given runs, every fifth the parent of those that follow it; not all are opened
    parents = {run: RUNS[n - n % 5] for n, run in enumerate(RUNS) if n % 5 and n % 3}
    for run in sorted({*parents.values(), *OTHERS}):
        conn.execute("select tidegate.run_open(%s)", (run,))
    for run, parent in parents.items():
        conn.execute("select tidegate.run_open(%s, %s)", (run, parent))
    storm = Storm(database)
    acks = "queue_settle(%(lease)s, %(done)s)"
    players = [storm.thread(storm.send, n) for n in range(3)]
    players += [storm.thread(storm.claim, 10 + n, "queue_claim('q', %s)", acks) for n in range(4)]
    players.append(
        storm.thread(
            storm.claim, 20, "outbox_claim('relayed', %s)", "outbox_settle(%(lease)s, %(done)s)"
        )
    )
    players += [storm.thread(storm.sweep), storm.thread(storm.sweep)]
    players += [storm.thread(storm.work), storm.thread(storm.work)]
    players += [storm.thread(storm.fan_out, 30 + n) for n in range(2)]
    players += [storm.thread(storm.arrive, 40 + n) for n in range(2)]
    # when each is cancelled, four times at about the same time
    plan = sorted(
        (SECONDS * (0.1 + 0.8 * n / len(RUNS)) + again * 0.002, run)
        for n, run in enumerate(RUNS)
        for again in range(4)
    )
    cancellers = [storm.thread(storm.cancel, plan[n::CANCELLERS]) for n in range(CANCELLERS)]
    storm.stopped.wait(SECONDS)
    storm.stopped.set()
    for thread in (*players[:3], *cancellers):
        thread.join(60)
    end = time.monotonic() + 150
    while left(conn) and not storm.errors and time.monotonic() < end:
        time.sleep(0.2)
    storm.done.set()
    for thread in players:
        thread.join(30)

    # then nobody met a deadlock, or any other error
    assert storm.errors == []
    incidents = conn.execute("select sqlstate, routine, message from tidegate.incident").fetchall()
    # (a tick that would have to wait for somebody's key puts that lease off by a minute)
    assert [incident for incident in incidents if incident[0] != "55P03"] == []
    # and nothing stays behind
    assert left(conn) == 0, conn.execute(PLACES).fetchall()
    # and a barrier fired with all its members, once, unless its run was cancelled before
    ended = conn.execute(
        "select name, state, arrived, failed, outstanding, run_id from tidegate.barrier_progress"
    ).fetchall()
    assert {row[0] for row in ended} == storm.barriers.keys()
    assert [row for row in ended if row[5] not in RUNS and row[1:5] != ("fired", 4, 0, 0)] == []
    assert {row[1] for row in ended} <= {"fired", "aborted", "open"}
    assert [row for row in ended if row[1] == "open" and row[5] not in RUNS] == []
    callbacks: Counter[str] = Counter(
        name for (name,) in conn.execute("select name from public.called").fetchall()
    )
    assert [row[0] for row in ended if row[5] not in RUNS and callbacks[row[0]] != 1] == []
    assert set(callbacks.values()) == {1}
    assert storm.arrivals["arrived"]
    # and whoever asked after a cancel had committed got nothing of that run
    cancelled: dict[str, float] = {}
    for run, at in storm.cancels:
        for stopped in (run, *(child for child, parent in parents.items() if parent == run)):
            cancelled[stopped] = min(at, cancelled.get(stopped, at))
    assert cancelled.keys() == set(RUNS)
    assert [
        (number, run, asked - cancelled[run])
        for number, run, asked in storm.deliveries
        if run in cancelled and asked > cancelled[run]
    ] == []
    late = """
        select count(*) from public.seen s inner join tidegate.run r using (run_id)
        where r.state = 'stopped' and s.at > r.finished_at + interval '2 seconds'
    """
    assert conn.execute(late).fetchone() == (0,)
    # and all that was sent has come to an end, that of others by being done
    done = Counter(storm.ended)
    done.update(n for (n,) in conn.execute("select n from public.seen").fetchall())
    dead: dict[int, str] = dict(
        conn.execute(
            "select (payload ->> 'n')::int, reason || ' ' || state from tidegate.dead_letter"
        ).fetchall()
    )
    assert set(dead.values()) <= {"cancelled discarded"}
    plain = {number: run for number, run, is_keyed in storm.sent if not is_keyed}
    print(
        f"{len(storm.sent)} sent, {storm.refused} refused, {len(dead)} cancelled,"
        f" {len(storm.deliveries)} delivered, {len(storm.cancels)} cancels,"
        f" {len(incidents)} put off"
    )
    assert [n for n, run in plain.items() if run not in cancelled and done[n] != 1] == []
    assert [n for n in plain if done[n] + (n in dead) != 1] == []
    assert not {run for n, run, _ in storm.sent if n in dead} - cancelled.keys()
    assert len(dead) > 10 and storm.refused > 10
    conn.close()
