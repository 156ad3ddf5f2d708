"""`python -m bench.relay`: events a second through a relay, beside a client that has no database.

Question: what does it cost that events are claimed under a lease and settled? Beside the relay, at
batch 500, stands a bare loop: it makes the same envelopes from rows that are in memory already, and
hands them to the same broker with the same client library, 500 at a time, waiting for all answers
of a batch before the next. They take turns in one run, on brokers that this starts; what counts is
the median of the ratios. To Redis the bare loop is the quicker of redis-py's synchronous and its
asynchronous pipeline; to NATS it is nats-py's publish_async. Beside that stands, without a bound, a
core publish that counts the acknowledgements: it would not know which event was refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import json
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import click
import nats
import redis
import redis.asyncio
from nats.aio.msg import Msg

from bench.engine import payloads
from bench.engine.place import SCHEMA, Place, open_place
from pyshim import config
from pyshim.connect import connect
from pyshim.publishers import publisher_for
from pyshim.relay import Relay
from pyshim.session import Session

BATCH = 500
BOUNDS = {"redis": 0.3, "nats": 0.5}
UNBOUND = "counted"  # the contender that is only shown

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Row(NamedTuple):
    """An event as a client has it that keeps its own list."""

    message_id: int
    event_id: UUID
    payload: str
    headers: dict[str, Any]
    enqueued_at: datetime


Send = Callable[[Sequence[Row]], Awaitable[None]]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--events", default=3_000, show_default=True, help="Events a round.")
@click.option("--rounds", default=15, show_default=True, help="The first warms up.")
@click.option("--broker", type=click.Choice(list(BOUNDS)), help="Only this one [default: both].")
@click.option("--profile", metavar="FILE", help="Write what cProfile sees of the relay.")
@click.option("--database-url", help="A server, where a database is made (default DATABASE_URL).")
def main(
    events: int, rounds: int, broker: str | None, profile: str | None, database_url: str | None
) -> None:
    """Events a second, relay beside bare."""
    chosen = [broker] if broker else list(BOUNDS)
    with open_place(config.database(database_url)) as place:
        place.connection.execute(f"select {SCHEMA}.topic_create('t')")
        for each in chosen:
            asyncio.run(_beside(place, each, events, rounds, profile))


async def _beside(place: Place, broker: str, events: int, rounds: int, profile: str | None) -> None:
    open_broker = _redis if broker == "redis" else _nats
    profiler = cProfile.Profile() if profile else None
    ratios: list[float] = []
    seen: dict[str, list[float]] = {}
    spent: dict[str, float] = {}
    async with open_broker() as (target, contenders, empty):
        for number in range(rounds + 1):
            rates = {}
            for name, send in contenders.items():
                rows, cpu = _rows(events), time.process_time()
                rates[name] = events / await _bare(send, rows)
                spent[name] = spent.get(name, 0.0) + time.process_time() - cpu
                await empty()
            place.rest(f"{SCHEMA}.ready", f"{SCHEMA}.lease")
            took, cpu = await _relay(place, target, events, profiler)
            rates["relay"], spent["relay"] = events / took, spent.get("relay", 0.0) + cpu
            await empty()
            best = max(rate for name, rate in rates.items() if name not in ("relay", UNBOUND))
            if number:
                ratios.append(rates["relay"] / best)
                for name, rate in rates.items():
                    seen.setdefault(name, []).append(rate)
            else:
                spent.clear()
            told = "  ".join(f"{name} {rate:6.0f}/s" for name, rate in rates.items())
            click.echo(f"{broker}: {told}" + ("" if number else "  (warms up)"))
    if profiler and profile:
        profiler.dump_stats(profile)
    median = statistics.median(ratios)
    verdict = "ok" if median >= BOUNDS[broker] else "BELOW"
    click.echo(
        f"relay / bare to {broker}: median {median:.2f} of {[round(each, 2) for each in ratios]}"
        f"  ≥ {BOUNDS[broker]} {verdict}"
    )
    for name, rates_ in seen.items():
        micros = spent[name] / events / rounds * 1e6
        click.echo(
            f"  {name}: best {max(rates_):.0f}/s, median {statistics.median(rates_):.0f}/s,"
            f" {micros:.0f} µs of CPU an event in this process"
        )


async def _relay(
    place: Place, target: str, events: int, profiler: cProfile.Profile | None
) -> tuple[float, float]:
    """Seconds that a relay takes for so many events, which are there before; seconds of CPU."""
    messages = payloads.small(1000)
    for start in range(0, events, 1000):
        place.connection.execute(
            f"select count(*) from {SCHEMA}.outbox_put_many('t', %s::jsonb[])",
            (messages[: min(1000, events - start)],),
        )
    database = config.Database(place.url, "the bench")
    session = Session(lambda: connect(database), SCHEMA)
    publisher = publisher_for(target)
    relay = Relay(session, publisher, "t", limit=BATCH)
    await publisher.probe()
    await session.call("select 1 as one", {})
    if profiler:
        profiler.enable()
    began, cpu = time.perf_counter(), time.process_time()
    while relay.totals.published < events:
        await relay.step()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    if profiler:
        profiler.disable()
    await relay.close()
    await session.close()
    await publisher.close()
    return took, cpu


async def _bare(send: Send, rows: Sequence[Row]) -> float:
    began = time.perf_counter()
    for start in range(0, len(rows), BATCH):
        await send(rows[start : start + BATCH])
    return time.perf_counter() - began


def _rows(count: int) -> list[Row]:
    texts, now = payloads.small(1000), datetime.now(timezone.utc)
    return [Row(n, uuid4(), texts[n % len(texts)], {}, now) for n in range(count)]


def _envelope(row: Row) -> str:
    """The same text as the relay's."""
    head = _encode(
        {
            "event_id": str(row.event_id),
            "topic": "t",
            "message_id": row.message_id,
            "attempt": 1,
            "group_key": None,
            "tenant": None,
            "run_id": None,
            "headers": row.headers,
            "enqueued_at": row.enqueued_at.isoformat(),
        }
    )
    return f'{head[:-1]},"payload":{row.payload}}}'


Broker = tuple[str, dict[str, Send], Callable[[], Awaitable[Any]]]


@contextlib.asynccontextmanager
async def _redis() -> AsyncIterator[Broker]:
    with server("redis-server", "--port", "{port}", "--save", "", "--dir", "{folder}") as port:
        url = f"redis://127.0.0.1:{port}/0"
        plain, client = redis.Redis.from_url(url), redis.asyncio.Redis.from_url(url)

        async def with_sync(rows: Sequence[Row]) -> None:
            pipeline = plain.pipeline(transaction=False)
            for row in rows:
                fields = {"event_id": str(row.event_id), "envelope": _envelope(row)}
                pipeline.xadd("s", fields)  # type: ignore[arg-type]
            pipeline.execute()

        async def with_async(rows: Sequence[Row]) -> None:
            pipeline = client.pipeline(transaction=False)
            for row in rows:
                fields = {"event_id": str(row.event_id), "envelope": _envelope(row)}
                pipeline.xadd("s", fields)  # type: ignore[arg-type]
            await pipeline.execute()

        yield f"{url}?stream=s", {"sync": with_sync, "async": with_async}, client.flushall
        await client.aclose()
        plain.close()


@contextlib.asynccontextmanager
async def _nats() -> AsyncIterator[Broker]:
    with server("nats-server", "-a", "127.0.0.1", "-p", "{port}", "-js", "-sd", "{folder}") as port:
        client = await nats.connect(f"nats://127.0.0.1:{port}")
        jetstream = client.jetstream()
        await jetstream.add_stream(name="S", subjects=["t"])
        inbox = client.new_inbox()
        state: dict[str, Any] = {"left": 0, "all": asyncio.Event()}

        async def hear(message: Msg) -> None:
            assert b"error" not in message.data
            state["left"] -= 1
            if state["left"] == 0:
                state["all"].set()

        await client.subscribe(inbox, cb=hear)

        async def with_core(rows: Sequence[Row]) -> None:
            # As its authors measure it: published with one inbox for all answers.
            state["left"], state["all"] = len(rows), asyncio.Event()
            for row in rows:
                headers = {"Nats-Msg-Id": str(row.event_id)}
                data = _envelope(row).encode()
                await client.publish("t", data, reply=inbox, headers=headers)
            await state["all"].wait()

        async def with_jetstream(rows: Sequence[Row]) -> None:
            for row in rows:
                headers = {"Nats-Msg-Id": str(row.event_id)}
                await jetstream.publish_async("t", _envelope(row).encode(), headers=headers)
            await jetstream.publish_async_completed()

        contenders = {UNBOUND: with_core, "publish_async": with_jetstream}
        yield (
            f"nats://127.0.0.1:{port}?subject=t&stream=S",
            contenders,
            lambda: jetstream.purge_stream("S"),
        )
        await client.close()


@contextlib.contextmanager
def server(program: str, *options: str) -> Iterator[int]:
    """A broker on a port of its own, which it yields."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
    if found is None:
        raise click.ClickException(f"this bench needs {program}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        words = [each.format(port=port, folder=folder) for each in options]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen([found, *words], stdout=quiet, stderr=quiet)
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
