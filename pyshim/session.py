"""One connection, one transaction, a call or a few: how a loop reaches the database.

A transaction is `begin; set local …; select fn(…); commit` in one round trip: none ever waits for
us. Nothing outlives it, no prepared statement, no `set`, no lock, so that a transaction pooler in
between does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row

from pyshim import calls, logs
from pyshim.errors import from_database
from pyshim.retry import DeadlineExceeded, Verdict, classify

log = logging.getLogger("tidegate")

Opener = Callable[[], Awaitable[AsyncConnection[Any]]]
Call = tuple[str, Mapping[str, Any]]  # a statement of `calls`, and its arguments

DEFAULT_TIMEOUT = 5.0
RECONNECT_PAUSE = 0.5
TRANSACTION_TRIES = 3
_DEADLINE_MARGIN = 1.0
_CANCEL_GRACE = 2.0


class Session:
    """Calls functions of one installation over one connection, opened when first needed.

    `timeout` bounds each call on the server (`statement_timeout`, in seconds; 0 switches it off)
    and, one second later, on the client. A connection that was given (`adopt`) must be in
    autocommit mode; it is never closed or replaced here. `loop` is who uses it, for the log.
    """

    def __init__(
        self,
        opener: Opener | None,
        schema: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        loop: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.schema = schema
        self._loop = loop
        self.timeout = timeout
        self._opener = opener
        self._sleep = sleep
        self._connection: AsyncConnection[Any] | None = None
        self._lost = False
        self._one_at_a_time = asyncio.Lock()

    @classmethod
    def adopt(
        cls, connection: AsyncConnection[Any], schema: str, *, timeout: float = DEFAULT_TIMEOUT
    ) -> Session:
        """A session over somebody else's connection: it is used, never closed, never replaced."""
        if not connection.autocommit:
            raise ValueError("an adopted connection must be in autocommit mode")
        session = cls(None, schema, timeout=timeout)
        session._connection = connection
        return session

    async def call(self, statement: str, arguments: Mapping[str, Any]) -> list[Any]:
        """The rows of one call, committed."""
        return (await self.calls((statement, arguments)))[0]

    async def calls(self, *wanted: Call) -> list[list[Any]]:
        """The rows of each of some calls, made and committed together.

        A connection that died since its last use is replaced once, after half a second; a
        connection opened for this very call, or adopted, is not. A lost race (40001, 40P01, 55P03)
        is tried again. Everything else, and the second failure, is raised: as a `TidegateError`
        where the database raised TG, else as it came.
        """
        async with self._one_at_a_time:
            try:
                return await self._with_retry(wanted)
            except psycopg.Error as error:
                ours = from_database(error)
                if ours is None:
                    raise
                raise ours from error

    async def one(self, statement: str, arguments: Mapping[str, Any]) -> Any:
        """The first row of a call that returns exactly one."""
        return (await self.call(statement, arguments))[0]

    async def close(self) -> None:
        """Close the connection if it is ours; the next call opens another."""
        if self._opener is not None and self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    async def _with_retry(self, wanted: Sequence[Call]) -> list[list[Any]]:
        may_reconnect = self._opener is not None and self._connection is not None
        tries = 1
        while True:
            try:
                return await self._bounded(wanted)
            except Exception as error:
                verdict = classify(error)
                await self._discard_unless_usable(verdict)
                if verdict is Verdict.AGAIN and tries < TRANSACTION_TRIES:
                    await self._sleep(random.uniform(0.01, 0.05) * tries)
                    tries += 1
                elif verdict is Verdict.RECONNECT and may_reconnect:
                    may_reconnect = False
                    logs.event(log, logging.WARNING, "reconnecting", loop=self._loop, error=error)
                    await self._sleep(RECONNECT_PAUSE)
                else:
                    raise

    async def _bounded(self, wanted: Sequence[Call]) -> list[list[Any]]:
        connection = await self._open()
        task = asyncio.ensure_future(self._transaction(connection, wanted))
        deadline = self.timeout + _DEADLINE_MARGIN if self.timeout else None
        try:
            done, _ = await asyncio.wait({task}, timeout=deadline)
        except asyncio.CancelledError:
            await self._abandon(task)
            raise
        if not done:
            await self._abandon(task)
            raise DeadlineExceeded(f"no answer within {deadline} s: the transaction was given up")
        return task.result()

    async def _transaction(
        self, connection: AsyncConnection[Any], wanted: Sequence[Call]
    ) -> list[list[Any]]:
        cursor = AsyncClientCursor(connection, row_factory=namedtuple_row)
        milliseconds = int(self.timeout * 1000)
        statements = [
            "begin isolation level read committed read write",
            f"set local statement_timeout = {milliseconds}",
            "set local tidegate.tick = 'on'",
            *(cursor.mogrify(calls.text(query, self.schema), values) for query, values in wanted),
            "commit",
        ]
        rows = []
        try:
            await cursor.execute(";\n".join(statements).encode())
            while True:
                if cursor.pgresult is not None and cursor.pgresult.nfields:
                    rows.append(await cursor.fetchall())
                if not cursor.nextset():
                    return rows
        except BaseException:
            await _roll_back(connection)
            raise

    async def _open(self) -> AsyncConnection[Any]:
        if self._connection is None:
            assert self._opener is not None, "an adopted connection cannot be replaced"
            self._connection = await self._opener()
            if self._lost:
                self._lost = False
                logs.event(log, logging.INFO, "reconnected", loop=self._loop)
        return self._connection

    async def _abandon(self, task: asyncio.Future[list[list[Any]]]) -> None:
        # psycopg answers the first cancel by cancelling the query, the second by closing the
        # connection.
        for _ in range(2):
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=_CANCEL_GRACE)
            if done:
                break
        if not task.cancelled() and task.done():
            task.exception()
        await self.close()

    async def _discard_unless_usable(self, verdict: Verdict) -> None:
        connection = self._connection
        if connection is None or self._opener is None:
            return
        idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
        if verdict is Verdict.RECONNECT or not idle:
            self._lost = True
            await self.close()


async def _roll_back(connection: AsyncConnection[Any]) -> None:
    """Leave the connection idle, or broken: whoever sees it next looks at its transaction
    status."""
    open_states = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
    if connection.pgconn.transaction_status in open_states:
        with contextlib.suppress(psycopg.Error):
            await connection.execute("rollback", prepare=False)
