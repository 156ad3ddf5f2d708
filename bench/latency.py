"""`python -m bench.latency`: from put to publish, with and without a doorbell.

pgbench puts events at random instants, at a rate, each in a transaction of its own, and a relay
writes them to a pipe. They are timed when they come out of it: from the beginning of the put, so
that its commit is included, to behind the publisher.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import click
import psycopg

from bench.engine import report
from bench.engine.place import SCHEMA, Place, open_place
from pyshim import config, embedded
from pyshim.errors import TidegateError

P50, P99 = 5.0, 30.0  # ms with a doorbell
POLL = 2000.0  # ms: the longest pause of a relay that nobody wakes
PRODUCERS = 4
WARM_UP = 2.0  # seconds that do not count
PUT = """
select tidegate.outbox_put('{topic}', jsonb_build_object(
    'at', extract(epoch from clock_timestamp()), 'text', repeat('x', 150)
));
"""
STEPS = [0.5, 0.9, 0.99, 0.999]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rate", default=500.0, show_default=True, help="Events a second.")
@click.option("--seconds", default=20.0, show_default=True, help="How long each kind is measured.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--doorbell", "intervals", multiple=True, default=["2 ms", "5 ms"], show_default=True)
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
        f"{'doorbell':10}{'p50':>9}{'p90':>9}{'p99':>9}{'p99.9':>9}{'max':>9}"
        f"{'events':>8}{'load':>6}{'steal':>7}"
    )
    for number in range(rounds):
        for interval in intervals if number % 2 == 0 else reversed(intervals):
            topic = f"t{len(interval)}_{number}_{rate:.0f}".replace(" ", "")
            policy = json.dumps({"doorbell": interval or None})
            place.monitor.execute(f"select {SCHEMA}.topic_create(%s, %s)", [topic, policy])
            place.checkpoint()
            before = _processor()
            waits = asyncio.run(_measure(place.url, topic, rate, seconds))
            stolen, passed = (now - then for now, then in zip(_processor(), before, strict=True))
            waits.sort()
            found = [waits[min(int(len(waits) * step), len(waits) - 1)] for step in STEPS]
            if not interval:
                verdict = f"p50 ≤ {POLL:.0f} {'ok' if found[0] < POLL else 'ABOVE'}"
            else:
                held = found[0] < P50 and found[2] < P99
                verdict = f"p50 < {P50:.0f}, p99 < {P99:.0f} {'ok' if held else 'ABOVE'}"
            yield (
                f"{interval or 'none':10}{''.join(f'{each:9.2f}' for each in found)}"
                f"{waits[-1]:9.2f}{len(waits):8}{os.getloadavg()[0]:6.1f}{stolen / passed:7.1%}"
                f"  {verdict}"
            )


def _processor() -> tuple[int, int]:
    """Ticks that other guests of the host have had of our processors, and all ticks, so far."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return ticks[7], sum(ticks)


async def _measure(url: str, topic: str, rate: float, seconds: float) -> list[float]:
    """What each event waited, ms."""
    waits: list[float] = []
    async with _relaying(url, topic) as out:
        await _put(url, topic)
        await out.readline()  # it is there
        begin = time.time() + WARM_UP

        async def read() -> None:
            while line := await out.readline():
                now = time.time()
                at = json.loads(line)["payload"]["at"]
                if at is None:  # the last of all
                    return
                if at >= begin:
                    waits.append((now - at) * 1000)

        reader = asyncio.ensure_future(read())
        await _produce(url, topic, rate, WARM_UP + seconds)
        await _put(url, topic)
        await reader
    return waits


async def _put(url: str, topic: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        event = """select tidegate.outbox_put(%s, '{"at": null}')"""
        await connection.execute(event, [topic])


async def _produce(url: str, topic: str, rate: float, seconds: float) -> None:
    """pgbench puts at instants of a Poisson process."""
    pgbench = embedded.installation(config.embedded_version()) / "bin" / "pgbench"
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(PUT.format(topic=topic))
        script.flush()
        producers = await asyncio.create_subprocess_exec(
            pgbench, "-n", "-M", "prepared", "-c", str(PRODUCERS), "-j", "1", "-R", str(rate),
            "-T", str(round(seconds)), "-f", script.name, "-d", url,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        if await producers.wait() != 0:
            raise click.ClickException("pgbench failed")


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
