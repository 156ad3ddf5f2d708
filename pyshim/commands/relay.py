"""`tidegate relay`: hand the events of a topic to a broker."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import timedelta

import click

from pyshim import logs, loops
from pyshim.publishers import Publisher, publisher_for
from pyshim.relay import DEFAULT_LIMIT, Relay
from pyshim.runtime import Runtime, doorbell_options, runtime_options, seconds, worker_name
from pyshim.serve import STALE_CONSUMER

log = logging.getLogger("tidegate")


@click.command("relay")
@click.argument("topic")
@click.option(
    "--to",
    "target",
    required=True,
    metavar="TARGET",
    envvar="TIDEGATE_RELAY_TO",
    show_envvar=True,
    help="stdout, or the URL of a broker: redis, nats, amqp, kafka or https; docs/howto/relay.md"
    " says what each takes. In the environment, a password is in no list of processes.",
)
@click.option(
    "--ordered",
    is_flag=True,
    help="TOPIC is a queue: of each group one event at a time, the next when the broker has"
    " acknowledged it.",
)
@click.option("--limit", default=DEFAULT_LIMIT, show_default=True, help="Events in one batch.")
@click.option(
    "--lease",
    metavar="DURATION",
    callback=seconds,
    help="How long a batch may take [default: the topic's].",
)
@click.option("--drain", is_flag=True, help="End when nothing is due.")
@doorbell_options
@runtime_options("relay")
def command(
    runtime: Runtime,
    topic: str,
    target: str,
    ordered: bool,
    limit: int,
    lease: float | None,
    drain: bool,
) -> None:
    """Publish the due events of TOPIC, at least once each, until SIGTERM or Ctrl-C.

    What a consumer needs to recognise a repeat is the event_id. While the broker cannot be reached,
    nothing is claimed and no event is charged an attempt.
    """
    publisher = publisher_for(target)
    runtime.run(lambda stop: _relay(runtime, stop, publisher, topic, ordered, limit, lease, drain))


async def _relay(
    runtime: Runtime,
    stop: loops.Stop,
    publisher: Publisher,
    topic: str,
    ordered: bool,
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
        ordered=ordered,
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
    bell = None if drain else runtime.bell("queue" if ordered else "topic", topic)
    try:
        async with runtime.listening():
            await loops.run(name, step, loops.Pace.polling(), stop, runtime.meter, bell)
    finally:
        await session.close()
        await publisher.close()
    logs.event(log, logging.INFO, "stopped", loop=name, **asdict(relay.totals))
