"""What each role runs: built here once, for its own command and for the sidecar.

A role is settings; `run` makes its loops, runs them until it is told to stop, and leaves nothing
open. It opens at most `connections` connections.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from pyshim import calls, logs, loops
from pyshim.errors import ConfigError
from pyshim.heart import Heart
from pyshim.leadership import DEFAULT_LEASE, check_lease
from pyshim.maintain import DEFAULT_INTERVAL as MAINTAIN_INTERVAL
from pyshim.maintain import Maintainer
from pyshim.publishers import publisher_for
from pyshim.registry import Registry, load
from pyshim.relay import DEFAULT_LIMIT as RELAY_LIMIT
from pyshim.relay import Relay
from pyshim.runtime import Runtime, worker_name
from pyshim.serve import STALE_CONSUMER, STALE_MAINTAINER
from pyshim.session import Session
from pyshim.sweeper import CLEANUP_INTERVAL, Cleaner, Sweeper
from pyshim.sweeper import DEFAULT_INTERVAL as SWEEP_INTERVAL
from pyshim.sweeper import DEFAULT_LIMIT as SWEEP_LIMIT
from pyshim.worker import DEFAULT_GRACE, QueueWorker

log = logging.getLogger("tidegate")

_DRAINING = loops.Pace(interval=0.02, idle=0.05, idle_max=0.2, error=0.5)


class Role(Protocol):
    """Settings of a role, and how it runs."""

    @property
    def timeout(self) -> float | None:
        """Longest that one of its calls may take; None: as long as any."""

    @property
    def connections(self) -> int:
        """The most database connections that it holds at once."""

    def prepare(self) -> None:
        """Raise `ConfigError` for what can be known to be wrong without a database."""

    async def run(self, runtime: Runtime, stop: loops.Stop) -> None:
        """Run until `stop`."""


@dataclass(frozen=True)
class Sweep:
    """Delivers the events of routed topics, or of one."""

    topic: str | None = None
    limit: int = SWEEP_LIMIT
    interval: float = SWEEP_INTERVAL
    cleanup: bool = True
    timeout: float | None = None

    @property
    def connections(self) -> int:
        return 2 if self.cleanup else 1

    def prepare(self) -> None:
        """Nothing can be wrong."""

    async def run(self, runtime: Runtime, stop: loops.Stop) -> None:
        # Alone, a sweeper is one, whatever its topic; beside others, its topic tells them apart.
        name = f"sweep {self.topic}" if self.topic and runtime.in_company else "sweep"
        session = runtime.session(name)
        sweeper = Sweeper(session, limit=self.limit, topic=self.topic)
        pace = loops.Pace.every(self.interval)
        bell = runtime.bell("topic", self.topic)
        running = [runtime.loop(name, sweeper.step, pace, stop, bell)]
        if self.cleanup:
            pace = loops.Pace.every(CLEANUP_INTERVAL)
            cleaner = Cleaner(runtime.session("cleanup"))
            cleaning = runtime.loop("cleanup", cleaner.step, pace, stop)
            running.append(_after_a_sweep(sweeper, cleaning, stop))
        runtime.meter.watch(name, max(STALE_CONSUMER, 3 * self.interval))
        runtime.announce(name, topic=self.topic, interval=f"{self.interval:g}s")
        try:
            async with runtime.listening():
                await loops.together(stop, *running)
        finally:
            await session.close()
        logs.event(log, logging.INFO, "stopped", loop=name, **asdict(sweeper.totals))


async def _after_a_sweep(
    sweeper: Sweeper, loop: Coroutine[Any, Any, None], stop: loops.Stop
) -> None:
    """Run `loop` from the first sweep on: a database that is down is told of once, not twice."""
    while not (stop or sweeper.totals.sweeps):
        await stop.pause(0.1)
    await loop


@dataclass(frozen=True)
class Relaying:
    """Hands the events of a topic to a broker."""

    topic: str
    to: str
    ordered: bool = False
    limit: int = RELAY_LIMIT
    lease: float | None = None
    drain: bool = False
    timeout: float | None = None

    @property
    def connections(self) -> int:
        return 1

    def prepare(self) -> None:
        publisher_for(self.to)

    async def run(self, runtime: Runtime, stop: loops.Stop) -> None:
        publisher = publisher_for(self.to)
        name = f"relay {self.topic}"
        session = runtime.session(name)
        bell = (
            None if self.drain else runtime.bell("queue" if self.ordered else "topic", self.topic)
        )
        relay = Relay(
            session,
            publisher,
            self.topic,
            limit=self.limit,
            lease=None if self.lease is None else timedelta(seconds=self.lease),
            worker=worker_name(),
            ordered=self.ordered,
            meter=runtime.meter,
            is_woken=lambda: bell is not None and bell.is_live,
        )

        async def step() -> loops.Progress:
            before = relay.totals.claimed
            progress = await relay.step()
            if self.drain and relay.totals.claimed == before:
                stop.set()
            return progress

        runtime.meter.watch(name, STALE_CONSUMER)
        runtime.announce(name)
        try:
            async with runtime.listening():
                await runtime.loop(name, step, loops.Pace.polling(), stop, bell)
        finally:
            await relay.close()
            await session.close()
            await publisher.close()
        logs.event(log, logging.INFO, "stopped", loop=name, **asdict(relay.totals))


@dataclass(frozen=True)
class Work:
    """Runs the handlers of a registry."""

    registry: str
    queues: tuple[str, ...] = ()
    concurrency: int | None = None
    batch: int | None = None
    worker: str | None = None
    grace: float = DEFAULT_GRACE
    drain: bool = False
    timeout: float | None = None

    @property
    def connections(self) -> int:
        """Two a queue: claims and settlements, and renewals. What handlers open is theirs."""
        return 2 * len(self.chosen(load(self.registry)))

    def prepare(self) -> None:
        self.chosen(load(self.registry))

    def chosen(self, registry: Registry) -> list[str]:
        """The queues that it works on."""
        for queue in self.queues:
            if queue not in registry.queues():
                known = ", ".join(registry.queues())
                raise ConfigError(
                    f"{registry.reference} has no handler for queue {queue!r}",
                    hint=f"it has: {known}",
                )
        return list(dict.fromkeys(self.queues)) or registry.queues()

    async def run(self, runtime: Runtime, stop: loops.Stop) -> None:
        registry = load(self.registry)
        heart = Heart()
        workers = [
            QueueWorker(
                registry, queue, runtime.session(f"work {queue}"),
                runtime.session(f"work {queue}"), heart, stop,
                concurrency=self.concurrency, batch=self.batch,
                worker=self.worker or worker_name(), meter=runtime.meter,
            )
            for queue in self.chosen(registry)
        ]  # fmt: skip
        bells = [None if self.drain else runtime.bell("queue", each.queue) for each in workers]
        working = [
            self._work(runtime, each, workers, stop, bell)
            for each, bell in zip(workers, bells, strict=True)
        ]
        try:
            async with runtime.listening():
                await loops.together(stop, *working)
        finally:
            await heart.close()
            runtime.left_running(sum(each.stuck for each in workers))

    async def _work(
        self,
        runtime: Runtime,
        worker: QueueWorker,
        workers: Sequence[QueueWorker],
        stop: loops.Stop,
        bell: loops.Bell | None,
    ) -> None:
        name = f"work {worker.queue}"

        async def step() -> loops.Progress:
            finished = sum(each.finished for each in workers)
            progress = await worker.step()
            worker.idle_since = finished if progress is loops.Progress.NONE else -1
            if all(_is_idle(each, workers) for each in workers):
                stop.set()
            return progress

        runtime.meter.watch(name, STALE_CONSUMER, lambda: worker.running > 0)
        runtime.announce(name, concurrency=worker.concurrency)
        try:
            pace = _DRAINING if self.drain else loops.Pace.polling()
            await runtime.loop(name, step if self.drain else worker.step, pace, stop, bell)
        finally:
            await worker.finish(self.grace)
        logs.event(log, logging.INFO, "stopped", loop=name, **asdict(worker.totals))


def _is_idle(worker: QueueWorker, workers: Sequence[QueueWorker]) -> bool:
    """Whether its last claim found nothing, and nothing has been finished anywhere since: what a
    handler sends on to another queue is worked on, too."""
    return worker.in_hand == 0 and worker.idle_since == sum(each.finished for each in workers)


@dataclass(frozen=True)
class Maintain:
    """Ticks, recovers, reconciles and cleans up, when the schema says so.

    `retention` is what the cleanup of this installation is told to keep, in seconds by the names of
    its arguments: said once, when this begins.
    """

    interval: float = MAINTAIN_INTERVAL
    lease: float = DEFAULT_LEASE
    retention: Mapping[str, float] = field(default_factory=dict)
    timeout: float | None = None

    @property
    def connections(self) -> int:
        return 1

    def prepare(self) -> None:
        check_lease(self.lease, self.interval)

    async def run(self, runtime: Runtime, stop: loops.Stop) -> None:
        session = runtime.session("maintain")
        maintainer = Maintainer(session, stop, lease=self.lease)
        is_told = not self.retention

        async def step() -> loops.Progress:
            nonlocal is_told
            if not is_told:
                await self._tell(session)
                is_told = True
            return await maintainer.step()

        runtime.meter.watch("maintain", max(STALE_MAINTAINER, 3 * self.interval))
        runtime.announce("maintain", interval=f"{self.interval:g}s")
        try:
            pace = loops.Pace.every(self.interval)
            await runtime.loop("maintain", step, pace, stop)
        finally:
            await maintainer.close()
            await session.close()
        logs.event(log, logging.INFO, "stopped", loop="maintain", **asdict(maintainer.totals))

    async def _tell(self, session: Session) -> None:
        kept = {name: f"{seconds:.3f} seconds" for name, seconds in self.retention.items()}
        await session.one(
            calls.MAINTENANCE_CONFIGURE, {"job": "cleanup", "arguments": json.dumps(kept)}
        )
