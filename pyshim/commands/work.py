"""`tidegate work`: run the handlers of a registry."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

import click

from pyshim import logs, loops
from pyshim.errors import ConfigError
from pyshim.heart import Heart
from pyshim.registry import MOST_AT_ONCE, Registry, load
from pyshim.runtime import Runtime, doorbell_options, runtime_options, seconds, worker_name
from pyshim.serve import STALE_CONSUMER
from pyshim.worker import DEFAULT_GRACE, QueueWorker

log = logging.getLogger("tidegate")

_COUNT = click.IntRange(1, MOST_AT_ONCE)
_DRAINING = loops.Pace(interval=0.02, idle=0.05, idle_max=0.2, error=0.5)


@click.command("work")
@click.argument("registry", metavar="MODULE:REGISTRY")
@click.option(
    "--queue", "queues", multiple=True, metavar="QUEUE",
    help="Only this queue; may be repeated [default: all that have a handler].",
)  # fmt: skip
@click.option("--concurrency", type=_COUNT, help="Messages of a queue at once.")
@click.option(
    "--batch", type=_COUNT,
    help="Messages a claim asks for [default: as many as can start within a second].",
)  # fmt: skip
@click.option("--worker", metavar="NAME", help="Name of the holder [default: host:pid].")
@click.option(
    "--grace",
    metavar="DURATION",
    callback=seconds,
    default=f"{DEFAULT_GRACE:g}s",
    show_default=True,
    help="How long running handlers may go on after SIGTERM.",
)
@click.option("--drain", is_flag=True, help="End when nothing is due.")
@doorbell_options
@runtime_options("work")
def command(
    runtime: Runtime,
    registry: str,
    queues: tuple[str, ...],
    concurrency: int | None,
    batch: int | None,
    worker: str | None,
    grace: float,
    drain: bool,
) -> None:
    """Call a handler for each due message, at least once each, until SIGTERM or Ctrl-C.

    MODULE:REGISTRY is a Python module, also of the current directory, and the Registry in it. A
    handler that raises charges its message an attempt. The first signal gives back what has not
    started and waits for what runs; a second one ends the process at once.
    """
    found = load(registry)
    chosen = _chosen(found, queues)

    async def work(stop: loops.Stop) -> None:
        heart = Heart()
        workers = [
            QueueWorker(
                found, queue, runtime.session(), runtime.session(), heart, stop,
                concurrency=concurrency, batch=batch, worker=worker or worker_name(),
                meter=runtime.meter,
            )
            for queue in chosen
        ]  # fmt: skip
        bells = [None if drain else runtime.bell("queue", each.queue) for each in workers]
        working = [
            _work(runtime, each, workers, stop, grace, drain, bell)
            for each, bell in zip(workers, bells, strict=True)
        ]
        try:
            async with runtime.listening():
                await loops.together(stop, *working)
        finally:
            await heart.close()
            _leave(sum(each.stuck for each in workers))

    runtime.run(work)


def _chosen(registry: Registry, queues: Sequence[str]) -> list[str]:
    for queue in queues:
        if queue not in registry.queues():
            known = ", ".join(registry.queues())
            raise ConfigError(
                f"{registry.reference} has no handler for queue {queue!r}", hint=f"it has: {known}"
            )
    return list(dict.fromkeys(queues)) or registry.queues()


async def _work(
    runtime: Runtime,
    worker: QueueWorker,
    workers: Sequence[QueueWorker],
    stop: loops.Stop,
    grace: float,
    drain: bool,
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
        pace = _DRAINING if drain else loops.Pace.polling()
        await loops.run(name, step if drain else worker.step, pace, stop, runtime.meter, bell)
    finally:
        await worker.finish(grace)
    logs.event(log, logging.INFO, "stopped", loop=name, **asdict(worker.totals))


def _is_idle(worker: QueueWorker, workers: Sequence[QueueWorker]) -> bool:
    """Whether its last claim found nothing, and nothing has been finished anywhere since: what a
    handler sends on to another queue is worked on, too."""
    return worker.in_hand == 0 and worker.idle_since == sum(each.finished for each in workers)


def _leave(stuck: int) -> None:
    """Handlers that ignore their cancellation would keep the process for ever."""
    if stuck:
        logs.event(log, logging.ERROR, "left running handlers", handlers=stuck)
        logging.shutdown()
        sys.stdout.flush()
        os._exit(1)
