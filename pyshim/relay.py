"""Hands the events of a topic to a broker: claim under a lease, publish, settle.

At least once, always under the same event_id. Killed anywhere, the events come back when their
lease expires.

In order, where that is asked for, means out of a queue: its groups hand out one message at a time,
the next when the one before is settled, whoever claims and whatever fails. Nothing here could keep
an order that a retry, or a second relay, had already lost.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
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
from pyshim.session import Session
from pyshim.telemetry import TracedPublisher

log = logging.getLogger("tidegate")

DEFAULT_LIMIT = 500
_SHARE_OF_LEASE = 0.8
_UNREACHED_RETRY = timedelta(seconds=5)


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
        self._claim_it = calls.QUEUE_CLAIM_TEXT if ordered else calls.OUTBOX_CLAIM
        self._settle_it = calls.QUEUE_SETTLE if ordered else calls.OUTBOX_SETTLE
        self._release_it = calls.QUEUE_RELEASE if ordered else calls.OUTBOX_RELEASE
        self._reachable = False

    async def step(self) -> Progress:
        """Claim, publish, settle. While the broker is known to be down, nothing is claimed."""
        if not self._reachable:
            await self._publisher.probe()
            self._reachable = True
        asked = self._batch.limit
        lease_id = uuid4()
        rows = await self._claim(lease_id, asked)
        if not rows:
            return Progress.NONE
        self.totals.claimed += len(rows)
        started = time.monotonic()
        outcome = "error"
        try:
            outcomes = await self._publish(lease_id, rows)
            lost = self.totals.lost
            published = await self._settle(lease_id, rows, outcomes, started)
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
        if published and (len(rows) >= asked or self._ordered):
            return Progress.FULL
        return Progress.SOME if published else Progress.NONE

    async def _claim(self, lease_id: UUID, limit: int) -> list[Any]:
        return await self._session.call(
            self._claim_it,
            {
                "queue" if self._ordered else "topic": self._topic,
                "limit": limit,
                "lease": self._lease,
                "worker": self._worker,
                "lease_id": lease_id,
            },
        )

    async def _publish(self, lease_id: UUID, rows: Sequence[Any]) -> list[Outcome]:
        """Outcomes, within the lease. Where nothing is known, all is released uncharged and the
        error goes on."""
        budget = min(row.lease_left for row in rows).total_seconds() * _SHARE_OF_LEASE
        messages = [_message(row, self._topic) for row in rows]
        try:
            outcomes = await asyncio.wait_for(self._publisher.publish(messages), max(budget, 0.0))
        except asyncio.TimeoutError:
            self._batch.too_much()
            await self._release(lease_id, None, timedelta(0))
            raise TransportDown(
                f"publishing {len(rows)} events took longer than {budget:.1f} s of their lease"
            ) from None
        except Exception as error:
            self._reachable = False
            await self._release(lease_id, None, timedelta(0))
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
            settled = await self._session.one(
                self._settle_it,
                {
                    "lease_id": lease_id,
                    "done": done,
                    "failed": Jsonb([_failure(row, outcome) for row, outcome in failed]),
                    "results": None,
                },
            )
            self._count(settled, len(done) + len(failed), failed, started)
        if unreached:
            await self._release(
                lease_id, [row.message_id for row, _ in unreached], _UNREACHED_RETRY
            )
            self._reachable = False
            raise TransportDown(f"{unreached[0][1].error} ({len(unreached)} events released)")
        return len(done)

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
