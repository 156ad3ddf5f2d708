"""The cost of a claim while something keeps vacuum, or a floor, from moving."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from bench.engine.contenders import PLACES, Queue
from bench.engine.meter import Connection
from bench.engine.place import SCHEMA, Place

BATCH = 100
WINDOWS = 100  # measured stretches of a run; the first tenth of them is the beginning


@dataclass
class Result:
    """One obstacle. CPU of a claim in µs, its ticks included, over the messages consumed so far."""

    obstacle: str
    messages: int
    consumed: list[int] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    buffers: list[int] = field(default_factory=list)

    @property
    def early(self) -> float:
        """After a hundredth of all messages: 10 000 of 1 000 000."""
        return statistics.fmean(self.cpu[1:3])

    @property
    def late(self) -> float:
        return statistics.fmean(self.cpu[-2:])

    @property
    def ratio(self) -> float:
        return self.late / self.early if self.early else 0.0


def run(place: Place, payloads: Sequence[str], messages: int) -> Iterator[Result]:
    """One result an obstacle, each on a queue of its own."""
    for name, obstacle in OBSTACLES.items():
        queue = f"pinned_{uuid4().hex[:8]}"
        with obstacle(place, queue):
            yield _consume(place, name, queue, payloads, messages)
        place.rest(*PLACES)


def _consume(
    place: Place, obstacle: str, name: str, payloads: Sequence[str], messages: int
) -> Result:
    """Put, claim and settle a hundred at a time, `messages` in all."""
    queue = Queue(place.connection, name)
    result = Result(obstacle, messages)
    claims = max(1, messages // BATCH // WINDOWS)
    batch = payloads[:BATCH]
    for window in range(WINDOWS):
        used = 0
        for _ in range(claims):
            queue.put(batch)
            start = place.cpu.read()
            count, lease = queue.claim(BATCH)
            used += place.cpu.read() - start
            if count:
                queue.settle(lease)
        result.consumed.append((window + 1) * claims * BATCH)
        result.cpu.append(used / 1000 / claims)
        result.buffers.append(_buffers(place, queue, name, batch))
    return result


def _buffers(place: Place, queue: Queue, name: str, batch: Sequence[str]) -> int:
    """Buffers that one claim of a hundred touches."""
    queue.put(batch)
    lease_id = uuid4()
    row = place.connection.execute(
        "explain (analyze, buffers, format json) select * from "
        f"{SCHEMA}.queue_claim(%s, {BATCH}, p_lease_id => %s)",
        [name, lease_id],
    ).fetchone()
    assert row
    queue.settle(lease_id)
    plan = (row[0] if isinstance(row[0], list) else json.loads(row[0]))[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


# What stands in the way, from before the queue's first message to its last.


@contextlib.contextmanager
def _snapshot(place: Place, queue: str) -> Iterator[None]:
    """An idle transaction holds an old snapshot."""
    with place.connect() as idle:
        idle.execute("begin isolation level repeatable read")
        idle.execute("select count(*) from pg_class")
        yield
        idle.execute("rollback")


@contextlib.contextmanager
def _producer(place: Place, queue: str) -> Iterator[None]:
    """A producer of the queue has put one message, and does not end."""
    with place.connect() as producer:
        Queue(producer, queue)
        producer.execute("begin")
        producer.execute(f"select from {SCHEMA}.queue_send(%s, '{{}}')", [queue])
        yield
        producer.execute("rollback")


@contextlib.contextmanager
def _due(place: Place, queue: str) -> Iterator[None]:
    """A message is due, and somebody has locked it."""
    with place.connect() as locker:
        Queue(locker, queue)
        locker.execute(
            f"select from {SCHEMA}.queue_send(%s, '{{}}', p_run_at => now() + interval '50 ms')",
            [queue],
        )
        with _locked(locker, "scheduled"):
            yield


@contextlib.contextmanager
def _expired(place: Place, queue: str) -> Iterator[None]:
    """A lease has expired, and somebody has locked it."""
    with place.connect() as locker:
        Queue(locker, queue).put(["{}"])
        locker.execute(f"select from {SCHEMA}.queue_claim(%s, 1, interval '50 ms')", [queue])
        with _locked(locker, "lease"):
            yield


@contextlib.contextmanager
def _locked(connection: Connection, table: str) -> Iterator[None]:
    connection.execute("begin")
    row = connection.execute(f"select 1 from {SCHEMA}.{table} for update").fetchone()
    if row is None:
        raise RuntimeError(f"nothing to lock in {table}")
    time.sleep(0.1)
    yield
    connection.execute("rollback")


OBSTACLES: dict[str, Callable[[Place, str], contextlib.AbstractContextManager[None]]] = {
    "an idle snapshot": _snapshot,
    "an open producer": _producer,
    "a locked due message": _due,
    "a locked expired lease": _expired,
}
