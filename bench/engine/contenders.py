"""The contenders: the same work, once in bare SQL and once through Tidegate's functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from psycopg import sql

from bench.engine.meter import Connection

BARE = "bench_bare"
_STORAGE = """(
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
)"""


class Contender(Protocol):
    """One way to move messages. Each method is one statement and one transaction."""

    name: str

    def put(self, payloads: Sequence[str]) -> None: ...

    def claim(self, limit: int) -> tuple[int, Any]:
        """How many messages came, and what `settle` needs to know of them."""

    def settle(self, claimed: Any) -> None: ...


class Bare:
    """A table, INSERT, and DELETE … SKIP LOCKED … RETURNING: no lease, nothing to settle."""

    name = "bare"

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        connection.execute(f"drop table if exists {BARE}")
        connection.execute(
            f"""
            create table {BARE} (
                id bigint generated always as identity primary key,
                payload jsonb not null
            ) with {_STORAGE}
            """
        )

    def put(self, payloads: Sequence[str]) -> None:
        if len(payloads) == 1:
            self._connection.execute(
                f"insert into {BARE} (payload) values (%s::jsonb)", [payloads[0]]
            )
        else:
            self._connection.execute(
                f"insert into {BARE} (payload) select p from unnest(%s::jsonb[]) p",
                [list(payloads)],
            )

    def claim(self, limit: int) -> tuple[int, Any]:
        cursor = self._connection.execute(
            f"""
            delete from {BARE} where ctid = any(array(
                select ctid from {BARE} order by id limit %s for update skip locked
            )) returning id, payload
            """,
            [limit],
        )
        return cursor.rowcount, None

    def settle(self, claimed: Any) -> None:
        pass


class Queue:
    """queue_send, queue_claim, queue_ack."""

    name = "queue"

    def __init__(self, connection: Connection, schema: str, policy: str = "{}") -> None:
        self._connection = connection
        connection.execute(_named("select {}.queue_create('bench', %s)", schema), [policy])
        self._put = _named("select message_id from {}.queue_send('bench', %s::jsonb)", schema)
        self._put_many = _named(
            "select message_id from {}.queue_send_many('bench', %s::jsonb[])", schema
        )
        self._claim = _named(
            "select lease_id, message_id, attempt, payload, headers"
            " from {}.queue_claim('bench', %s)",
            schema,
        )
        self._settle = _named("select * from {}.queue_ack(%s)", schema)

    def put(self, payloads: Sequence[str]) -> None:
        if len(payloads) == 1:
            self._connection.execute(self._put, [payloads[0]])
        else:
            self._connection.execute(self._put_many, [list(payloads)])

    def claim(self, limit: int) -> tuple[int, Any]:
        rows = self._connection.execute(self._claim, [limit]).fetchall()
        return len(rows), rows[0][0] if rows else None

    def settle(self, claimed: Any) -> None:
        self._connection.execute(self._settle, [claimed])


class Outbox:
    """outbox_put, outbox_claim, outbox_settle with the ids of what was published."""

    name = "outbox"

    def __init__(self, connection: Connection, schema: str, policy: str = "{}") -> None:
        self._connection = connection
        connection.execute(_named("select {}.topic_create('bench', %s)", schema), [policy])
        self._put = _named("select message_id from {}.outbox_put('bench', %s::jsonb)", schema)
        self._put_many = _named(
            "select message_id from {}.outbox_put_many('bench', %s::jsonb[])", schema
        )
        self._claim = _named(
            "select lease_id, message_id, event_id, payload, headers"
            " from {}.outbox_claim('bench', %s)",
            schema,
        )
        self._settle = _named("select * from {}.outbox_settle(%s, %s::bigint[])", schema)

    def put(self, payloads: Sequence[str]) -> None:
        if len(payloads) == 1:
            self._connection.execute(self._put, [payloads[0]])
        else:
            self._connection.execute(self._put_many, [list(payloads)])

    def claim(self, limit: int) -> tuple[int, Any]:
        rows = self._connection.execute(self._claim, [limit]).fetchall()
        return len(rows), (rows[0][0], [row[1] for row in rows]) if rows else None

    def settle(self, claimed: Any) -> None:
        self._connection.execute(self._settle, claimed)


def _named(statement: str, schema: str) -> sql.Composed:
    return sql.SQL(statement).format(sql.Identifier(schema))
