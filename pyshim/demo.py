"""`tidegate demo`: a shop whose orders travel through Tidegate, watched, and counted at the end.

The shop (`shop.sql`) is an application like any other. Its events are moved by the very loops that
`tidegate sweep --follow` and `tidegate relay` run; its workers claim and acknowledge as any would.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import jinja2
from psycopg.rows import namedtuple_row

from pyshim import calls, config, logs, loops, migrate
from pyshim.connect import Connection, connect
from pyshim.live import Live
from pyshim.loops import Pace, Progress, Stop
from pyshim.names import quote_ident
from pyshim.publishers import Publisher
from pyshim.publishers.stdout import StdoutPublisher
from pyshim.relay import Relay
from pyshim.runtime import Runtime, worker_name
from pyshim.sweeper import Sweeper

if TYPE_CHECKING:
    from typing_extensions import LiteralString

ORDERS = 1000
PRODUCERS = 4
PRODUCING = 8.0  # seconds
GIVE_UP = 45.0  # seconds
BATCH = 50

POISON = "twelve-fifty"


@dataclass
class Seen:
    """What left the database, by event_id, as its readers saw it."""

    printed: dict[str, int]
    stream: dict[str, int]


class Broker:
    """A Redis that answers, and the stream of this run in it."""

    def __init__(self, url: str, publisher: Publisher, client: Any, stream: str) -> None:
        self.url = url
        self.publisher = publisher
        self._client = client
        self._stream = stream

    @classmethod
    async def find(cls, url: str) -> Broker | None:
        """The broker at `url`, if one answers within a second."""
        try:
            import redis.asyncio

            from pyshim.publishers.redis import RedisPublisher
        except ImportError:
            return None
        stream = f"tidegate-demo:{uuid4()}"
        client = redis.asyncio.Redis.from_url(url, decode_responses=True, socket_connect_timeout=1)
        try:
            await client.ping()
        except (redis.exceptions.RedisError, OSError):
            await client.aclose()
            return None
        joint = "&" if "?" in url else "?"
        publisher = RedisPublisher.from_url(f"{url}{joint}stream={stream}")
        return cls(config.redact(url), publisher, client, stream)

    async def read(self, seen: dict[str, int]) -> None:
        """Read what is in the stream, as a consumer would."""
        for _, entry in await self._client.xrange(self._stream):
            event = json.loads(entry["envelope"])
            seen[event["event_id"]] = event["payload"]["order_id"]

    async def close(self) -> None:
        """Take the stream away again."""
        await self._client.delete(self._stream)
        await self._client.aclose()
        await self.publisher.close()


class Printout(Live):
    """Standard output, noting each event_id that goes through it."""

    def __init__(self, seen: dict[str, int]) -> None:
        super().__init__()
        self._seen = seen

    def write(self, text: str) -> int:
        """Write, and note."""
        for line in text.splitlines():
            if line.startswith('{"event_id"'):
                event = json.loads(line)
                self._seen[event["event_id"]] = event["payload"]["order_id"]
        return super().write(text)


class Demo:
    """One run against one empty database."""

    def __init__(self, runtime: Runtime, broker: Broker | None) -> None:
        self._runtime = runtime
        self._broker = broker
        self._seen = Seen({}, {})
        self._live = Printout(self._seen.printed)
        self._stop = Stop()
        self._started = 0.0
        self._committed = self._rolled_back = 0
        self._sweepers = [Sweeper(runtime.session("sweep")) for _ in range(2)]

    async def run(self) -> bool | None:
        """Install, produce, deliver, watch. True when the summary adds up; None when a signal ended
        it before there was one."""
        logs.configure(stream=self._live)
        self._stop.on_signals()
        watcher = await self._connect()
        try:
            await self._install(watcher)
            self._started = time.monotonic()
            await loops.together(self._stop, *self._running(), self._watch(watcher))
            if self._stop.interrupted:
                self._live.show([])
                return None
            return await self._summarise(watcher)
        finally:
            await watcher.close()

    async def _install(self, connection: Connection) -> None:
        report = await migrate.apply(connection, self._runtime.schema)
        text = (Path(__file__).parent / "shop.sql").read_text(encoding="utf-8")
        template = jinja2.Template(text, undefined=jinja2.StrictUndefined)
        shop = template.render(schema=quote_ident(self._runtime.schema))
        async with connection.transaction():
            await connection.execute(shop.encode())
        self._say(f"installed {report.routines} routines in schema {report.schema}, and a shop")

    # What runs.

    def _running(self) -> list[Coroutine[Any, Any, None]]:
        running = [self._produce(number) for number in range(PRODUCERS)]
        for number, sweeper in enumerate(self._sweepers, 1):
            running.append(self._loop(f"sweep {number}", sweeper.step, Pace.every(0.5)))
        for queue, table in (("pack", "shop.parcel"), ("letters", "shop.letter")):
            running.append(self._loop(queue, self._worker(queue, table), Pace.polling()))
        running.append(self._relay("order.shipped", StdoutPublisher(self._live)))
        if self._broker:
            running.append(self._relay("order.invoiced", self._broker.publisher))
        return running

    def _loop(self, name: str, step: loops.Step, pace: Pace) -> Coroutine[Any, Any, None]:
        return loops.run(name, step, pace, self._stop)

    def _relay(self, topic: str, publisher: Publisher) -> Coroutine[Any, Any, None]:
        relay = Relay(
            self._runtime.session(f"relay {topic}"), publisher, topic, worker=worker_name()
        )
        return self._loop(f"relay {topic}", relay.step, Pace.polling())

    def _worker(self, queue: str, table: str) -> loops.Step:
        session = self._runtime.session(queue)

        async def step() -> Progress:
            claim = {"queue": queue, "limit": BATCH, "lease": None, "worker": worker_name()}
            rows = await session.call(calls.QUEUE_CLAIM, {**claim, "lease_id": uuid4()})
            if not rows:
                return Progress.NONE
            await asyncio.sleep(0.002 * len(rows))
            done = {
                "table": table,
                "lease_id": rows[0].lease_id,
                "order_ids": [row.payload["order_id"] for row in rows],
                "event_ids": [row.event_id for row in rows],
            }
            await session.call(
                "select shop.finish(%(table)s, %(lease_id)s, %(order_ids)s::bigint[],"
                " %(event_ids)s::uuid[])",
                done,
            )
            return Progress.FULL if len(rows) == BATCH else Progress.SOME

        return step

    async def _produce(self, number: int) -> None:
        """Place a share of the orders, each in a transaction of its own; every tenth thinks better
        of it."""
        connection = await self._connect()
        try:
            for order in range(number, ORDERS, PRODUCERS):
                due = self._started + order / ORDERS * PRODUCING
                await self._stop.pause(due - time.monotonic())
                if self._stop:
                    break
                await self._place(connection, order)
        finally:
            await connection.close()

    async def _place(self, connection: Connection, order: int) -> None:
        price = POISON if order == ORDERS // 3 else f"{random.randint(500, 20000) / 100:.2f}"
        await connection.execute("begin")
        await connection.execute(
            "select shop.place_order(%s, %s, %s)",
            (f"customer {order % 97}", price, self._broker is not None),
        )
        if order % 10 == 5:
            await connection.execute("rollback")
            self._rolled_back += 1
        else:
            await connection.execute("commit")
            self._committed += 1

    # What is seen.

    async def _watch(self, connection: Connection) -> None:
        """Show the flow until everything has arrived or time is up, then stop all."""
        shown_at = -10.0
        try:
            while not self._stop and self._seconds() < GIVE_UP:
                flow = await self._flow(connection)
                self._live.show([self._line(flow), *_table(flow)])
                if not self._live.is_terminal and self._seconds() - shown_at >= 2:
                    shown_at = self._seconds()
                    self._say(self._line(flow))
                produced = self._committed + self._rolled_back == ORDERS
                if produced and not any(row.waiting for row in flow):
                    break
                await self._stop.pause(0.2)
        finally:
            self._stop.set()

    async def _flow(self, connection: Connection) -> list[Way]:
        """The flow as the database and the readers outside know it now."""
        if self._broker:
            await self._broker.read(self._seen.stream)
        outside = {"order.shipped": self._seen.printed, "order.invoiced": self._seen.stream}
        rows = await _rows(connection, "select * from shop.flow")
        return [
            Way(
                row.topic,
                row.target,
                row.committed,
                len(outside[row.topic]) if row.delivered is None else row.delivered,
                row.retried,
                row.dead,
            )
            for row in rows
            if self._broker or row.topic != "order.invoiced"
        ]

    def _line(self, flow: list[Way]) -> str:
        return (
            f"{self._seconds():5.1f} s  orders: {self._committed} committed,"
            f" {self._rolled_back} rolled back; events: {sum(way.delivered for way in flow)}"
            f" delivered, {sum(way.waiting for way in flow)} on their way,"
            f" {sum(way.dead for way in flow)} dead"
        )

    async def _summarise(self, connection: Connection) -> bool:
        """Print the last state and what is wrong with it; true when nothing is."""
        flow = await self._flow(connection)
        [shop] = await _rows(connection, "select * from shop.books")
        dead = await _rows(connection, "select * from shop.loss")
        self._live.show([])
        for line in ("", *_table(flow), ""):
            self._say(line)
        for row in dead:
            self._say(f"dead letter of {row.channel}: {row.reason} after {row.attempts} attempts:")
            self._say(f"  {row.last_error}")
        outside = {*self._seen.printed.values(), *self._seen.stream.values()}
        phantoms = shop.phantoms + len(outside - set(shop.order_ids))
        wrong = [
            f"{way.topic} to {way.target}: {way.committed} committed is not"
            f" {way.delivered} delivered + {way.dead} dead"
            for way in flow
            if way.waiting
        ]
        if shop.orders != self._committed or self._committed + self._rolled_back != ORDERS:
            wrong.append(
                f"{ORDERS} orders were to be placed; {self._committed} were committed and"
                f" {self._rolled_back} rolled back, and the shop has {shop.orders}"
            )
        if phantoms:
            wrong.append(f"{phantoms} orders were seen that never were committed")
        if shop.left_over:
            wrong.append(f"{shop.left_over} messages are left in the database")
        self._say(
            f"{shop.orders} orders committed and {self._rolled_back} rolled back,"
            f" of which consumers saw {phantoms}; {shop.left_over} messages left"
        )
        for line in wrong:
            self._say(f"WRONG: {line}")
        if not wrong:
            self._say("it adds up: committed = delivered + dead, on every way")
        return not wrong

    async def _connect(self) -> Connection:
        return await connect(self._runtime.database, application_name="tidegate demo")

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _say(self, line: str) -> None:
        self._live.write(line + "\n")
        self._live.flush()


@dataclass(frozen=True)
class Way:
    """One way that events go, and how many are where."""

    topic: str
    target: str
    committed: int
    delivered: int
    retried: int
    dead: int

    @property
    def waiting(self) -> int:
        """Committed, and neither delivered nor dead yet."""
        return self.committed - self.delivered - self.dead


def _table(flow: list[Way]) -> list[str]:
    heads = ("committed", "delivered", "retried", "dead", "waiting")
    lines = [f"  {'topic':<16}{'goes to':<18}" + "".join(f"{head:>11}" for head in heads)]
    for way in flow:
        counts = "".join(f"{getattr(way, head):>11}" for head in heads)
        lines.append(f"  {way.topic:<16}{way.target:<18}{counts}")
    return lines


async def _rows(connection: Connection, query: LiteralString) -> list[Any]:
    cursor = connection.cursor(row_factory=namedtuple_row)
    return await (await cursor.execute(query)).fetchall()
