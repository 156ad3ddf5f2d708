"""The doorbell: one listening connection a process, which wakes loops that would sleep on.

Never needed. While it cannot be heard, behind a transaction pooler for one, loops poll as they
always do; when it can, they poll all the same, and are woken in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

from psycopg import conninfo, sql

from pyshim import logs
from pyshim.config import Database
from pyshim.connect import Connection, connect
from pyshim.loops import Bell

log = logging.getLogger("tidegate")

CHECK = 15.0  # seconds after which the connection is asked whether it is still there
ANSWER = 5.0  # seconds that it has to answer, and a notification to arrive
_FIRST_PAUSE = 0.5  # before connecting again, doubling
_LONGEST_PAUSE = 30.0
_DEAF_PAUSE = 300.0

# A peer that has vanished is noticed by the kernel, too: while nothing is sent, and while something
# is that is not acknowledged.
_KEEPALIVES = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


class _Deaf(Exception):
    """The connection listens, and is not told."""


class Doorbell:
    """Listens for an installation, and rings the bells of the loops that wait for its channels.

    Made once a process; each loop gets a bell of its own (`bell`), and what runs them stands inside
    `async with doorbell.listening()`. It connects when a loop first waits, so that a database that
    is down is told of once, and again by itself whenever the connection is lost.
    """

    def __init__(
        self,
        opener: Callable[[], Awaitable[Connection]],
        schema: str,
        *,
        check: float = CHECK,
        answer: float = ANSWER,
    ) -> None:
        self._opener = opener
        self._schema = schema
        self._check = check
        self._answer = answer
        self._bells: list[tuple[str, str | None, Bell]] = []
        self._wanted = asyncio.Event()
        self._test_channel = f"tidegate_{uuid4().hex}"
        self._is_lost = False
        self.is_listening = False

    @classmethod
    def at(cls, database: Database, schema: str) -> Doorbell:
        """The doorbell of an installation in `database`."""

        async def opener() -> Connection:
            return await connect(kept_alive(database), application_name="tidegate doorbell",
                                 attempts=1)  # fmt: skip

        return cls(opener, schema)

    def bell(
        self,
        kind: str,
        name: str | None = None,
        make: Callable[[asyncio.Event], Bell] = Bell,
    ) -> Bell:
        """A bell for a loop that takes from a queue or topic; without a name, from all of them."""
        bell = make(self._wanted)
        self._bells.append((kind, name, bell))
        return bell

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen meanwhile."""
        task = asyncio.ensure_future(self._listen())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _listen(self) -> None:
        await self._wanted.wait()
        failures = 0
        while True:
            try:
                connection = await self._opener()
                try:
                    await self._subscribe(connection)
                    failures = 0
                    await self._hear(connection)
                finally:
                    self._fall_silent()
                    await connection.close()
            except _Deaf:
                pause = _DEAF_PAUSE
                self._tell_lost(
                    note="a pooler in between hands on connections: polling goes on;"
                    " name the server itself with --doorbell-url, or say --no-doorbell"
                )
            except Exception as error:
                pause = min(_FIRST_PAUSE * 2 ** min(failures, 10), _LONGEST_PAUSE)
                failures += 1
                self._tell_lost(error=error, note="polling goes on")
            await asyncio.sleep(pause * random.uniform(0.9, 1.1))

    def _tell_lost(self, **fields: Any) -> None:
        """Once, until it is back."""
        level = logging.DEBUG if self._is_lost else logging.WARNING
        self._is_lost = True
        logs.event(log, level, "doorbell lost", **fields)

    async def _subscribe(self, connection: Connection) -> None:
        await self._try_out(connection)
        await connection.execute(sql.SQL("listen {}").format(sql.Identifier(self._schema)))
        self.is_listening = True
        level = logging.INFO if self._is_lost else logging.DEBUG
        logs.event(log, level, "doorbell heard again" if self._is_lost else "doorbell heard")
        self._is_lost = False
        for _, _, bell in self._bells:  # whatever rang meanwhile
            bell.ring()

    async def _try_out(self, connection: Connection) -> None:
        """Whether what another connection says is heard on this one. A transaction pooler takes a
        LISTEN, and gives the server connection that has made it to somebody else."""
        name = sql.Identifier(self._test_channel)
        await connection.execute(sql.SQL("listen {}").format(name))
        other = await self._opener()
        try:
            await other.execute("select pg_notify(%s, '')", [self._test_channel])
            notifies = connection.notifies(timeout=self._answer, stop_after=1)
            if self._test_channel not in [notify.channel async for notify in notifies]:
                raise _Deaf
        finally:
            await other.close()
            if not connection.closed:
                await connection.execute(sql.SQL("unlisten {}").format(name))

    async def _hear(self, connection: Connection) -> None:
        """Ring for each notification, until the connection is lost."""
        while True:
            async for notify in connection.notifies(timeout=self._check):
                if notify.channel == self._schema:
                    self._ring(notify.payload)
            await self._ask(connection)

    async def _ask(self, connection: Connection) -> None:
        """Raise if the other end does not answer. Nothing tells a connection that waits that its
        peer, or something in between, has forgotten it."""
        asked = asyncio.ensure_future(connection.execute("select 1"))
        done, _ = await asyncio.wait({asked}, timeout=self._answer)
        if not done:
            # No cancelling: that would ask the same peer. The end of the socket ends the call.
            with (
                socket.socket(fileno=os.dup(connection.fileno())) as end,
                contextlib.suppress(OSError),
            ):
                end.shutdown(socket.SHUT_RDWR)
            await asyncio.gather(asked, return_exceptions=True)
            raise TimeoutError(f"no answer within {self._answer:g} s")
        asked.result()

    def _ring(self, payload: str) -> None:
        kind, _, name = payload.partition(" ")
        for of, wanted, bell in self._bells:
            if of == kind and wanted in (None, name):
                bell.ring(from_channel=True)

    def _fall_silent(self) -> None:
        self.is_listening = False
        for _, _, bell in self._bells:
            bell.silence()


def kept_alive(database: Database) -> Database:
    """The same, with keepalives where the connection string says nothing of them."""
    given = conninfo.conninfo_to_dict(database.url)
    missing = {name: value for name, value in _KEEPALIVES.items() if name not in given}
    return Database(conninfo.make_conninfo(database.url, **missing), database.source)
