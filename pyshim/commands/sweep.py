"""`tidegate sweep`: deliver due events of routed topics, once or in a loop."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any

import click

from pyshim import logs, loops
from pyshim.runtime import Runtime, doorbell_options, runtime_options, seconds
from pyshim.serve import STALE_CONSUMER
from pyshim.sweeper import CLEANUP_INTERVAL, DEFAULT_INTERVAL, DEFAULT_LIMIT, Cleaner, Sweeper

log = logging.getLogger("tidegate")


@click.command("sweep")
@click.option("--limit", default=DEFAULT_LIMIT, show_default=True, help="Events in one sweep.")
@click.option("--topic", metavar="TOPIC", help="Only this topic.")
@click.option("--follow", is_flag=True, help="Go on until SIGTERM or Ctrl-C.")
@click.option(
    "--interval",
    metavar="DURATION",
    callback=seconds,
    default=f"{DEFAULT_INTERVAL * 1000:g}ms",
    show_default=True,
    help="Pause between sweeps, but for full ones.",
)
@click.option(
    "--cleanup/--no-cleanup",
    default=True,
    help="With --follow: also clean up, every five minutes [default: cleanup].",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@doorbell_options
@runtime_options("sweep")
def command(
    runtime: Runtime,
    limit: int,
    topic: str | None,
    follow: bool,
    interval: float,
    cleanup: bool,
    as_json: bool,
) -> None:
    """Deliver due events to their queues and SQL handlers, each in one transaction.

    Prints how many were claimed, dispatched, retried and dead-lettered, and the first error.
    """
    if not follow:
        runtime.once()
        result = asyncio.run(_once(runtime, limit, topic))
        click.echo(json.dumps(result) if as_json else _table(result))
        return
    if as_json:
        raise click.UsageError("--json is for one sweep; with --follow use --log-format json -v")
    runtime.run(lambda stop: _follow(runtime, stop, limit, topic, interval, cleanup))


async def _once(runtime: Runtime, limit: int, topic: str | None) -> dict[str, Any]:
    session = runtime.session()
    try:
        return dict((await Sweeper(session, limit=limit, topic=topic).sweep())._asdict())
    finally:
        await session.close()


async def _follow(
    runtime: Runtime,
    stop: loops.Stop,
    limit: int,
    topic: str | None,
    interval: float,
    cleanup: bool,
) -> None:
    session = runtime.session()
    sweeper = Sweeper(session, limit=limit, topic=topic)
    pace = loops.Pace.every(interval)
    bell = runtime.bell("topic", topic)
    running = [loops.run("sweep", sweeper.step, pace, stop, runtime.meter, bell)]
    if cleanup:
        pace = loops.Pace.every(CLEANUP_INTERVAL)
        cleaner = Cleaner(runtime.session())
        cleaning = loops.run("cleanup", cleaner.step, pace, stop, runtime.meter)
        running.append(_after_a_sweep(sweeper, cleaning, stop))
    runtime.meter.watch("sweep", max(STALE_CONSUMER, 3 * interval))
    runtime.announce("sweep", topic=topic, interval=f"{interval:g}s")
    try:
        async with runtime.listening():
            await loops.together(stop, *running)
    finally:
        await session.close()
    logs.event(log, logging.INFO, "stopped", loop="sweep", **asdict(sweeper.totals))


async def _after_a_sweep(
    sweeper: Sweeper, loop: Coroutine[Any, Any, None], stop: loops.Stop
) -> None:
    """Run `loop` from the first sweep on: a database that is down is told of once, not twice."""
    while not (stop or sweeper.totals.sweeps):
        await stop.pause(0.1)
    await loop


def _table(row: dict[str, Any]) -> str:
    """One row as psql would show it."""
    cells = {name: "" if value is None else str(value) for name, value in row.items()}
    widths = {name: max(len(name), len(cell)) for name, cell in cells.items()}
    head = " | ".join(name.center(width) for name, width in widths.items())
    rule = "-+-".join("-" * width for width in widths.values())
    line = " | ".join(
        cell.ljust(widths[name]) if name == "first_error" else cell.rjust(widths[name])
        for name, cell in cells.items()
    )
    return "\n".join(text.rstrip() for text in (head, rule, line))
