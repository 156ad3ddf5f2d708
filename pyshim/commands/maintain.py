"""`tidegate maintain`: the upkeep, in a loop or once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

import click

from pyshim import loops
from pyshim.leadership import DEFAULT_LEASE, check_lease
from pyshim.maintain import DEFAULT_INTERVAL, Maintainer, Outcome
from pyshim.roles import Maintain
from pyshim.runtime import Runtime, runtime_options, seconds


@click.command("maintain")
@click.option("--once", is_flag=True, help="Run what is due now, and say how it went.")
@click.option(
    "--interval",
    metavar="DURATION",
    callback=seconds,
    default=f"{DEFAULT_INTERVAL:g}s",
    show_default=True,
    help="How often to look at what is due.",
)
@click.option(
    "--lease",
    metavar="DURATION",
    callback=seconds,
    default=f"{DEFAULT_LEASE:g}s",
    show_default=True,
    help="After how long without a word another replica leads the recovery.",
)
@click.option("--json", "as_json", is_flag=True, help="With --once: print the results as JSON.")
@runtime_options("maintain")
def command(runtime: Runtime, once: bool, interval: float, lease: float, as_json: bool) -> None:
    """Tick idle queues, recover, reconcile counters and clean up, each when the schema says so.

    Any number of replicas share the work; one of them leads, and recovers. With --once it exits 1
    when a job failed.
    """
    check_lease(lease, interval)
    if not once:
        if as_json:
            raise click.UsageError("--json is for --once; in a loop use --log-format json -v")
        role = Maintain(interval, lease)
        runtime.run(lambda stop: role.run(runtime, stop))
        return
    runtime.once()
    outcomes = asyncio.run(_once(runtime, lease))
    if as_json:
        click.echo(json.dumps([asdict(each) for each in outcomes]))
    else:
        for each in outcomes:
            click.echo(_line(each))
        if not outcomes:
            click.echo("nothing is due")
    if any(each.error is not None for each in outcomes):
        raise SystemExit(1)


async def _once(runtime: Runtime, lease: float) -> list[Outcome]:
    session = runtime.session()
    maintainer = Maintainer(session, loops.Stop(), lease=lease)
    try:
        return await maintainer.once()
    finally:
        await maintainer.close()
        await session.close()


def _line(outcome: Outcome) -> str:
    """`cleanup  ok  12 ms  keys_removed=3`."""
    result = outcome.result if isinstance(outcome.result, dict) else {}
    told = [f"{name}={value}" for name, value in result.items() if value and name != "errors"]
    state = "ok" if outcome.error is None else "FAILED"
    cells = [outcome.job.ljust(8), state, f"{outcome.seconds * 1000:.0f} ms", *told]
    return "  ".join([*cells, *([outcome.error] if outcome.error else [])])
