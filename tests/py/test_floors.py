"""What was committed is exactly what is consumed, whatever producers do: the proof of the floors.

Six producers sleep inside their transactions, roll back (also to savepoints), repeat idempotency
keys and overlap; four consumers claim and settle; a read and a write transaction pin the horizon.
The same workload against a floor without its proof must be seen to strand messages, or this test
proves nothing. It runs on a topic, and on a queue whose messages have group keys: there a message
passes through `blocked`, which ticks look at by marks of their own.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import psycopg.sql
import pytest
from psycopg.conninfo import conninfo_to_dict

from pyshim import embedded
from tests import server as test_server

PRODUCERS, CONSUMERS = 6, 4
SEARCH_PATH = "-c search_path=tidegate"

# The whole safety check taken out: every position drawn so far is declared settled.
WITHOUT_THE_PROOF = """
alter function tidegate._tide_advance() rename to _tide_advance_proven;
create function tidegate._tide_advance() returns tidegate.tide language plpgsql
set search_path = tidegate, pg_temp as $$
declare
    v_tide tide := _tide_advance_proven();
begin
    update tide set safe_position = position where tide_id = v_tide.tide_id;
    v_tide.safe_position := v_tide.position;
    return v_tide;
end;
$$;
"""

# Live messages that no claim will ever look at again, and groups that nobody will. None, in any
# snapshot.
STRANDED = """
select (
    select count(*) from ready as r
    cross join lateral (
        select n.floors[r.priority + 1] as floor from floor as n
        where n.channel_id = r.channel_id order by n.floor_id desc limit 1
    ) as f
    where r.position <= f.floor
) + (
    select count(*) from (
        select b.channel_id, b.group_key, min(b.position) as position from blocked as b
        group by b.channel_id, b.group_key
    ) as w
    cross join lateral (
        select n.grouped_to from floor as n
        where n.channel_id = w.channel_id order by n.floor_id desc limit 1
    ) as f
    left join lateral (
        select t.message_id, t.position from group_turn as t
        where t.channel_id = w.channel_id and t.group_key = w.group_key
        order by t.turn desc limit 1
    ) as t on true
    where w.position <= f.grouped_to and (t.message_id is null or t.position >= w.position)
)
"""

# The statements of each kind: put with a priority or group and an idempotency key, and the rest.
STATEMENTS = {
    "topic": {
        "create": """select topic_create('stress', '{"lease": "1 hour"}')""",
        "put": "select (p).outcome from outbox_put('stress', to_jsonb(%(token)s::text),"
        " p_priority => %(priority)s, p_idempotency_key => %(key)s) as p",
        "claim": "select lease_id, message_id, payload from outbox_claim('stress', %s)",
        "release": "select outbox_release(%s)",
        "settle": "select (s).acked from outbox_settle(%s, %s) as s",
    },
    "groups": {
        "create": """select queue_create('stress', '{"lease": "1 hour"}')""",
        "put": "select (p).outcome from queue_send('stress', to_jsonb(%(token)s::text),"
        " p_priority => %(priority)s, p_idempotency_key => %(key)s,"
        " p_group_key => 'g' || abs(hashtext(%(token)s)) %% 50) as p",
        "claim": "select lease_id, message_id, payload from queue_claim('stress', %s)",
        "release": "select queue_release(%s)",
        "settle": "select (s).acked from queue_settle(%s, %s) as s",
    },
}


class Workload:
    """Producers and consumers of one channel; counts what was committed and what was consumed."""

    def __init__(self, conninfo: str, kind: str, seed: int) -> None:
        self.conninfo = conninfo
        self.statements = STATEMENTS[kind]
        self.seed = seed
        self.committed: Counter[str] = Counter()
        self.consumed: Counter[str] = Counter()
        self.stranded = 0
        self.errors: list[BaseException] = []
        self.rounds = 0
        self.stop_producing = threading.Event()
        self.stop_consuming = threading.Event()
        self.lock = threading.Lock()

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(self.conninfo, options=SEARCH_PATH, **options)

    # ------------------------------------------------------------------ producers

    def produce(self, number: int) -> None:
        rng = random.Random(f"{self.seed} producer {number}")
        deeds = [self.put, self.put, self.put, self.give_up, self.back_to_savepoint, self.repeat]
        with self.connect() as conn:
            round_ = 0
            while not self.stop_producing.is_set():
                round_ += 1
                name = f"{number}.{self.rounds}.{round_}"
                kept = rng.choice(deeds)(conn, name, rng)
                with self.lock:
                    self.committed.update(kept)

    def linger(self, rng: random.Random) -> None:
        """Sleep inside the transaction: mostly briefly, sometimes beyond the hint's second."""
        time.sleep(rng.choice([0, 0, 0.005, 0.02, 0.1, 0.3, rng.uniform(1, 2.5)]))

    def send(self, conn: psycopg.Connection[Any], name: str, rng: random.Random) -> list[str]:
        tokens = [f"{name}.{n}" for n in range(rng.choice([1, 1, 3, 20]))]
        priority = rng.choice([0, 0, 0, 5])
        for token in tokens:
            self.put_one(conn, token, priority)
        return tokens

    def put_one(
        self, conn: psycopg.Connection[Any], token: str, priority: int = 0, key: str | None = None
    ) -> str:
        answer = conn.execute(
            self.statements["put"].encode(), {"token": token, "priority": priority, "key": key}
        ).fetchone()
        assert answer
        return str(answer[0])

    def put(self, conn: psycopg.Connection[Any], name: str, rng: random.Random) -> list[str]:
        with conn.transaction():
            tokens = self.send(conn, f"{name}a", rng)
            self.linger(rng)
            tokens += self.send(conn, f"{name}b", rng)
        return tokens

    def give_up(self, conn: psycopg.Connection[Any], name: str, rng: random.Random) -> list[str]:
        with conn.transaction(force_rollback=True):
            self.send(conn, name, rng)
            self.linger(rng)
        return []

    def back_to_savepoint(
        self, conn: psycopg.Connection[Any], name: str, rng: random.Random
    ) -> list[str]:
        with conn.transaction():
            tokens = self.send(conn, f"{name}a", rng)
            with conn.transaction(force_rollback=True):
                self.send(conn, f"{name}b", rng)
                self.linger(rng)
            self.linger(rng)
            if rng.random() < 0.5:
                tokens += self.send(conn, f"{name}c", rng)
        return tokens

    def repeat(self, conn: psycopg.Connection[Any], name: str, rng: random.Random) -> list[str]:
        with conn.transaction():
            outcome = self.put_one(conn, name, key=f"key {rng.randrange(200)}")
            self.linger(rng)
        return [name] if outcome == "inserted" else []

    # ------------------------------------------------------------------ consumers

    def consume(self, number: int) -> None:
        rng = random.Random(f"{self.seed} consumer {number}")
        # Drivers speak either protocol.
        cursor = psycopg.ClientCursor if number % 2 else psycopg.Cursor
        with self.connect(autocommit=True, cursor_factory=cursor) as conn:
            while not self.stop_consuming.is_set():
                if not self.claim_once(conn, rng):
                    time.sleep(0.02)

    def claim_once(self, conn: psycopg.Connection[Any], rng: random.Random) -> int:
        claimed = conn.execute(
            self.statements["claim"].encode(), (rng.choice([1, 5, 100]),)
        ).fetchall()
        if not claimed:
            return 0
        lease_id = claimed[0][0]
        if rng.random() < 0.1:
            conn.execute(self.statements["release"].encode(), (lease_id,))
            return len(claimed)
        settled = conn.execute(
            self.statements["settle"].encode(),
            (lease_id, [message_id for _, message_id, _ in claimed]),
        ).fetchone()
        assert settled == (len(claimed),)
        with self.lock:
            self.consumed.update(payload for _, _, payload in claimed)
        return len(claimed)

    def watch(self) -> None:
        """Look, all the time, for live messages below their floor."""
        with self.connect(autocommit=True) as conn:
            while not self.stop_consuming.is_set():
                self.stranded = max(self.stranded, self.count_stranded(conn))
                time.sleep(0.1)

    def count_stranded(self, conn: psycopg.Connection[Any]) -> int:
        row = conn.execute(STRANDED).fetchone()
        assert row
        return int(row[0])

    # ------------------------------------------------------------------ the run

    def guarded(self, work: Callable[..., None], *arguments: Any) -> Callable[[], None]:
        def run() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                self.errors.append(error)
                self.stop_producing.set()

        return run

    def run(self, seconds: float, midway: Callable[[], None] = lambda: None) -> None:
        """Produce for `seconds` (calling `midway` in the middle), then drain."""
        self.rounds += 1
        self.stop_producing.clear()
        self.stop_consuming.clear()
        producing = [
            threading.Thread(target=self.guarded(self.produce, n)) for n in range(PRODUCERS)
        ]
        consuming = [
            threading.Thread(target=self.guarded(self.consume, n)) for n in range(CONSUMERS)
        ]
        consuming.append(threading.Thread(target=self.guarded(self.watch)))
        with self.pinned_horizon():
            for thread in producing + consuming:
                thread.start()
            self.stop_producing.wait(seconds / 2)
            midway()
            self.stop_producing.wait(seconds / 2)
            self.stop_producing.set()
            for thread in producing:
                thread.join()
            self.wait_for_the_last()
            self.stop_consuming.set()
            for thread in consuming:
                thread.join()
        if self.errors:
            raise self.errors[0]

    def wait_for_the_last(self) -> None:
        """Until all that was committed was consumed, or nothing has come for two seconds."""
        seen, since = -1, time.monotonic()
        while self.committed != self.consumed and time.monotonic() - since < 2:
            if len(self.consumed) != seen:
                seen, since = len(self.consumed), time.monotonic()
            time.sleep(0.05)

    @contextlib.contextmanager
    def pinned_horizon(self) -> Iterator[None]:
        """An idle snapshot and an idle writer, both older than everything that follows."""
        with self.connect() as reader, self.connect() as writer:
            reader.execute("set transaction isolation level repeatable read")
            reader.execute("select count(*) from ready")
            writer.execute("create table if not exists public.busy (n integer)")
            writer.commit()
            writer.execute("insert into public.busy values (1)")
            yield
            reader.rollback()
            writer.rollback()

    def check(self) -> None:
        """What was committed is what was consumed, once each; nothing stands below a floor."""
        assert self.committed - self.consumed == Counter(), f"lost; seed {self.seed}"
        assert self.consumed - self.committed == Counter(), f"from nowhere; seed {self.seed}"
        assert self.stranded == 0, f"{self.stranded} below their floor; seed {self.seed}"
        with self.connect() as conn:
            floor = conn.execute("select max(floors[1]) from floor").fetchone()
        assert floor and floor[0] > len(self.consumed) / 2, (
            "floors did not rise: nothing was tested"
        )
        assert len(self.consumed) > 100


@pytest.fixture(params=STATEMENTS)
def workload(database: str, request: pytest.FixtureRequest) -> Workload:
    return make_workload(database, request.param)


def make_workload(conninfo: str, kind: str) -> Workload:
    with psycopg.connect(conninfo, options=SEARCH_PATH) as conn:
        # Leases outlive the test, so that what is consumed twice was claimed twice.
        conn.execute(STATEMENTS[kind]["create"].encode())
    return Workload(conninfo, kind, random.randrange(1 << 30))


def take_the_proof_out(conninfo: str) -> None:
    with psycopg.connect(conninfo) as conn:
        conn.execute(WITHOUT_THE_PROOF.encode())


def test_what_is_committed_is_what_is_consumed(workload: Workload) -> None:
    workload.run(6)
    workload.check()


def test_without_the_proof_messages_are_stranded(workload: Workload) -> None:
    take_the_proof_out(workload.conninfo)
    workload.run(4)
    assert workload.stranded > 0
    assert workload.committed - workload.consumed != Counter()


@pytest.mark.heavy
@pytest.mark.parametrize("kind", STATEMENTS)
def test_a_transaction_prepared_across_a_restart_is_not_passed(kind: str) -> None:
    """The long run: over a minute, with 2PC and a restart of the server in the middle."""
    settings = {**test_server.EMBEDDED_SETTINGS, "max_prepared_transactions": "10"}
    with embedded.running(settings=settings, fsync=True) as own:
        conninfo = own.url_of("postgres")
        test_server.install(**conninfo_to_dict(conninfo))
        workload = make_workload(conninfo, kind)
        workload.run(20)

        prepare(workload, "across a restart")
        own.restart()
        # Its transaction has no backend any more, and another virtual transaction than before.
        workload.run(20, midway=lambda: commit_prepared(workload, "across a restart"))
        prepare(workload, "across a crash")
        own.restart("immediate")
        workload.run(20, midway=lambda: commit_prepared(workload, "across a crash"))
        workload.run(20)
        workload.check()


def prepare(workload: Workload, name: str) -> None:
    with workload.connect(autocommit=True) as conn:
        conn.execute("begin")
        for n in range(50):
            workload.put_one(conn, f"{name} {n}")
        conn.execute(psycopg.sql.SQL("prepare transaction {}").format(name))


def commit_prepared(workload: Workload, name: str) -> None:
    with workload.connect(autocommit=True) as conn:
        conn.execute(psycopg.sql.SQL("commit prepared {}").format(name))
    with workload.lock:
        workload.committed.update(f"{name} {n}" for n in range(50))
