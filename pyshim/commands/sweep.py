"""`tidegate sweep`: deliver due events of routed topics, once or in a loop."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from pyshim.roles import Sweep
from pyshim.runtime import Runtime, doorbell_options, runtime_options, seconds
from pyshim.sweeper import DEFAULT_INTERVAL, DEFAULT_LIMIT, Sweeper


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
    role = Sweep(topic, limit, interval, cleanup)
    runtime.run(lambda stop: role.run(runtime, stop))


async def _once(runtime: Runtime, limit: int, topic: str | None) -> dict[str, Any]:
    session = runtime.session()
    try:
        return dict((await Sweeper(session, limit=limit, topic=topic).sweep())._asdict())
    finally:
        await session.close()


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
