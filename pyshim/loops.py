"""The loop that every role runs: step, pause, step, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import random
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from pyshim import logs
from pyshim.errors import DatabaseUnavailable, TidegateError
from pyshim.meter import Meter
from pyshim.retry import Verdict, classify

log = logging.getLogger("tidegate")

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

SOON = 0.005  # seconds: the first pause of a loop that is woken by a bell


class Progress(enum.Enum):
    """What a step found, which decides the pause after it."""

    FULL = "full"  # the batch was full and something of it succeeded: there is more
    SOME = "some"  # something succeeded
    NONE = "none"  # nothing to do, or nothing of it succeeded


class EndOfLoop(TidegateError):
    """Raised by a step that can never succeed again, and has left nothing undone."""


@dataclass(frozen=True)
class Pace:
    """Pauses between steps, in seconds.

    After a full batch none; after a partial one `interval`; while there is nothing, from `idle`
    doubling up to `idle_max`; after the n-th error in a row `error` · 2^min(n, 5). All but the
    first are varied by ± `jitter`, so that replicas do not march in step.
    """

    interval: float
    idle: float
    idle_max: float
    error: float
    jitter: float = 0.1

    @classmethod
    def every(cls, interval: float, *, jitter: float = 0.1) -> Pace:
        """The same interval whether there was something or not."""
        return cls(interval, interval, interval, interval, jitter)

    @classmethod
    def polling(cls) -> Pace:
        """For claims: at once while there is work, then from 0.1 s to 2 s. A step always takes at
        least a transaction, and 20 ms after a partial batch keep a trickle from becoming a claim a
        message."""
        return cls(interval=0.02, idle=0.1, idle_max=2.0, error=0.5)

    def soon(self) -> Pace:
        """The same, beginning at 5 ms: for a loop that is woken."""
        return replace(self, interval=min(self.interval, SOON), idle=min(self.idle, SOON))

    def after(self, progress: Progress, idle_streak: int) -> float:
        """The pause after a step; `idle_streak` counts the steps without success, this one
        included."""
        if progress is Progress.FULL:
            return 0.0
        if progress is Progress.SOME:
            return self._vary(self.interval)
        return self._vary(min(self.idle_max, self.idle * 2 ** min(idle_streak - 1, 30)))

    def after_error(self, error_streak: int) -> float:
        """The pause after the n-th error in a row."""
        return self._vary(self.error * 2 ** min(error_streak, 5))

    def _vary(self, seconds: float) -> float:
        return seconds * random.uniform(1 - self.jitter, 1 + self.jitter)


class Bell:
    """Ends the pauses of one loop early, when something may have come for it.

    Replicas are all woken at once, and most of them in vain. Who was, more than twice in a row,
    waits a moment before the next answer, up to 25 ms: so those that find something stay ahead, and
    the others do not all ask in the same millisecond.
    """

    def __init__(self, wanted: asyncio.Event | None = None) -> None:
        self._rung = asyncio.Event()
        self._wanted = wanted
        self._in_vain = 0
        self.is_live = False  # it has been rung from its channel, and would be again

    def __bool__(self) -> bool:
        return self._rung.is_set()

    def ring(self, *, from_channel: bool = False) -> None:
        """Wake the loop, or keep it from its next pause."""
        self.is_live = self.is_live or from_channel
        self._rung.set()

    def silence(self) -> None:
        """Nobody rings any more, for now."""
        self.is_live = False

    async def wait(self) -> None:
        """Until it is rung."""
        if self._wanted is not None:
            self._wanted.set()
        await self._rung.wait()

    def answer(self) -> float:
        """Begin to listen anew. How long to wait before one looks, in seconds."""
        self._rung.clear()
        return random.uniform(0, min(max(self._in_vain - 2, 0) * SOON, 5 * SOON))

    def answered(self, progress: Progress) -> None:
        """What was found when it had been rung."""
        self._in_vain = self._in_vain + 1 if progress is Progress.NONE else 0


class Stop:
    """Says when to stop; whoever pauses with it wakes at once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.interrupted = False  # by a signal

    def __bool__(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        """Ask every loop to end after its current step."""
        self._event.set()

    async def wait(self) -> None:
        """Until it is set."""
        await self._event.wait()

    async def pause(self, seconds: float, bell: Bell | None = None) -> None:
        """Sleep, but not beyond the stop or the bell."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        if bell is not None:
            ends = [asyncio.ensure_future(end.wait()) for end in (self._event, bell)]
            try:
                await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)

    def on_signals(self) -> None:
        """SIGTERM, SIGINT and SIGHUP stop gracefully; a second one ends the process as if nobody
        had asked, whatever it is in the middle of. A SIGHUP that is ignored, as under nohup, stays
        so."""
        loop = asyncio.get_running_loop()
        numbers = [
            each for each in STOPPING
            if each is not signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN
        ]  # fmt: skip

        def first(number: signal.Signals) -> None:
            for each in numbers:
                loop.remove_signal_handler(each)
                signal.signal(each, signal.SIG_DFL)
            if not self.interrupted:  # two at once, as some send them, are one
                self.interrupted = True
                note = "a second signal ends it at once"
                logs.event(log, logging.INFO, "stopping", signal=number.name, note=note)
                self.set()

        for each in numbers:
            loop.add_signal_handler(each, first, each)


Step = Callable[[], Awaitable[Progress]]


async def run(
    name: str,
    step: Step,
    pace: Pace,
    stop: Stop,
    meter: Meter | None = None,
    bell: Bell | None = None,
    *,
    in_company: bool = False,
) -> None:
    """Repeat `step` until `stop`.

    A `bell` ends a pause, but none after an error. Once it is live, pauses begin at 5 ms and double
    as ever: what came in a moment after a ring, and rang nobody because of it, is found no later
    after that ring than twice as long as it took to come.

    Errors are logged in one line and backed off from; success resets the backoff, and is told after
    an error. On the very first step a mistake (a topic that does not exist, a schema that is not
    installed) or a database that cannot be reached is raised: nobody is helped by a process that
    looks alive and never worked.
    Later they are backed off from like the rest. Beside other loops (`in_company`), for which the
    database has been there already, only a mistake on the very first step is raised.
    """
    errors = idle = 0
    proven = False
    meter = meter or Meter()
    while not stop:
        rung = bool(bell)
        if bell is not None and rung:
            idle = 0
            await stop.pause(bell.answer())
        began = time.monotonic()
        try:
            progress = await step()
        except EndOfLoop as error:
            logs.event(log, logging.WARNING, "ended", loop=name, error=error)
            if in_company:
                raise  # the process would live on without it, and nobody would start it again
            return
        except Exception as error:
            meter.stepped(name, "error", time.monotonic() - began)
            verdict = classify(error)
            is_mistake = verdict is Verdict.NEVER
            hopeless = is_mistake or (isinstance(error, DatabaseUnavailable) and not in_company)
            if hopeless and not proven and not (in_company and errors):
                raise
            errors += 1
            pause = pace.after_error(errors)
            logs.event(
                log, logging.WARNING, "failed", loop=name, verdict=verdict.value, in_a_row=errors,
                retry_in=f"{pause:.1f}s", error=error,
            )  # fmt: skip
            if verdict is Verdict.RECONNECT:
                meter.waits(name, pause)
            await stop.pause(pause)
        else:
            meter.stepped(name, progress.value, time.monotonic() - began)
            proven = True
            if errors:
                logs.event(log, logging.INFO, "recovered", loop=name, after=errors)
            errors = 0
            idle = idle + 1 if progress is Progress.NONE else 0
            if bell is not None and rung:
                bell.answered(progress)
            quick = bell is not None and bell.is_live
            await stop.pause((pace.soon() if quick else pace).after(progress, idle), bell)


async def together(stop: Stop, *loops: Coroutine[Any, Any, None]) -> None:
    """Run loops side by side. When one fails, the others are asked to stop, and its error is
    raised."""
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        stop.set()
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    errors = [error for task in tasks if (error := task.exception())]
    if errors:
        raise errors[0]
