"""Works on queues: claim under a lease, call the handler of each message, settle what became of it.

At least once. Killed anywhere, the messages come back when their lease expires; a worker that was
frozen past its lease is told that it is lost, and settles nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from pyshim import calls, child, handling, logs
from pyshim.batch import Batch
from pyshim.children import CannotStart, Children
from pyshim.errors import ConfigError, DatabaseUnavailable
from pyshim.handling import LOST, Outcome
from pyshim.heart import Beat, Heart, Pulse
from pyshim.loops import Pace, Progress, Stop
from pyshim.meter import Meter
from pyshim.registry import Handler, Malformed, Registry, delivery
from pyshim.retry import Verdict, classify
from pyshim.session import Session
from pyshim.traces import clean, trace

log = logging.getLogger("tidegate")

DEFAULT_CONCURRENCY = 10
DEFAULT_PROCESSES = 4
DEFAULT_GRACE = 25.0  # less than the 30 s that Kubernetes and others leave

_PREFETCH = 1.0  # seconds: no message is claimed long before it can start
_MOST_PREFETCHED = 100
_LINGER = 0.02  # seconds in which others may finish, to be settled in one call
_END_GRACE = 2.0  # for a handler that is cancelled to clean up
_BLOCKED = 1.0  # seconds that the event loop may take to notice something
_DEADLINE_MARGIN = 3.0  # what is left of max_runtime to end a handler and settle
_LAST_WORDS = 5.0  # to settle after a hard stop
_NO_PROCESS_PAUSE = 5.0
_MOST_RESULTS = 16 << 20  # characters of results that one settlement carries
_SETTLE_PACE = Pace(interval=0.0, idle=0.0, idle_max=0.0, error=0.1)


class _Refused(Exception):
    """The database refuses a settlement, and would refuse it again."""


_TOLD = {
    "done": "success",
    "acked": "success",
    "failed": "error",
    "released": "released",
    "lost": "duplicate",
}
_RELEASED = Outcome("released", retry_in=0.0)
_CANCELLED = Outcome("failed", "cancelled", retryable=False)


@dataclass
class Worked:
    """Totals of a queue's worker since it started. `lost` counts messages whose lease was gone when
    they were to be settled, or whose settlement was refused: they run, or have run, elsewhere too
    (or were settled by a call whose answer was lost)."""

    claimed: int = 0
    done: int = 0
    retried: int = 0
    dead_lettered: int = 0
    released: int = 0
    lost: int = 0

    def add(self, more: Worked) -> None:
        """Count these, too."""
        for name, count in vars(more).items():
            setattr(self, name, getattr(self, name) + count)


class _Item:
    """A message in hand. `end` is set to what becomes of it if its handler must end before it
    returns."""

    def __init__(self, row: Any, lease: _Lease) -> None:
        self.row = row
        self.lease = lease
        self.started: float | None = None
        self.is_running = False
        self.is_acked = False  # by its handler, in a transaction of its own
        self.end: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    @property
    def message_id(self) -> int:
        return int(self.row.message_id)

    def stop(self, outcome: Outcome) -> None:
        if not self.end.done():
            self.end.set_result(outcome)

    def acked(self) -> None:
        self.is_acked = True


class _Lease:
    """The messages of one claim until the last is settled, or the lease is lost."""

    def __init__(self, lease_id: UUID, rows: Sequence[Any], asked_at: float) -> None:
        self.lease_id = lease_id
        self.items = {row.message_id: _Item(row, self) for row in rows}
        # Counted from when it was asked for: the answer may have waited for a process that was
        # frozen.
        self.claimed = asked_at
        self.lasts: float = min(row.lease_left.total_seconds() for row in rows)
        self.expires: float = asked_at + self.lasts
        self.finished: list[tuple[_Item, Outcome]] = []
        self.is_lost = False
        self.is_in_time = True
        self.news = asyncio.Event()
        self.alarm: asyncio.TimerHandle | None = None
        self.margin = 0.0
        self.pulse: Pulse | None = None

    def is_stale(self) -> bool:
        """Whether its time is over as far as we know: nothing more is started until it is
        renewed."""
        return time.monotonic() >= self.expires


class QueueWorker:
    """Works on one queue: a claim a step, `concurrency` handlers at once.

    `batch` is how many messages a claim asks for when that is more than are free to start; without
    it, as many as were seen to start within a second.
    """

    def __init__(
        self,
        registry: Registry,
        queue: str,
        session: Session,
        renewals: Session,
        heart: Heart,
        stop: Stop,
        *,
        concurrency: int | None = None,
        batch: int | None = None,
        worker: str | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._meter = meter or Meter()
        self.queue = queue
        self.totals = Worked()
        self.idle_since = -1  # how much had been finished anywhere when a claim last found nothing
        settings = registry.settings(queue)
        handlers = registry.handlers(queue)
        in_process = any(handler.in_process for handler in handlers)
        if in_process and registry.reference is None:
            raise ConfigError(
                f"a handler of queue {queue!r} runs in a process, which cannot find its registry",
                hint="get the registry with pyshim.registry.load('module:name'), or say in_thread",
            )
        self.concurrency = (
            concurrency
            or settings.concurrency
            or (DEFAULT_PROCESSES if in_process else DEFAULT_CONCURRENCY)
        )
        self._registry = registry
        self._session = session
        self._renewals = renewals
        self._heart = heart
        self._stop = stop
        self._worker = worker
        self._lease = settings.lease
        asked = batch or settings.batch
        self._is_adaptive = asked is None
        self._batch = Batch(asked or max(_MOST_PREFETCHED, self.concurrency))
        self._takes: float | None = None  # seconds that a handler takes, of late
        self._children = Children(registry.reference) if in_process and registry.reference else None
        self._free = self.concurrency
        self._waiting: deque[_Item] = deque()
        self._leases: dict[UUID, _Lease] = {}
        self._claiming: UUID | None = None  # the id of a claim whose answer never came
        self._has_asked = False  # whether a claim may ever have arrived
        self._room = asyncio.Event()
        self._room.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stuck: set[asyncio.Task[Outcome]] = set()

    @property
    def in_hand(self) -> int:
        """Messages that are claimed and not settled."""
        return sum(len(lease.items) + len(lease.finished) for lease in self._leases.values())

    @property
    def running(self) -> int:
        """Messages whose handlers run."""
        leases = list(self._leases.values())  # asked for by other threads, too
        return sum(item.is_running for lease in leases for item in list(lease.items.values()))

    @property
    def finished(self) -> int:
        """Messages that are no longer in hand."""
        totals = self.totals
        settled = totals.done + totals.retried + totals.dead_lettered
        return settled + totals.released + totals.lost

    @property
    def stuck(self) -> int:
        """Handlers that go on although they were told to end."""
        return len(self._stuck)

    # Claiming

    async def step(self) -> Progress:
        """Wait until a handler can start, then claim."""
        await self._wait_for_room()
        if self._stop:
            return Progress.NONE
        asked, asked_at = self._limit(), time.monotonic()
        rows = await self._claim(asked)
        if not rows:
            return Progress.NONE
        self.totals.claimed += len(rows)
        lease = _Lease(rows[0].lease_id, rows, asked_at)
        self._leases[lease.lease_id] = lease
        self._waiting.extend(lease.items.values())
        self._keep(lease)
        self._spawn(self._settle(lease))
        self._start_waiting()
        return Progress.FULL if len(rows) >= asked else Progress.SOME

    def _limit(self) -> int:
        """How many to claim: what can start at once, or more, where a batch was asked for or
        handlers are quick."""
        limit = self._batch.limit
        if self._is_adaptive:
            soon = self.concurrency * _PREFETCH / max(self._takes, 1e-6) if self._takes else 0.0
            limit = int(min(limit, max(soon, self.concurrency)))
        return limit if limit > self.concurrency else min(limit, self._free)

    async def _claim(self, limit: int) -> list[Any]:
        # A claim whose answer never came is asked again under the same id, and answers the same.
        self._claiming = self._claiming or uuid4()
        try:
            rows = await self._session.call(
                calls.QUEUE_CLAIM_TEXT,
                {
                    "queue": self.queue,
                    "limit": limit,
                    "lease": self._lease,
                    "worker": self._worker,
                    "lease_id": self._claiming,
                },
            )
        except DatabaseUnavailable:
            if not self._has_asked:  # there never was a connection on which it could have arrived
                self._claiming = None
            raise
        except Exception:
            self._has_asked = True
            raise
        self._has_asked = True
        self._claiming = None
        return rows

    async def _wait_for_room(self) -> None:
        while not (self._room.is_set() or self._stop):
            room = asyncio.ensure_future(self._room.wait())
            stop = asyncio.ensure_future(self._stop.pause(60))
            await asyncio.wait({room, stop}, return_when=asyncio.FIRST_COMPLETED)
            room.cancel()
            stop.cancel()

    def _look_for_room(self) -> None:
        if self._free > 0 and not self._waiting:
            self._room.set()
        else:
            self._room.clear()

    # Handling

    def _start_waiting(self) -> None:
        for _ in range(len(self._waiting)):
            if self._free <= 0 or self._stop:
                break
            item = self._waiting.popleft()
            if item.lease.is_stale():
                self._waiting.append(item)
                continue
            self._free -= 1
            item.is_running = True
            item.started = time.monotonic()
            self._spawn(self._work(item))
        self._look_for_room()

    async def _work(self, item: _Item) -> None:
        handler: Handler | None = None
        try:
            handler, outcome = await self._handle(item)
        except Exception as error:  # a mistake of ours must not keep the message for ever
            outcome = handling.failed(error)
        if outcome.verdict == "failed":
            self._tell_failure(item, handler, outcome)
        self._finish(item, outcome)
        took = time.monotonic() - (item.started or 0.0)
        self._meter.observe(
            "tidegate_handler_duration_seconds", took,
            channel=self.queue, outcome=_TOLD[outcome.verdict],
        )  # fmt: skip
        self._takes = took if self._takes is None else 0.8 * self._takes + 0.2 * took
        self._free += 1
        self._start_waiting()

    async def _handle(self, item: _Item) -> tuple[Handler | None, Outcome]:
        row = item.row._asdict()
        try:
            message = delivery(row, self.queue, self._session.schema, on_ack=item.acked)
        except Malformed as error:
            return None, handling.failed(error)
        task = message.headers.get("task")
        handler = self._registry.find(self.queue, task)
        if handler is None:
            told = clean(self._registry.told_missing(self.queue, task))
            return None, Outcome("failed", told, retryable=False, reason="unknown_handler")
        timeout = None if handler.in_process else handler.timeout
        if handler.is_async:
            call = handling.call_async(handler, message)
        elif self._children and handler.in_process:
            asked = child.request(row, self.queue, self._session.schema, handler.task)
            call = self._children.run(asked, handler.timeout, item.acked)
        else:
            call = handling.call_in_thread(handler, message)
        outcome = await self._until(asyncio.ensure_future(call), item, handler, timeout)
        if outcome.verdict == "failed" and outcome.retry_in is None:
            outcome = replace(outcome, retry_in=handler.retry_in)
        return handler, outcome

    async def _until(
        self, call: asyncio.Task[Outcome], item: _Item, handler: Handler, timeout: float | None
    ) -> Outcome:
        """The outcome of a call, or of what ends it."""
        await asyncio.wait({call, item.end}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if call.done():
            if call.cancelled():
                return Outcome("failed", "CancelledError")
            if isinstance(error := call.exception(), CannotStart):
                # It keeps its place for a while: the next message would fare no better.
                self._log(logging.ERROR, "no process", message_id=item.message_id, error=error)
                await self._stop.pause(_NO_PROCESS_PAUSE)
                return _RELEASED
            return handling.failed(error) if error else call.result()
        outcome = item.end.result() if item.end.done() else handling.timed_out(timeout)
        if not handler.in_thread:
            call.cancel()
            await asyncio.wait({call}, timeout=min(_END_GRACE, item.lease.margin or _END_GRACE))
        if not call.done():
            self._is_stuck(call, item, handler)
        elif not call.cancelled():
            call.exception()
        return outcome

    def _is_stuck(self, call: asyncio.Task[Outcome], item: _Item, handler: Handler) -> None:
        # It keeps its place, so that those that cannot be ended do not pile up.
        why = "a thread cannot be ended" if handler.in_thread else "it ignores its cancellation"
        self._log(
            logging.ERROR, "handler goes on", task=handler.task, message_id=item.message_id,
            attempt=item.row.attempt, why=why,
        )  # fmt: skip
        self._free -= 1
        self._stuck.add(call)

        def ended(call: asyncio.Task[Outcome]) -> None:
            self._stuck.discard(call)
            if not call.cancelled():
                call.exception()
            self._free += 1
            self._start_waiting()

        call.add_done_callback(ended)

    # Renewing

    def _keep(self, lease: _Lease) -> None:
        lease.pulse = Pulse(
            self._renewals,
            lease.lease_id,
            self._lease,
            lease.lasts / 3,
            lease.claimed,
            lambda beat: self._on_beat(lease, beat),
            {"queue": self.queue},
        )
        self._heart.keep(lease.pulse)

    def _on_beat(self, lease: _Lease, beat: Beat) -> None:
        if lease.lease_id not in self._leases:
            return
        if (blocked := time.monotonic() - beat.at) > _BLOCKED:
            self._log(
                logging.WARNING, "event loop blocked", seconds=round(blocked, 1),
                note="an async handler computes, or waits without await",
            )  # fmt: skip
        if beat.is_lost:
            self._lose(lease)
            return
        lease.expires = beat.expires
        lease.margin = min(_DEADLINE_MARGIN, (beat.deadline - lease.claimed) / 5)
        if lease.alarm is not None:
            lease.alarm.cancel()
        left = max(0.0, beat.deadline - lease.margin - time.monotonic())
        loop = asyncio.get_running_loop()
        lease.alarm = loop.call_later(left, self._out_of_time, lease)
        for message_id in beat.cancelled:
            if (item := lease.items.get(message_id)) and not item.end.done():
                self._log(logging.INFO, "cancelled", message_id=message_id)
                self._end(item, _CANCELLED)
        self._start_waiting()

    def _out_of_time(self, lease: _Lease) -> None:
        """The lease cannot be renewed beyond this: what has not started is given back, what runs is
        ended. Charged is only who ran for half of the time: others waited for their neighbours."""
        now = time.monotonic()
        lease.is_in_time = False
        if len(lease.items) > 1:
            self._batch.too_much()
        for item in list(lease.items.values()):
            ran = now - (item.started or now)
            if ran * 2 >= now - lease.claimed:
                error = f"timeout: ended after {ran:.1f} s, at the end of the queue's max_runtime"
                self._end(item, Outcome("failed", error))
            else:
                self._end(item, _RELEASED)

    def _end(self, item: _Item, outcome: Outcome) -> None:
        if item.is_running:
            item.stop(outcome)
            return
        with contextlib.suppress(ValueError):
            self._waiting.remove(item)
        self._finish(item, outcome)

    def _lose(self, lease: _Lease) -> None:
        """Somebody else has the messages now: end their handlers, settle nothing."""
        if lease.is_lost:
            return
        lease.is_lost = True
        running = sum(item.is_running for item in lease.items.values())
        self._log(
            logging.WARNING, "lease lost", lease_id=lease.lease_id,
            messages=len(lease.items) + len(lease.finished), running=running,
            note="double run possible" if running else None,
        )  # fmt: skip
        for item in list(lease.items.values()):
            if not item.is_acked:
                self._end(item, LOST)
        lease.news.set()

    # Settling

    def _finish(self, item: _Item, outcome: Outcome) -> None:
        if item.lease.items.pop(item.message_id, None) is not None:
            item.lease.finished.append((item, outcome))
            item.lease.news.set()

    async def _settle(self, lease: _Lease) -> None:
        """Settle what finishes, in as few calls as come without waiting, until nothing is left."""
        try:
            while lease.items:
                await lease.news.wait()
                lease.news.clear()
                if lease.items and not lease.is_lost:
                    await asyncio.sleep(_LINGER)
                await self._settle_finished(lease)
            await self._settle_finished(lease)
        finally:
            if lease.alarm is not None:
                lease.alarm.cancel()
            if lease.pulse is not None:
                self._heart.drop(lease.pulse)
            self._leases.pop(lease.lease_id, None)
            if lease.is_in_time:
                self._batch.fits()
            self._look_for_room()

    async def _settle_finished(self, lease: _Lease) -> None:
        while lease.finished:
            if lease.is_lost:
                acked = sum(outcome.verdict == "acked" for _, outcome in lease.finished)
                self.totals.done += acked
                self.totals.lost += len(lease.finished) - acked
                lease.finished.clear()
                return
            known = _settleable(lease.finished)
            await self._tell_database(lease, known)
            del lease.finished[: len(known)]

    async def _tell_database(self, lease: _Lease, known: list[tuple[_Item, Outcome]]) -> None:
        started = time.monotonic()
        done = [item.message_id for item, outcome in known if outcome.verdict == "done"]
        failures = [(i.message_id, o) for i, o in known if o.verdict == "failed"]
        news = Worked()
        news.done += sum(outcome.verdict == "acked" for _, outcome in known)
        news.lost += sum(outcome.verdict == "lost" for _, outcome in known)
        results = {i.message_id: o.result for i, o in known if o.result is not None}
        if done or failures:
            await self._settle_call(lease, done, failures, results, news)
        for retry_in, ids in _by_delay(known).items():
            await self._release_call(lease, ids, retry_in, news)
        self.totals.add(news)
        self._log(
            logging.DEBUG, "worked", **{name: n for name, n in vars(news).items() if n},
            ms=round((time.monotonic() - started) * 1000),
        )  # fmt: skip

    async def _settle_call(
        self,
        lease: _Lease,
        done: list[int],
        failures: list[tuple[int, Outcome]],
        results: dict[int, str],
        news: Worked,
    ) -> None:
        """Settle them in one call or, where it is refused, one by one: what is wrong with one of
        them must not hold back the others. One that is refused with its result has failed."""
        told = {n: results[n] for n in done if n in results}
        try:
            answer = await self._insist(
                calls.QUEUE_SETTLE,
                {
                    "lease_id": lease.lease_id,
                    "done": done,
                    "failed": _failures(failures),
                    "results": _object(told),
                },
                {"failed": _failures(failures, plain=True)},
            )
        except _Refused as refused:
            if told and len(done) + len(failures) == 1:
                error = clean(f"the result was refused: {refused.__cause__}")
                failure = (done[0], Outcome("failed", error, retryable=False))
                await self._settle_call(lease, [], [failure], {}, news)
            elif len(done) + len(failures) == 1:
                self._leave(done or [message_id for message_id, _ in failures], refused, news)
            elif done and failures:
                await self._settle_call(lease, done, [], results, news)
                for failure in failures:
                    await self._settle_call(lease, [], [failure], {}, news)
            else:
                for message_id in done:
                    await self._settle_call(lease, [message_id], [], results, news)
                for failure in failures:
                    await self._settle_call(lease, [], [failure], {}, news)
            return
        if answer.lost:
            news.lost += len(done) + len(failures)
            self._lose(lease)
        else:
            news.done += len(done)
            news.retried += answer.retried
            news.dead_lettered += answer.dead_lettered

    async def _release_call(
        self, lease: _Lease, ids: list[int], retry_in: timedelta, news: Worked
    ) -> None:
        try:
            answer = await self._insist(
                calls.QUEUE_RELEASE,
                {"lease_id": lease.lease_id, "message_ids": ids, "retry_in": retry_in},
            )
        except _Refused as refused:
            if len(ids) == 1:
                self._leave(ids, refused, news)
                return
            for message_id in ids:
                await self._release_call(lease, [message_id], retry_in, news)
            return
        news.lost += len(ids) if answer.lost else 0
        news.released += answer.retried

    def _leave(self, message_ids: list[int], refused: _Refused, news: Worked) -> None:
        """Leave a message to its lease, which is not renewed when nothing else is in it: somebody
        gets it again."""
        self._log(
            logging.ERROR, "left to expire", message_id=message_ids[0], error=refused.__cause__
        )
        news.lost += len(message_ids)

    async def _insist(
        self, statement: str, arguments: dict[str, Any], plainer: dict[str, Any] | None = None
    ) -> Any:
        """The answer, however long the database is away: a repeat has one effect. What it refuses
        is said once more, with `plainer` arguments; then `_Refused`."""
        errors = refusals = 0
        while True:
            try:
                return await self._session.one(statement, arguments)
            except Exception as error:
                errors += 1
                verdict = classify(error)
                refusals += verdict is Verdict.NEVER
                if refusals > 1:
                    raise _Refused from error
                pause = _SETTLE_PACE.after_error(errors)
                self._log(
                    logging.WARNING, "not settled", verdict=verdict.value, in_a_row=errors,
                    retry_in=f"{pause:.1f}s", error=error,
                )  # fmt: skip
                if verdict is Verdict.NEVER and plainer:
                    arguments = {**arguments, **plainer}
                await asyncio.sleep(pause)

    # Stopping

    async def finish(self, grace: float) -> None:
        """Give back what has not started, wait for the handlers that run for `grace` seconds, then
        end them and give back theirs."""
        for item in list(self._waiting):
            self._end(item, _RELEASED)
        await self._settled_within(grace)
        if self._leases:
            left = [item for lease in self._leases.values() for item in lease.items.values()]
            self._log(logging.WARNING, "ended", after=f"{grace:g}s", messages=len(left))
            for item in left:
                self._end(item, _RELEASED)
            await self._settled_within(_LAST_WORDS)
        if self._claiming is not None:
            await self._forget_claim(self._claiming)
        if self._leases:
            self._log(logging.ERROR, "left to expire", messages=self.in_hand)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._children:
            await self._children.close()
        await self._session.close()

    async def _settled_within(self, seconds: float) -> None:
        tasks = set(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def _forget_claim(self, lease_id: UUID) -> None:
        """Whether that claim arrived was never known: if it did, give back what it got."""
        with contextlib.suppress(Exception):
            release = {"lease_id": lease_id, "message_ids": None, "retry_in": timedelta(0)}
            await self._session.one(calls.QUEUE_RELEASE, release)

    # Telling

    def _tell_failure(self, item: _Item, handler: Handler | None, outcome: Outcome) -> None:
        self._log(
            logging.WARNING, "failed", task=handler.task if handler else None,
            message_id=item.message_id, attempt=item.row.attempt, reason=outcome.reason,
            error=outcome.error, at=outcome.trace or None,
        )  # fmt: skip

    def _log(self, level: int, name: str, **fields: Any) -> None:
        logs.event(log, level, name, queue=self.queue, **fields)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._log(logging.ERROR, "broken", error=error, at=trace(error))


def _settleable(finished: Sequence[tuple[_Item, Outcome]]) -> list[tuple[_Item, Outcome]]:
    """As many as one call takes: all of them, unless their results are large."""
    sizes = itertools.accumulate(len(outcome.result or "") for _, outcome in finished)
    count = sum(size <= _MOST_RESULTS for size in sizes)
    return list(finished[: max(count, 1)])


def _object(results: dict[int, str]) -> str | None:
    """Results that are JSON already, by message_id."""
    if not results:
        return None
    return "{" + ",".join(f'"{message_id}":{text}' for message_id, text in results.items()) + "}"


def _failures(failures: Iterable[tuple[int, Outcome]], *, plain: bool = False) -> Jsonb:
    entries = []
    for message_id, outcome in failures:
        error = outcome.error or ""
        entry = {
            "message_id": message_id,
            "error": error.encode("ascii", "replace").decode() if plain else error,
            "retryable": outcome.retryable,
            "retry_in": None if outcome.retry_in is None else f"{outcome.retry_in:.6f} s",
            "reason": None if plain else outcome.reason,
        }
        entries.append({name: value for name, value in entry.items() if value is not None})
    return Jsonb(entries)


def _by_delay(known: Iterable[tuple[_Item, Outcome]]) -> dict[timedelta, list[int]]:
    delays: dict[timedelta, list[int]] = {}
    for item, outcome in known:
        if outcome.verdict == "released":
            delay = timedelta(seconds=outcome.retry_in or 0.0)
            delays.setdefault(delay, []).append(item.message_id)
    return delays
