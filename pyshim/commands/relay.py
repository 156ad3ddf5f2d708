"""`tidegate relay`: hand the events of a topic to a broker."""

from __future__ import annotations

import click

from pyshim.relay import DEFAULT_LIMIT
from pyshim.roles import Relaying
from pyshim.runtime import Runtime, doorbell_options, runtime_options, seconds


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
    role = Relaying(topic, target, ordered, limit, lease, drain)
    role.prepare()
    runtime.run(lambda stop: role.run(runtime, stop))
