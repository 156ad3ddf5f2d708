"""The contenders: the same work, once in bare SQL and once through Tidegate's functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from bench.engine.meter import Connection
from bench.engine.place import SCHEMA

# As the places of Tidegate have them.
_STORAGE = """(
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
)"""
PLACES = tuple(
    f"{SCHEMA}.{table}"
    for table in ("ready", "lease", "scheduled", "body", "tally", "tide", "floor")
)


class Contender(Protocol):
    """One way to move messages. Each method is one statement and one transaction."""

    name: str
    tables: Sequence[str]

    def put(self, payloads: Sequence[str]) -> None: ...

    def claim(self, limit: int) -> tuple[int, Any]:
        """How many messages came, and what `settle` must know of them."""

    def settle(self, claimed: Any) -> None: ...


class Bare:
    """A table, INSERT, and DELETE … SKIP LOCKED … RETURNING: no lease, nothing to settle."""

    name = "bare"
    tables: Sequence[str] = ("bench_bare",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        connection.execute(
            f"""
            create table if not exists bench_bare (
                id bigint generated always as identity primary key,
                payload jsonb not null
            ) with {_STORAGE}
            """
        )

    def put(self, payloads: Sequence[str]) -> None:
        if len(payloads) == 1:
            statement = "insert into bench_bare (payload) values (%s::jsonb)"
            self._connection.execute(statement, [payloads[0]])
        else:
            statement = "insert into bench_bare (payload) select unnest(%s::jsonb[])"
            self._connection.execute(statement, [list(payloads)])

    def claim(self, limit: int) -> tuple[int, Any]:
        # A literal limit, so that the statement is planned once.
        cursor = self._connection.execute(
            f"""
            delete from bench_bare where ctid = any(array(
                select ctid from bench_bare order by id limit {int(limit)} for update skip locked
            )) returning id, payload
            """
        )
        return cursor.rowcount, None

    def settle(self, claimed: Any) -> None:
        """There is no lease: what was deleted is done."""


class Queue:
    """queue_send, queue_claim, queue_ack."""

    name = "queue"
    tables: Sequence[str] = PLACES

    def __init__(self, connection: Connection, queue: str = "bench", policy: str = "{}") -> None:
        self._connection = connection
        self._queue = queue
        connection.execute(f"select {SCHEMA}.queue_create(%s, %s)", [queue, policy])

    def put(self, payloads: Sequence[str]) -> None:
        # A producer that does not need the ids does not have them sent, as with a bare INSERT.
        if len(payloads) == 1:
            statement = f"select from {SCHEMA}.queue_send(%s, %s::jsonb)"
            self._connection.execute(statement, [self._queue, payloads[0]])
        else:
            statement = f"select count(*) from {SCHEMA}.queue_send_many(%s, %s::jsonb[])"
            self._connection.execute(statement, [self._queue, list(payloads)])

    def claim(self, limit: int) -> tuple[int, Any]:
        rows = self._connection.execute(
            f"""
            select lease_id, message_id, attempt, payload
            from {SCHEMA}.queue_claim(%s, {int(limit)})
            """,
            [self._queue],
        ).fetchall()
        return len(rows), rows[0][0] if rows else None

    def settle(self, claimed: Any) -> None:
        self._connection.execute(f"select * from {SCHEMA}.queue_ack(%s)", [claimed])


class Outbox:
    """outbox_put, outbox_claim, and outbox_settle with the ids of what was published."""

    name = "outbox"
    tables: Sequence[str] = PLACES

    def __init__(self, connection: Connection, topic: str = "bench", policy: str = "{}") -> None:
        self._connection = connection
        self._topic = topic
        connection.execute(f"select {SCHEMA}.topic_create(%s, %s)", [topic, policy])

    def put(self, payloads: Sequence[str]) -> None:
        if len(payloads) == 1:
            statement = f"select from {SCHEMA}.outbox_put(%s, %s::jsonb)"
            self._connection.execute(statement, [self._topic, payloads[0]])
        else:
            statement = f"select count(*) from {SCHEMA}.outbox_put_many(%s, %s::jsonb[])"
            self._connection.execute(statement, [self._topic, list(payloads)])

    def claim(self, limit: int) -> tuple[int, Any]:
        rows = self._connection.execute(
            f"""
            select lease_id, message_id, event_id, payload
            from {SCHEMA}.outbox_claim(%s, {int(limit)})
            """,
            [self._topic],
        ).fetchall()
        return len(rows), (rows[0][0], [row[1] for row in rows]) if rows else None

    def settle(self, claimed: Any) -> None:
        statement = f"select * from {SCHEMA}.outbox_settle(%s, %s::bigint[])"
        self._connection.execute(statement, list(claimed))
