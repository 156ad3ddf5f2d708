"""Hands the events of a topic to a broker: claim under a lease, publish, settle.

At least once, always under the same event_id. Killed anywhere, the events come back when their
lease expires.

In order, where that is asked for, means out of a queue: its groups hand out one message at a time,
the next when the one before is settled, whoever claims and whatever fails. Nothing here could keep
an order that a retry, or a second relay, had already lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from pyshim import calls, logs
from pyshim.batch import Batch
from pyshim.loops import EndOfLoop, Progress
from pyshim.meter import Meter
from pyshim.publishers.base import Message, Outcome, Publisher, TransportDown, TransportGone
from pyshim.session import Call, Session
from pyshim.telemetry import TracedPublisher

log = logging.getLogger("tidegate")

DEFAULT_LIMIT = 500
_SHARE_OF_LEASE = 0.8
_UNREACHED_RETRY = timedelta(seconds=5)
_QUICK = 1.0  # seconds to publish a batch in, for the next to be claimed meanwhile


@dataclass
class Relayed:
    """Totals of a relay since it started.

    `lost` counts events whose lease was gone when they were settled: published, and perhaps again.
    """

    claimed: int = 0
    published: int = 0
    retried: int = 0
    dead_lettered: int = 0
    released: int = 0
    lost: int = 0


@dataclass(frozen=True)
class _Claim:
    """Events under a lease, counted from before it was asked for."""

    lease_id: UUID
    rows: Sequence[Any]
    asked_at: float

    def budget(self) -> float:
        """Seconds that publishing may take from now, to settle within the lease."""
        left = min(row.lease_left for row in self.rows).total_seconds()
        return float(left * _SHARE_OF_LEASE - (time.monotonic() - self.asked_at))


class Relay:
    """One batch a step, from `topic` to `publisher`. With `ordered`, `topic` is a queue."""

    def __init__(
        self,
        session: Session,
        publisher: Publisher,
        topic: str,
        *,
        limit: int = DEFAULT_LIMIT,
        lease: timedelta | None = None,
        worker: str | None = None,
        ordered: bool = False,
        meter: Meter | None = None,
        is_woken: Callable[[], bool] = lambda: False,
    ) -> None:
        self.totals = Relayed()
        self._meter = meter or Meter()
        self._session = session
        self._publisher = TracedPublisher(publisher)
        self._topic = topic
        self._batch = Batch(limit)
        self._lease = lease
        self._worker = worker
        self._ordered = ordered
        self._is_woken = is_woken
        self._claim_it = calls.QUEUE_CLAIM_TEXT if ordered else calls.OUTBOX_CLAIM
        self._settle_it = calls.QUEUE_SETTLE if ordered else calls.OUTBOX_SETTLE
        self._release_it = calls.QUEUE_RELEASE if ordered else calls.OUTBOX_RELEASE
        self._reachable = False
        self._is_quick = False
        self._ahead: asyncio.Future[_Claim] | None = None

    async def step(self) -> Progress:
        """Claim, publish, settle. While the broker is known to be down, nothing is claimed.

        Where batches are full and quickly published, the next is claimed meanwhile: the database
        works while we do. Where a doorbell is answered (`is_woken`), it is claimed in the
        transaction of the settlement: what came while we published waits for one commit, not two.
        Whatever goes wrong, it is given back.
        """
        try:
            return await self._step()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Give back what was claimed ahead. What goes wrong is left to the end of its lease."""
        task, self._ahead = self._ahead, None
        if task is None:
            return
        with contextlib.suppress(Exception):
            claim = await task
            if claim.rows:
                self.totals.claimed += len(claim.rows)
                await self._release(claim.lease_id, None, timedelta(0))

    async def _step(self) -> Progress:
        if not self._reachable:
            await self._publisher.probe()
            self._reachable = True
        asked = self._batch.limit
        claim = await self._next(asked)
        rows = claim.rows
        if not rows:
            return Progress.NONE
        self.totals.claimed += len(rows)
        # In order, the next of each group is ready when this one is settled, and not before.
        if len(rows) >= asked and self._is_quick and not self._ordered:
            self._ahead = asyncio.ensure_future(self._claim(asked))
        started = time.monotonic()
        outcome = "error"
        try:
            outcomes = await self._publish(claim)
            self._is_quick = time.monotonic() - started < _QUICK
            lost = self.totals.lost
            published = await self._settle(claim.lease_id, rows, outcomes, started)
            if self.totals.lost > lost:
                outcome = "duplicate"
            elif published == len(rows):
                outcome = "success"
        finally:
            took = time.monotonic() - started
            self._meter.observe(
                "tidegate_publish_duration_seconds", took, channel=self._topic, outcome=outcome
            )
        # In order, a batch is one of each group, and the next of each is ready now.
        if published and (self._ahead is not None or len(rows) >= asked or self._ordered):
            return Progress.FULL
        return Progress.SOME if published else Progress.NONE

    async def _next(self, limit: int) -> _Claim:
        """What was claimed ahead, if that is something and there is time left for it."""
        task, self._ahead = self._ahead, None
        if task is not None:
            claim = await task
            if claim.rows and claim.budget() > 0:
                return claim
            if claim.rows:
                await self._release(claim.lease_id, None, timedelta(0))
        return await self._claim(limit)

    async def _claim(self, limit: int) -> _Claim:
        lease_id, asked_at = uuid4(), time.monotonic()
        rows = await self._session.call(*self._asking(limit, lease_id))
        return _Claim(lease_id, rows, asked_at)

    def _asking(self, limit: int, lease_id: UUID) -> Call:
        return self._claim_it, {
            "queue" if self._ordered else "topic": self._topic,
            "limit": limit,
            "lease": self._lease,
            "worker": self._worker,
            "lease_id": lease_id,
        }

    async def _publish(self, claim: _Claim) -> list[Outcome]:
        """Outcomes, within the lease. Where nothing is known, all is released uncharged and the
        error goes on."""
        budget = claim.budget()
        messages = [_message(row, self._topic) for row in claim.rows]
        try:
            outcomes = await asyncio.wait_for(self._publisher.publish(messages), max(budget, 0.0))
        except asyncio.TimeoutError:
            self._batch.too_much()
            self._is_quick = False
            await self._release(claim.lease_id, None, timedelta(0))
            raise TransportDown(
                f"publishing {len(messages)} events took longer than {budget:.1f} s of their lease"
            ) from None
        except Exception as error:
            self._reachable = False
            await self._release(claim.lease_id, None, timedelta(0))
            if isinstance(error, TransportGone):
                raise EndOfLoop(str(error)) from error
            raise
        self._batch.fits()
        return outcomes

    async def _settle(
        self, lease_id: UUID, rows: Sequence[Any], outcomes: Sequence[Outcome], started: float
    ) -> int:
        """Settle what is known, release what the broker did not take. Returns how many were
        published."""
        answers = list(zip(rows, outcomes, strict=True))
        done = [row.message_id for row, outcome in answers if outcome.error is None]
        failed = [(r, o) for r, o in answers if o.error is not None and not o.unreached]
        unreached = [(r, o) for r, o in answers if o.unreached]
        if done or failed:
            settlement = {
                "lease_id": lease_id,
                "done": done,
                "failed": Jsonb([_failure(row, outcome) for row, outcome in failed]),
                "results": None,
            }
            if done and not unreached and self._ahead is None and self._is_woken():
                settled = await self._settle_and_claim(settlement)
            else:
                settled = await self._session.one(self._settle_it, settlement)
            self._count(settled, len(done) + len(failed), failed, started)
        if unreached:
            await self._release(
                lease_id, [row.message_id for row, _ in unreached], _UNREACHED_RETRY
            )
            self._reachable = False
            raise TransportDown(f"{unreached[0][1].error} ({len(unreached)} events released)")
        return len(done)

    async def _settle_and_claim(self, settlement: Mapping[str, Any]) -> Any:
        """In one transaction. Should it fail by the claim, what was published is settled still,
        and the next step's own claim tells why."""
        lease_id, asked_at = uuid4(), time.monotonic()
        try:
            (settled,), rows = await self._session.calls(
                (self._settle_it, settlement), self._asking(self._batch.limit, lease_id)
            )
        except Exception:
            return await self._session.one(self._settle_it, settlement)
        if rows:
            self._ahead = asyncio.get_running_loop().create_future()
            self._ahead.set_result(_Claim(lease_id, rows, asked_at))
        return settled

    async def _release(
        self, lease_id: UUID, message_ids: list[int] | None, retry_in: timedelta
    ) -> None:
        answer = await self._session.one(
            self._release_it,
            {"lease_id": lease_id, "message_ids": message_ids, "retry_in": retry_in},
        )
        self.totals.released += answer.retried

    def _count(
        self, settled: Any, named: int, failed: Sequence[tuple[Any, Outcome]], started: float
    ) -> None:
        totals = self.totals
        if settled.lost:
            totals.lost += named
        else:
            totals.published += settled.acked
            totals.retried += settled.retried
            totals.dead_lettered += settled.dead_lettered
        logs.event(
            log,
            logging.WARNING if failed or settled.lost else logging.DEBUG,
            "lease lost" if settled.lost else "relayed",
            topic=self._topic,
            published=settled.acked,
            retried=settled.retried,
            dead_lettered=settled.dead_lettered,
            ms=round((time.monotonic() - started) * 1000),
            first_error=failed[0][1].error if failed else None,
            message_id=failed[0][0].message_id if failed else None,
        )


def _message(row: Any, topic: str) -> Message:
    headers = json.loads(row.headers) if row.headers else {}
    return Message(
        event_id=row.event_id,
        topic=row.topic or topic,
        message_id=row.message_id,
        attempt=row.attempt,
        payload=row.payload or "null",
        enqueued_at=row.enqueued_at,
        group_key=row.group_key,
        tenant=row.tenant,
        run_id=row.run_id,
        headers=headers if isinstance(headers, dict) else {"value": headers},
    )


def _failure(row: Any, outcome: Outcome) -> dict[str, Any]:
    failure = {"message_id": row.message_id, "error": (outcome.error or "").replace("\x00", "")}
    if not outcome.retryable:
        failure["retryable"] = False
    elif outcome.retry_in is not None:
        failure["retry_in"] = f"{outcome.retry_in.total_seconds():.3f} s"
    return failure
