"""`python -m bench.engine`: what the engine costs beside bare SQL, in one interleaved run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import psycopg

from bench.engine import payloads, pinned, report
from bench.engine.contenders import Bare, Contender, Outbox, Queue
from bench.engine.life import PHASES, Sample, measure
from bench.engine.meter import Connection, Cpu, Wal
from bench.engine.report import Line
from bench.engine.sweep import Sweep
from pyshim import config, embedded, migrate
from pyshim.connect import connect

SCHEMA = "tidegate_bench"
CPU_BOUND = {1: 1.8, 10: 1.3, 100: 1.25, 500: 1.25}
WAL_BOUND = {1: 2.0, 100: 1.35}
_SERVER = {
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "wal_compression": "off",
    "synchronous_commit": "on",
}
# Both contenders plan once, and never by a table that happened to be empty.
_SESSION = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set jit = off"


@contextlib.contextmanager
def _database() -> Iterator[tuple[str, str]]:
    """URL of a server with an installation of its own, and where it came from."""
    named = os.environ.get("TIDEGATE_DATABASE_URL") or os.environ.get("DATABASE_URL")
    with contextlib.ExitStack() as stack:
        if named:
            url, origin = named, "DATABASE_URL"
        else:
            server = stack.enter_context(embedded.running(fsync=True, settings=_SERVER))
            url, origin = (
                server.url,
                "embedded: " + ", ".join(f"{name}={value}" for name, value in _SERVER.items()),
            )

        async def install() -> None:
            async with await connect(config.Database(url, origin)) as connection:
                await connection.execute(f"drop schema if exists {SCHEMA} cascade")
                await migrate.apply(connection, SCHEMA)

        asyncio.run(install())
        yield url, origin
        if named:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(f"drop schema {SCHEMA} cascade")


def _lives(
    connection: Connection, wal: Wal, cpu: Cpu, rounds: int, count: int, texts: list[str]
) -> Iterator[Line]:
    """Put, claim, settle at each batch: contenders take turns, medians of the rounds."""
    contenders: list[Contender] = [
        Bare(connection),
        Queue(connection, SCHEMA),
        Outbox(connection, SCHEMA),
    ]
    for batch in (1, 10, 100, 500):
        amount = min(count, 100 * batch) if batch > 1 else count // 10
        amount -= amount % batch
        samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
        for number in range(rounds + 1):
            for contender in contenders:
                sample = measure(contender, texts[:amount], batch, cpu, wal)
                if number:  # the first round warms up
                    samples[contender.name].append(sample)
        cost = {
            name: {
                "cpu": statistics.median(sum(s.cpu[p] for p in PHASES) for s in found),
                "wal": statistics.median(sum(s.wal.values()) for s in found),
                "rate": 1e6 / statistics.median(sum(s.time[p] for p in PHASES) for s in found),
            }
            for name, found in samples.items()
        }
        rates = ", ".join(f"{name} {c['rate']:,.0f}/s" for name, c in cost.items())
        click.echo(f"batch {batch}: whole lives by wall clock: {rates}", err=True)
        for name in ("queue", "outbox"):
            if cpu.is_known:
                yield Line(
                    f"{name}, CPU at batch {batch}",
                    "µs/msg",
                    cost[name]["cpu"],
                    cost["bare"]["cpu"],
                    CPU_BOUND[batch],
                )
            if batch in WAL_BOUND:
                yield Line(
                    f"{name}, WAL at batch {batch}",
                    "B/msg",
                    cost[name]["wal"],
                    cost["bare"]["wal"],
                    WAL_BOUND[batch],
                )


def _large(connection: Connection, wal: Wal, cpu: Cpu, rounds: int, count: int) -> Iterator[Line]:
    """Payloads of 8 and 64 kB, and that nothing of them is left."""
    contenders: list[Contender] = [Bare(connection), Queue(connection, SCHEMA)]
    for size, amount in ((8192, count), (65536, max(count // 8, 20))):
        texts = payloads.large(amount, size)
        samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
        for number in range(rounds + 1):
            for contender in contenders:
                sample = measure(contender, texts, 10, cpu, wal)
                if number:
                    samples[contender.name].append(sample)
        for what, unit in (("cpu", "µs/msg"), ("wal", "B/msg")):
            ours, bare = (
                statistics.median(sum(getattr(s, what).values()) for s in samples[name])
                for name in ("queue", "bare")
            )
            if bare:
                yield Line(f"payload of {size // 1024} kB, {what.upper()}", unit, ours, bare, 1.2)
    row = connection.execute(f"select count(*) from {SCHEMA}.body").fetchone()
    if row != (0,):
        raise RuntimeError(f"{row} bodies are left")


def _polls(connection: Connection, wal: Wal, cpu: Cpu) -> Iterator[Line]:
    """Polling an empty queue beside SELECT 1, and the WAL that it writes."""
    connection.execute(f"select {SCHEMA}.queue_create('idle')")
    poll = f"select message_id from {SCHEMA}.queue_claim('idle', 10)"

    def cost(statement: str) -> float:
        start = cpu.read()
        for _ in range(500):
            connection.execute(statement)
        return (cpu.read() - start) / 500_000

    cost(poll)
    before = wal.read()
    ours = statistics.median(cost(poll) for _ in range(5))
    written = wal.read() - before
    bare = statistics.median(cost("select 1") for _ in range(5))
    click.echo(f"WAL of 2,500 polls of an idle queue: {written} bytes", err=True)
    if cpu.is_known:
        yield Line("poll of an empty queue (bare: SELECT 1)", "µs", ours, bare, 4.0)


def _pinned(
    connection: Connection,
    connect_: Callable[[], Connection],
    cpu: Cpu,
    texts: list[str],
    messages: int,
) -> Iterator[Line]:
    """Claims after many messages against claims after few, with the horizon pinned."""
    for variant in pinned.VARIANTS:
        connection.execute(f"delete from {SCHEMA}.lease")
        connection.execute(f"delete from {SCHEMA}.scheduled")
        connection.execute(f"delete from {SCHEMA}.ready")
        connection.execute(f"select {SCHEMA}.queue_create('pinned')")
        with variant(connect_, SCHEMA):
            first, last = pinned.measure(connection, SCHEMA, cpu, texts, messages)
        what = f"pinned ({variant.__name__}), claim after {messages:,} (bare: after 10,000)"
        yield Line(what, "µs", last, first, 1.5)


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds and messages: under a minute or two.")
@click.option("--messages", default=1_000_000, help="How many pass while the horizon is pinned.")
@click.option("--name", default="latest", help="Name of the files in bench/results.")
def main(quick: bool, messages: int, name: str) -> None:
    """Measure Tidegate beside bare SQL in one run; see bench/README.md."""
    rounds, count = (3, 5_000) if quick else (5, 20_000)
    messages = min(messages, 30_000) if quick else messages
    texts = payloads.small(count)
    with _database() as (url, origin), contextlib.ExitStack() as stack:

        def connect_() -> Connection:
            connection = psycopg.connect(url, autocommit=True)
            connection.prepare_threshold = 2
            return connection

        connection = stack.enter_context(connect_())
        connection.execute(_SESSION)
        wal = Wal(stack.enter_context(connect_()))
        cpu = Cpu(connection)
        version = connection.info.server_version
        setting = {
            "server": f"PostgreSQL {version // 10000}.{version % 10000}",
            "settings": origin,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "rounds": str(rounds),
        }
        if not cpu.is_known:
            click.echo("The server's processes are not to be seen here: no CPU figures.", err=True)
        wal.monitor.execute("checkpoint")  # full page images fall into the round that warms up
        connection.execute(f"create schema if not exists {SCHEMA}_tables")
        connection.execute(f"set search_path = {SCHEMA}_tables")

        lines: list[Line] = []

        def add(found: Iterator[Line]) -> None:
            for line in found:
                lines.append(line)
                click.echo(f"{line.what}: {line.ratio:.2f} ({line.verdict})", err=True)

        add(_lives(connection, wal, cpu, rounds, count, texts))
        if cpu.is_known:
            sweep = Sweep(connection, SCHEMA, cpu)
            pairs = [
                (sweep.tidegate(texts[:5000], 500), sweep.bare(texts[:5000], 500))
                for _ in range(rounds + 1)
            ][1:]
            ours, bare = (statistics.median(pair[n] for pair in pairs) for n in (0, 1))
            add(iter([Line("sweep of 500 into one queue, CPU", "µs/msg", ours, bare, 1.3)]))
        add(_large(connection, wal, cpu, rounds, 80 if quick else 400))
        add(_polls(connection, wal, cpu))
        if cpu.is_known:
            add(_pinned(connection, connect_, cpu, texts, messages))
        connection.execute(f"drop schema {SCHEMA}_tables cascade")

    click.echo(report.table(lines))
    report.write(Path(__file__).parents[1] / "results", name, setting, lines)


if __name__ == "__main__":
    main()
