"""`tidegate top`: backlog, rates, ages, leases, barriers and dead letters, while you look."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from pyshim import calls, logs, loops, top
from pyshim.console import Console, columns, console_options
from pyshim.live import Live
from pyshim.runtime import seconds


@click.command("top")
@click.option("--once", is_flag=True, help="Show it once, without rates, and end.")
@click.option(
    "--interval",
    metavar="DURATION",
    callback=seconds,
    default="2s",
    show_default=True,
    help="How often to look.",
)
@console_options("top")
def command(console: Console, once: bool, interval: float) -> None:
    """Watch what waits where, since when, and how fast it goes, until Ctrl-C.

    Reads metrics(): rates are live, what stands where is as of the last snapshot, of which
    `tidegate maintain` takes one a minute. Where standard output is no terminal, it is shown once.
    """
    if console.as_json and not once:
        raise click.UsageError("--json is for --once")
    if once or not sys.stdout.isatty():
        view = top.arrange(console.rows(calls.METRICS, {}))
        if console.as_json:
            click.echo(json.dumps(view.as_json()))
        else:
            click.echo("\n".join(_lines(view, None, 0.0)))
        return
    asyncio.run(_watch(console, max(interval, 0.1)))


async def _watch(console: Console, interval: float) -> None:
    session = console.runtime.session()
    stop = loops.Stop()
    stop.on_signals()
    live = Live()
    former: tuple[float, top.View] | None = None
    told: list[str] = []
    try:
        while not stop:
            try:
                view = top.arrange(await session.call(calls.METRICS, {}))
            except Exception as error:
                if former is None:
                    raise
                live.show([*told, f"no answer: {logs.one_line(error)}"])
            else:
                now = time.monotonic()
                at, before = former or (now, None)
                told = _lines(view, before, now - at)
                former = now, view
                live.show(told)
            await stop.pause(interval)
    finally:
        await session.close()


def _lines(view: top.View, former: top.View | None, passed: float) -> list[str]:
    rows: list[Any] = list(top.table(view, former, passed))
    head: Sequence[str] = top.HEAD
    if not any(row[-1] for row in rows):  # nothing is paused
        head, rows = head[:-1], [row[:-1] for row in rows]
    shown = columns(head, rows) if rows else ["no topics and no queues"]
    return [*top.summary(view), "", *shown]
