"""`python -m bench.latency`: from put to publish, with and without a doorbell.

Producers in this process put events at random instants, at a rate, each in a transaction of its
own; `tidegate relay` in another writes them to a pipe, and they are timed when they come out of it:
from before the put, its commit included, to behind the publisher.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator

import click
import psycopg

from bench.engine import report
from bench.engine.place import SCHEMA, Place, open_place
from pyshim import config
from pyshim.errors import TidegateError

P50, P99 = 5.0, 30.0  # ms with a doorbell
POLL = 2000.0  # ms: the longest pause of a relay that nobody wakes
PRODUCERS = 4
WARM_UP = 2.0  # seconds that do not count
PUT = f"""
select {SCHEMA}.outbox_put(%s, jsonb_build_object('at', %s::float8, 'text', %s::text))
"""
STEPS = [0.5, 0.9, 0.99, 0.999]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rate", default=500.0, show_default=True, help="Events a second.")
@click.option("--seconds", default=20.0, show_default=True, help="How long each kind is measured.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--doorbell", "intervals", multiple=True, default=["5 ms"], show_default=True)
@click.option("--sparse/--no-sparse", default=True, help="Also at one event in three seconds.")
@click.option("--database-url", help="A server, where a database is made (default DATABASE_URL).")
def main(
    rate: float,
    seconds: float,
    rounds: int,
    intervals: tuple[str, ...],
    sparse: bool,
    database_url: str | None,
) -> None:
    """The distribution of what an event waits between its put and its publication."""
    try:
        with open_place(config.database(database_url)) as place:
            for line in report.header(place.describe()):
                click.echo(line)
            for line in _run(place, rate, seconds, rounds, [*intervals, ""]):
                click.echo(line)
            if sparse:
                for line in _run(place, 1 / 3, 60.0, 1, [intervals[0], ""]):
                    click.echo(line)
    except TidegateError as error:
        raise click.ClickException(str(error)) from None


def _run(
    place: Place, rate: float, seconds: float, rounds: int, intervals: list[str]
) -> Iterator[str]:
    yield ""
    yield f"Put to publish at {rate:.3g} events/s, ms"
    yield (
        f"{'doorbell':10}{'p50':>9}{'p90':>9}{'p99':>9}{'p99.9':>9}{'max':>9}{'put p50':>9}"
        f"{'events':>8}{'load':>6}"
    )
    for number in range(rounds):
        for interval in intervals if number % 2 == 0 else reversed(intervals):
            topic = f"t{len(interval)}_{number}_{rate:.0f}".replace(" ", "")
            policy = json.dumps({"doorbell": interval or None})
            place.monitor.execute(f"select {SCHEMA}.topic_create(%s, %s)", [topic, policy])
            place.checkpoint()
            waits, puts = asyncio.run(_measure(place.url, topic, rate, seconds))
            waits.sort()
            found = [waits[min(int(len(waits) * step), len(waits) - 1)] for step in STEPS]
            ordinary = sorted(puts)[len(puts) // 2]
            if not interval:
                verdict = f"p50 ≤ {POLL:.0f} {'ok' if found[0] < POLL else 'ABOVE'}"
            else:
                held = found[0] < P50 and found[2] < P99
                verdict = f"p50 < {P50:.0f}, p99 < {P99:.0f} {'ok' if held else 'ABOVE'}"
            yield (
                f"{interval or 'none':10}{''.join(f'{each:9.2f}' for each in found)}"
                f"{waits[-1]:9.2f}{ordinary:9.2f}{len(waits):8}{os.getloadavg()[0]:6.1f}  {verdict}"
            )


async def _measure(
    url: str, topic: str, rate: float, seconds: float
) -> tuple[list[float], list[float]]:
    """What each event waited, and how long each put took, ms."""
    waits: list[float] = []
    puts: list[float] = []
    async with _relaying(url, topic) as out:
        begin = time.perf_counter() + WARM_UP
        end = begin + seconds

        async def read() -> None:
            while line := await out.readline():
                now = time.perf_counter()
                at = json.loads(line)["payload"]["at"]
                if at is None:  # the last of all
                    return
                if at >= begin:
                    waits.append((now - at) * 1000)

        reader = asyncio.ensure_future(read())
        share = rate / PRODUCERS
        await asyncio.gather(
            *(_produce(url, topic, share, begin, end, puts) for _ in range(PRODUCERS))
        )
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(PUT, [topic, None, ""])
        await reader
    return waits, puts


async def _produce(
    url: str, topic: str, rate: float, begin: float, end: float, puts: list[float]
) -> None:
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=0)
    chance = random.Random()
    text = "x" * 150
    async with connection:
        due = time.perf_counter()
        while (due := due + chance.expovariate(rate)) < end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            at = time.perf_counter()
            await connection.execute(PUT, [topic, at, text])
            if at >= begin:
                puts.append((time.perf_counter() - at) * 1000)


@contextlib.asynccontextmanager
async def _relaying(url: str, topic: str) -> AsyncIterator[asyncio.StreamReader]:
    relay = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pyshim", "relay", topic, "--to", "stdout",
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "TIDEGATE_DATABASE_URL": url},
    )  # fmt: skip
    assert relay.stdout is not None
    try:
        yield relay.stdout
    finally:
        relay.terminate()
        await relay.wait()


if __name__ == "__main__":
    main()
