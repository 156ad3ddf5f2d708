"""A sweep of one topic into one queue, beside the bare move of rows of the same shape."""

from __future__ import annotations

from collections.abc import Sequence

from bench.engine.meter import Connection, Cpu

_BARE = """
with moved as (
    delete from bench_source where ctid = any(array(
        select ctid from bench_source
        order by channel_id, priority, position limit %s for update skip locked
    )) returning *
)
insert into bench_target select * from moved
"""


class Sweep:
    """CPU in µs an event of moving `batch` events at a time."""

    def __init__(self, connection: Connection, schema: str, cpu: Cpu) -> None:
        self._connection = connection
        self._schema = schema
        self._cpu = cpu
        connection.execute(
            f"""
            select {schema}.topic_create('bench_routed'), {schema}.queue_create('bench_swept');
            select {schema}.outbox_route('bench_routed', 'bench_swept');
            create table bench_source (like {schema}.ready including all);
            create table bench_target (like {schema}.ready including all);
            """
        )

    def bare(self, payloads: Sequence[str], batch: int) -> float:
        self._connection.execute(
            """
            insert into bench_source (
                position, channel_id, attempts, priority, message_id, enqueued_at, payload
            )
            select n, 1, 0, 0, n, clock_timestamp(), p
            from unnest(%s::jsonb[]) with ordinality as u (p, n);
            """,
            [list(payloads)],
        )
        used = self._measure(_BARE, batch, len(payloads))
        self._connection.execute("truncate bench_source, bench_target")
        return used

    def tidegate(self, payloads: Sequence[str], batch: int) -> float:
        self._connection.execute(
            f"select count(*) from {self._schema}.outbox_put_many('bench_routed', %s::jsonb[])",
            [list(payloads)],
        )
        used = self._measure(
            f"select * from {self._schema}.outbox_sweep(%s, 'bench_routed')", batch, len(payloads)
        )
        self._connection.execute(f"truncate {self._schema}.ready")
        return used

    def _measure(self, statement: str, batch: int, count: int) -> float:
        start = self._cpu.read()
        for _ in range(count // batch):
            self._connection.execute(statement, [batch])
        return (self._cpu.read() - start) / 1000 / count
