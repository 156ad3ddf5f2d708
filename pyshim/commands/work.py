"""`tidegate work`: run the handlers of a registry."""

from __future__ import annotations

import click

from pyshim.registry import MOST_AT_ONCE
from pyshim.roles import Work
from pyshim.runtime import Runtime, doorbell_options, runtime_options, seconds
from pyshim.worker import DEFAULT_GRACE

_COUNT = click.IntRange(1, MOST_AT_ONCE)


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
    role = Work(registry, queues, concurrency, batch, worker, grace, drain)
    role.prepare()
    runtime.run(lambda stop: role.run(runtime, stop))
