"""`tidegate relay`: hand the events of a topic to a broker."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import timedelta

import click

from pyshim import logs, loops
from pyshim.publishers import Publisher, publisher_for
from pyshim.relay import DEFAULT_LIMIT, Relay
from pyshim.runtime import Runtime, runtime_options, seconds, worker_name
from pyshim.serve import STALE_CONSUMER

log = logging.getLogger("tidegate")


@click.command("relay")
@click.argument("topic")
@click.option(
    "--to",
    "target",
    required=True,
    metavar="TARGET",
    help="stdout, or redis://host:6379/0?stream=NAME, ?zset=NAME, or both; NAME may hold {topic},"
    " {group_key}, {tenant}, {run_id}, {event_id} and {header.NAME}.",
)
@click.option("--limit", default=DEFAULT_LIMIT, show_default=True, help="Events in one batch.")
@click.option(
    "--lease",
    metavar="DURATION",
    callback=seconds,
    help="How long a batch may take [default: the topic's].",
)
@click.option("--drain", is_flag=True, help="End when nothing is due.")
@runtime_options("relay")
def command(
    runtime: Runtime, topic: str, target: str, limit: int, lease: float | None, drain: bool
) -> None:
    """Publish the due events of TOPIC, at least once each, until SIGTERM or Ctrl-C.

    What a consumer needs to recognise a repeat is the event_id. While the broker cannot be reached,
    nothing is claimed and no event is charged an attempt.
    """
    publisher = publisher_for(target)
    runtime.run(lambda stop: _relay(runtime, stop, publisher, topic, limit, lease, drain))


async def _relay(
    runtime: Runtime,
    stop: loops.Stop,
    publisher: Publisher,
    topic: str,
    limit: int,
    lease: float | None,
    drain: bool,
) -> None:
    session = runtime.session()
    relay = Relay(
        session,
        publisher,
        topic,
        limit=limit,
        lease=None if lease is None else timedelta(seconds=lease),
        worker=worker_name(),
        meter=runtime.meter,
    )

    async def step() -> loops.Progress:
        before = relay.totals.claimed
        progress = await relay.step()
        if drain and relay.totals.claimed == before:
            stop.set()
        return progress

    name = f"relay {topic}"
    runtime.meter.watch(name, STALE_CONSUMER)
    runtime.announce(name)
    try:
        await loops.run(name, step, loops.Pace.polling(), stop, runtime.meter)
    finally:
        await session.close()
        await publisher.close()
    logs.event(log, logging.INFO, "stopped", loop=name, **asdict(relay.totals))
