"""Renews leases while handlers run: on a thread, an event loop and connections of its own, so that
nothing a handler does to the worker's loop can keep a lease from being renewed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from pyshim import calls, logs
from pyshim.session import Session

log = logging.getLogger("tidegate")

_SHORTEST = 0.02
_LONGEST_RETRY = 5.0
_CLOSE_TIMEOUT = 5.0


@dataclass(frozen=True)
class Beat:
    """The answer to a renewal, on this host's monotonic clock."""

    at: float
    expires: float
    deadline: float
    cancelled: frozenset[int]
    is_lost: bool


@dataclass(eq=False)
class Pulse:
    """One lease that is kept."""

    session: Session
    lease_id: UUID
    lease: timedelta | None  # what each renewal asks for; None: the queue's
    every: float
    since: float  # when it was claimed, on the monotonic clock
    tell: Callable[[Beat], None]
    fields: dict[str, Any]
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Heart:
    """Keeps any number of leases. `keep` and `drop` are called on the worker's loop, and answers
    arrive there."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="tidegate-heart", daemon=True)
        self._sessions: set[Session] = set()
        self._beats: set[asyncio.Task[None]] = set()

    def keep(self, pulse: Pulse) -> None:
        """Renew from now on, every `pulse.every` seconds."""
        if not self._thread.is_alive():
            self._thread.start()
        home = asyncio.get_running_loop()
        self._loop.call_soon_threadsafe(self._begin, pulse, home)

    def drop(self, pulse: Pulse) -> None:
        """Renew no more."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(pulse.over.set)

    async def close(self) -> None:
        """Stop renewing and close the connections."""
        if self._thread.is_alive():
            closing = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(closing), _CLOSE_TIMEOUT)
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.to_thread(self._thread.join, 1.0)
        else:
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _begin(self, pulse: Pulse, home: asyncio.AbstractEventLoop) -> None:
        self._sessions.add(pulse.session)
        task = self._loop.create_task(self._beat(pulse, home))
        self._beats.add(task)
        task.add_done_callback(self._beats.discard)

    async def _beat(self, pulse: Pulse, home: asyncio.AbstractEventLoop) -> None:
        pause, errors = max(0.0, pulse.since + pulse.every - time.monotonic()), 0
        while not await _set_within(pulse.over, pause):
            try:
                beat = await self._renew(pulse)
            except Exception as error:
                if pulse.over.is_set():
                    return
                errors += 1
                pause = min(pulse.every, 0.25 * 2 ** min(errors, 6), _LONGEST_RETRY)
                logs.event(
                    log, logging.WARNING, "not renewed", **pulse.fields, lease_id=pulse.lease_id,
                    in_a_row=errors, retry_in=f"{pause:.1f}s", error=error,
                )  # fmt: skip
                continue
            errors = 0
            # At the deadline a renewal gets less than it asked for: what it got says nothing then.
            if beat.expires < beat.deadline:
                pulse.every = max((beat.expires - time.monotonic()) / 3, _SHORTEST)
            pause = pulse.every
            if pulse.over.is_set():
                return
            with contextlib.suppress(RuntimeError):
                home.call_soon_threadsafe(pulse.tell, beat)
            if beat.is_lost:
                return

    async def _renew(self, pulse: Pulse) -> Beat:
        # Counted from before the call: the answer may have waited for a process that was frozen.
        asked = time.monotonic()
        answer = await pulse.session.one(
            calls.QUEUE_EXTEND, {"lease_id": pulse.lease_id, "lease": pulse.lease}
        )
        now = time.monotonic()
        if answer.lost:
            return Beat(now, now, now, frozenset(), True)
        return Beat(
            now,
            asked + answer.expires_in.total_seconds(),
            asked + answer.deadline_in.total_seconds(),
            frozenset(answer.cancelled or ()),
            False,
        )

    async def _close(self) -> None:
        for task in self._beats:
            task.cancel()
        await asyncio.gather(*self._beats, return_exceptions=True)
        for session in self._sessions:
            await session.close()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
