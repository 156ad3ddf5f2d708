"""Runs the upkeep: what `maintenance_due` says, when it says so.

The list, the intervals and the backoff are the schema's. A job is taken by `maintenance_start`,
which hands it to one maintainer; nothing rests on that, since jobs share their work by row locks.
Jobs that take the epoch of a leader are run by whoever leads; the others by anybody.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg

from pyshim import calls, logs
from pyshim.errors import EpochIsOver
from pyshim.leadership import DEFAULT_LEASE, Leadership
from pyshim.loops import Progress, Stop
from pyshim.retry import Verdict, classify
from pyshim.session import Session

log = logging.getLogger("tidegate")

DEFAULT_INTERVAL = 1.0
LEADER = "maintain"  # the name that recovery_sweep checks
_GRACE = 1.0  # what a job in progress may still take when told to stop
_FOR_EVER = 86400.0
_NOW = timedelta(0)


class _Stopped(Exception):
    """Told to stop in the middle of a job: it was rolled back."""


@dataclass
class Outcome:
    """How one run of a job ended. `systemic`: nothing of it succeeded; else an `error` is of a
    part of it."""

    job: str
    error: str | None
    systemic: bool
    again: bool
    result: Any
    seconds: float


@dataclass
class Maintained:
    """Totals of a maintainer since it started."""

    jobs: int = 0
    failed: int = 0


class Maintainer:
    """One look at what is due a step; every due job runs in a transaction of its own."""

    def __init__(self, session: Session, stop: Stop, *, lease: float = DEFAULT_LEASE) -> None:
        self.totals = Maintained()
        self._session = session
        self._stop = stop
        self._leadership = Leadership(session, LEADER, lease)

    async def step(self) -> Progress:
        """Run what is due; look again at once where a job left something."""
        outcomes = await self.once()
        more = any(each.again and each.error is None for each in outcomes)
        return Progress.FULL if more else Progress.NONE

    async def once(self) -> list[Outcome]:
        """Run what is due, each job once. One that fails stops no other; a database that has gone
        away ends the pass, and so does another one that leads by now."""
        outcomes: list[Outcome] = []
        if not await self._leadership.hold():
            return outcomes
        epoch = self._leadership.epoch
        for job in await self._session.call(calls.MAINTENANCE_DUE, {"epoch": epoch}):
            if self._stop:
                break
            if job.due_in is None or job.due_in > _NOW or (job.is_led and epoch is None):
                continue
            if not await self._leadership.still(at_once=job.is_led):
                break
            try:
                outcome = await self._run(job.job, job.statement)
            except _Stopped:
                break
            except EpochIsOver:
                # Not even a note of how it ended: the job is somebody else's by now.
                self._leadership.lost()
                break
            if outcome is not None:
                outcomes.append(outcome)
        return outcomes

    async def close(self) -> None:
        """Leave the lead to the next one."""
        await self._leadership.resign()

    async def _run(self, job: str, statement: str) -> Outcome | None:
        """None: somebody else has just taken it."""
        if not (await self._session.one(calls.MAINTENANCE_START, {"job": job})).started:
            return None
        began = time.monotonic()
        try:
            answer = await self._unless_stopped(self._session.one(calls.given(statement), {}))
            outcome = Outcome(
                job, answer.error, bool(answer.systemic), bool(answer.again), answer.result, 0.0
            )
        except (_Stopped, EpochIsOver):
            raise
        except Exception as error:
            if classify(error) is Verdict.RECONNECT:
                raise
            outcome = Outcome(job, _told(error), True, False, None, 0.0)
        outcome.seconds = time.monotonic() - began
        finish = {
            "job": job,
            "error": outcome.error,
            "again": outcome.again,
            "systemic": outcome.systemic,
        }
        due_in = (await self._session.one(calls.MAINTENANCE_FINISH, finish)).due_in
        self.totals.jobs += 1
        if outcome.error is not None:
            self.totals.failed += 1
        logs.event(
            log,
            logging.DEBUG if outcome.error is None else logging.WARNING,
            "maintained" if outcome.error is None else "failed",
            job=job,
            ms=round(outcome.seconds * 1000),
            result=_telling(outcome.result),
            error=outcome.error,
            due_in=f"{due_in.total_seconds():.0f}s",
        )
        return outcome

    async def _unless_stopped(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The answer of a call, unless a stop comes and the call does not end soon after it."""
        task = asyncio.ensure_future(call)
        stopped = asyncio.ensure_future(self._stop.pause(_FOR_EVER))
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await asyncio.wait({task}, timeout=_GRACE)
            if task.done():
                return task.result()
            raise _Stopped
        finally:
            stopped.cancel()
            if not task.done():
                task.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)


def _told(error: Exception) -> str:
    """An error as it is noted: SQLSTATE and message, without the statement it happened in."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return f"{error.sqlstate} {error.diag.message_primary}"
    return logs.one_line(error)


def _telling(result: Any) -> str | None:
    """What of a result says something: counts that are not 0, flags that are set."""
    told = {name: value for name, value in (result or {}).items() if value}
    return json.dumps(told) if told else None
