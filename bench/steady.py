"""`python -m bench.steady`: a steady load, while an idle transaction keeps vacuum from everything.

The whole pipeline as people run it: puts, `sweep`, a queue and `work`; a topic and `relay`; and
`maintain`. A line a window: rates, latencies from the put, and what the server spent on a message.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import click
import psycopg

from bench.engine.place import SCHEMA, open_place
from pyshim import config
from pyshim.registry import Delivery, Registry

registry = Registry()

_ROLES = (
    ("sweep", "--follow", "--interval", "200ms", "--no-cleanup"),
    ("work", "bench.steady:registry", "--queue", "steady_jobs"),
    ("relay", "steady_out", "--to", "stdout"),
    ("maintain",),
)


@registry.handler("steady_jobs")
async def handle(message: Delivery) -> None:
    """Says that it was called."""
    print(json.dumps({"topic": "steady_in", "payload": message.payload}), flush=True)


@dataclass
class Window:
    """What happened in a stretch of time. Latencies in seconds, from just before the put."""

    seconds: float = 0.0
    put: list[float] = field(default_factory=list)
    handled: list[float] = field(default_factory=list)
    published: list[float] = field(default_factory=list)
    cpu: float = 0.0  # seconds of all client backends
    pages: int = 0  # that they touched
    transactions: int = 0  # that were committed, in which they did
    dead: int = 0  # rows that vacuum may not remove

    @property
    def arrived(self) -> int:
        """Messages at the end of their way."""
        return len(self.handled) + len(self.published)

    def per_message(self, spent: float) -> float:
        """What was spent on a message that arrived."""
        return spent / self.arrived if self.arrived else math.inf

    def __str__(self) -> str:
        return (
            f"{len(self.put) / self.seconds:7.1f} {self.arrived / self.seconds:7.1f}"
            f" {_told(self.put)} {_told(self.handled)} {_told(self.published)}"
            f" {self.per_message(self.cpu) * 1e6:8.0f} {self.per_message(self.pages):8.1f}"
            f" {self.dead:9d}"
        )


HEAD = (
    "  put/s  done/s      put p50/p99 ms  handled p50/p99 ms  relayed p50/p99 ms"
    "   µs CPU    pages dead rows"
)


def _told(latencies: list[float]) -> str:
    if len(latencies) < 2:
        return f"{'–':>19}"
    cuts = statistics.quantiles(latencies, n=100)
    return f"{cuts[49] * 1e3:9.1f} {cuts[98] * 1e3:9.1f}"


class Steady:
    """The load, on one database. Half of the puts are routed to the queue, half are relayed."""

    def __init__(self, url: str, rate: float, *, pinned: bool = True) -> None:
        self.put = self.arrived = 0
        self._url = url
        self._rate = rate
        self._pinned = pinned
        self._window = Window()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._pids: dict[int, float] = {}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Roles, readers of what they print, the idle transaction and the producer."""
        with (
            contextlib.ExitStack() as stack,
            psycopg.connect(self._url, autocommit=True) as self._looker,
            psycopg.connect(self._url, autocommit=True) as idle,
        ):
            self._prepare()
            if self._pinned:
                idle.execute("begin isolation level repeatable read")
                idle.execute("select count(*) from pg_class")
            for words in _ROLES:
                stack.enter_context(self._role(words))
            producer = threading.Thread(target=self._produce)
            producer.start()
            stack.callback(producer.join)
            stack.callback(self._ending.set)
            yield

    def end(self) -> None:
        """Put no more."""
        self._ending.set()

    def windows(self, seconds: float, count: int) -> Iterator[Window]:
        """So many stretches, each as it ends."""
        self._spent()
        with self._lock:
            self._window = Window()
        (pages, transactions), began = self._touched(), time.monotonic()
        for _ in range(count):
            time.sleep(seconds)
            with self._lock:
                window, self._window = self._window, Window()
            now, (touched, committed) = time.monotonic(), self._touched()
            window.seconds, began = now - began, now
            window.pages, pages = touched - pages, touched
            window.transactions, transactions = committed - transactions, committed
            window.cpu = self._spent()
            window.dead = self._dead()
            yield window

    def _prepare(self) -> None:
        for statement in (
            "select {s}.topic_create('steady_in'), {s}.topic_create('steady_out')",
            "select {s}.queue_create('steady_jobs')",
            "select {s}.outbox_route('steady_in', 'steady_jobs')",
        ):
            self._looker.execute(statement.format(s=SCHEMA).encode())

    @contextlib.contextmanager
    def _role(self, words: tuple[str, ...]) -> Iterator[None]:
        process = subprocess.Popen(
            [sys.executable, "-m", "pyshim", *words],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env={
                **os.environ,
                "TIDEGATE_DATABASE_URL": self._url,
                "TIDEGATE_SCHEMA": SCHEMA,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
        assert process.stdout
        reader = threading.Thread(target=self._read, args=(process.stdout,))
        reader.start()
        try:
            yield
        finally:
            process.terminate()
            process.wait()
            reader.join()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            now, event = time.time(), json.loads(line)
            with self._lock:
                self.arrived += 1
                where = self._window
                way = where.handled if event["topic"] == "steady_in" else where.published
                way.append(now - event["payload"]["at"])

    def _produce(self) -> None:
        due = time.monotonic()
        with psycopg.connect(self._url, autocommit=True) as conn:
            while not self._ending.is_set():
                topic = "steady_out" if self.put % 2 else "steady_in"
                at, began = time.time(), time.monotonic()
                conn.execute(
                    f"select {SCHEMA}.outbox_put(%s, jsonb_build_object('at', %s::float8))",
                    (topic, at),
                )
                with self._lock:
                    self.put += 1
                    self._window.put.append(time.monotonic() - began)
                due = max(due + 1 / self._rate, began)  # what was missed is not made up for
                self._ending.wait(max(0.0, due - time.monotonic()))

    def _spent(self) -> float:
        """CPU seconds of the client backends since the last call; those that ended meanwhile are
        left out, and so are vacuum's workers."""
        rows = self._looker.execute(
            "select pid from pg_stat_activity where datname = current_database()"
            " and backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        now = {}
        for (pid,) in rows.fetchall():
            with contextlib.suppress(OSError):
                now[pid] = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
        spent = sum(cpu - self._pids.get(pid, 0.0) for pid, cpu in now.items())
        self._pids = now
        return spent

    def _touched(self) -> tuple[int, int]:
        """Pages that client backends have touched, and transactions that were committed. Before
        PostgreSQL 16 the pages are those of vacuum, too."""
        pages = "select sum(blks_hit + blks_read) from pg_stat_database"
        if self._looker.info.server_version >= 160000:
            pages = "select sum(hits + reads) from pg_stat_io where backend_type = 'client backend'"
        row: Any = self._looker.execute(
            f"select ({pages}), sum(xact_commit) from pg_stat_database".encode()
        ).fetchone()
        return int(row[0]), int(row[1])

    def _dead(self) -> int:
        row: Any = self._looker.execute(
            "select sum(n_dead_tup) from pg_stat_user_tables where schemaname = %s", (SCHEMA,)
        ).fetchone()
        return int(row[0])


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", default=30, show_default=True, help="Lines of the table.")
@click.option("--rate", default=100.0, show_default=True, help="Puts a second.")
@click.option("--unpinned", is_flag=True, help="Without the idle transaction, to compare.")
@click.option("--database-url", help="A server, where a database is made (default DATABASE_URL).")
def main(minutes: int, rate: float, unpinned: bool, database_url: str | None) -> None:
    """Rates, latencies and costs of each minute."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and the roles end with it
    with open_place(config.database(database_url)) as place:
        steady = Steady(place.url, rate, pinned=not unpinned)
        with steady.running():
            next(steady.windows(10, 1))  # until all roles are up
            click.echo(HEAD)
            for window in steady.windows(60, minutes):
                click.echo(str(window))
            steady.end()


if __name__ == "__main__":
    main()
