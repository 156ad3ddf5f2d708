"""Delivers the events of routed topics: `outbox_sweep` in a loop, `cleanup_sweep` beside it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from pyshim import calls, logs, telemetry
from pyshim.batch import Batch
from pyshim.loops import Progress
from pyshim.retry import Verdict, classify
from pyshim.session import Session

log = logging.getLogger("tidegate")

DEFAULT_LIMIT = 500
DEFAULT_INTERVAL = 0.5
CLEANUP_INTERVAL = 300.0
CLEANUP_LIMIT = 1000


@dataclass
class Swept:
    """Totals of a sweeper since it started."""

    sweeps: int = 0
    claimed: int = 0
    dispatched: int = 0
    retried: int = 0
    dead_lettered: int = 0

    def add(self, result: Any) -> None:
        """Count one result row."""
        self.sweeps += 1
        self.claimed += result.claimed
        self.dispatched += result.dispatched
        self.retried += result.retried
        self.dead_lettered += result.dead_lettered


class Sweeper:
    """One `outbox_sweep` a step, of at most `limit` events of all routed topics, or of one."""

    def __init__(
        self, session: Session, *, limit: int = DEFAULT_LIMIT, topic: str | None = None
    ) -> None:
        self.totals = Swept()
        self._session = session
        self._batch = Batch(limit)
        self._topic = topic
        self._last_error: str | None = None

    async def sweep(self) -> Any:
        """The result row of one sweep: claimed, dispatched, retried, dead_lettered, first_error."""
        arguments = {"limit": self._batch.limit, "topic": self._topic}
        began = time.time_ns()
        result = await self._session.one(calls.OUTBOX_SWEEP, arguments)
        telemetry.swept(began, result)
        return result

    async def step(self) -> Progress:
        """One sweep of the loop. A sweep that runs out of time is rolled back whole; the next takes
        half."""
        asked = self._batch.limit
        started = time.monotonic()
        try:
            result = await self.sweep()
        except Exception as error:
            if classify(error) is Verdict.TIMED_OUT:
                self._batch.too_much()
            raise
        self._batch.fits()
        self.totals.add(result)
        # A topic that is held back says so in every sweep: once is enough.
        is_news = result.claimed or result.first_error != self._last_error
        self._last_error = result.first_error
        if is_news:
            logs.event(
                log,
                logging.WARNING if result.first_error else logging.DEBUG,
                "swept",
                claimed=result.claimed,
                dispatched=result.dispatched,
                retried=result.retried,
                dead_lettered=result.dead_lettered,
                ms=round((time.monotonic() - started) * 1000),
                first_error=result.first_error,
            )
        if result.claimed >= asked and result.dispatched:
            return Progress.FULL
        return Progress.SOME if result.dispatched else Progress.NONE


class Cleaner:
    """`cleanup_sweep` at its own cadence, over a session of its own that it closes in between."""

    def __init__(self, session: Session, *, limit: int = CLEANUP_LIMIT) -> None:
        self._session = session
        self._limit = limit

    async def step(self) -> Progress:
        """One bounded pass; another at once where this one met its bound."""
        try:
            removed = await self._session.one(calls.CLEANUP_SWEEP, {"limit": self._limit})
        finally:
            await self._session.close()
        found = {name: value for name, value in removed._asdict().items() if value}
        if found:
            level = logging.WARNING if removed.errors else logging.DEBUG
            logs.event(log, level, "cleaned", **found)
        return Progress.FULL if removed.has_more else Progress.NONE
