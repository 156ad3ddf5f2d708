"""Claims while an old snapshot keeps vacuum from removing anything: cost early and late."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.engine.meter import Connection, Cpu

_BATCH = 100


@contextmanager
def reader(connect: Callable[[], Connection], schema: str) -> Iterator[None]:
    """An idle snapshot."""
    with connect() as other:
        other.execute("begin isolation level repeatable read")
        other.execute("select count(*) from pg_class")
        yield


@contextmanager
def producer(connect: Callable[[], Connection], schema: str) -> Iterator[None]:
    """The same, and a producer of the same queue that stays open after one message."""
    with reader(connect, schema), connect() as other:
        other.execute("begin")
        other.execute(f"select {schema}.queue_send('pinned', '0')")
        yield


@contextmanager
def due(connect: Callable[[], Connection], schema: str) -> Iterator[None]:
    """The same snapshot, and one due message that somebody has locked."""
    with reader(connect, schema), connect() as other:
        other.execute(
            f"select {schema}.queue_send('pinned', '0', p_run_at => now() + interval '10 ms')"
        )
        other.execute("begin")
        other.execute(f"select from {schema}.scheduled for update")
        yield


@contextmanager
def expired(connect: Callable[[], Connection], schema: str) -> Iterator[None]:
    """The same snapshot, and one expired lease that somebody has locked."""
    with reader(connect, schema), connect() as other:
        other.execute(f"select {schema}.queue_send('pinned', '0')")
        other.execute(f"select from {schema}.queue_claim('pinned', 1, p_lease => '10 ms')")
        other.execute("begin")
        other.execute(f"select from {schema}.lease for update")
        yield


VARIANTS = (reader, producer, due, expired)


def measure(
    connection: Connection, schema: str, cpu: Cpu, payloads: list[str], messages: int
) -> tuple[float, float]:
    """CPU in µs of a claim of 100, its ticks included: of those up to 10 000 messages, and of
    the last 10 000."""
    put = f"select count(*) from {schema}.queue_send_many('pinned', %s::jsonb[])"
    claim = f"select lease_id, message_id, payload from {schema}.queue_claim('pinned', {_BATCH})"
    connection.execute("set synchronous_commit = off")  # CPU is asked for, and a million is many
    used: list[float] = []
    for start in range(0, messages, 1000):
        connection.execute(put, [[payloads[(start + n) % len(payloads)] for n in range(1000)]])
        for _ in range(1000 // _BATCH):
            before = cpu.read()
            rows = connection.execute(claim).fetchall()
            used.append((cpu.read() - before) / 1000)
            connection.execute(f"select {schema}.queue_ack(%s)", [rows[0][0]])
    connection.execute("set synchronous_commit = on")
    window = 10_000 // _BATCH
    return statistics.mean(used[:window]), statistics.mean(used[-window:])
