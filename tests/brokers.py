"""What the tests against real brokers share: relays as processes, events, an outage under load."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import psycopg

from tests.messages import TRACE

Relays = Callable[..., "subprocess.Popen[bytes]"]


class Broker(Protocol):
    """A server that can be stopped and started again."""

    def start(self) -> None:
        """Start, and wait until it answers."""

    def stop(self) -> None:
        """Stop."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def freeze(process: subprocess.Popen[Any]) -> None:
    """Stop a process of ours where it stands, every thread of it; SIGCONT thaws it."""
    process.send_signal(signal.SIGSTOP)
    threads = Path(f"/proc/{process.pid}/task")

    def stands() -> bool:
        stats = [(thread / "stat").read_text() for thread in threads.iterdir()]
        return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)

    until(stands)


def ended(process: subprocess.Popen[Any]) -> None:
    """End a process of ours, frozen or not."""
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def relays(
    database: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Relays]:
    """`start(target, *options, source="t")`: relays in processes of their own."""
    started: list[subprocess.Popen[bytes]] = []

    def start(target: str, *more: str, source: str = "t") -> subprocess.Popen[bytes]:
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "pyshim", "relay", source, "--to", target, *more],
                stderr=errors,
                env={
                    **os.environ,
                    "TIDEGATE_DATABASE_URL": database,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    **(environment or {}),
                },
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def event_id(number: int) -> str:
    """The id under which `put` puts event `number`."""
    return str(UUID(f"00000000-0000-4000-8000-{number:012d}"))


def put(conn: psycopg.Connection[Any], first: int, last: int) -> None:
    """Events first … last of topic t, each in a group of its own."""
    conn.execute(
        "select tidegate.outbox_put("
        "  't', jsonb_build_object('n', n), p_group_key => n::text,"
        "  p_headers => jsonb_build_object('traceparent', %s::text),"
        "  p_event_id => ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid)"
        " from generate_series(%s::int, %s::int) n",
        (TRACE, first, last),
    )


def left(conn: psycopg.Connection[Any]) -> int:
    """How many messages are alive."""
    row = conn.execute("select sum(ready + scheduled + leased) from tidegate.backlog").fetchone()
    assert row is not None
    return int(row[0])


def outcomes(conn: psycopg.Connection[Any]) -> dict[str, int]:
    """The tallies by outcome."""
    return dict(conn.execute("select outcome, total from tidegate.outcomes").fetchall())


def waiting_errors(conn: psycopg.Connection[Any]) -> dict[str, tuple[int, str]]:
    """group_key → attempts and last error of what waits for a retry."""
    rows = conn.execute(
        "select group_key, attempts, errors -> -1 ->> 'error' from tidegate.scheduled"
    )
    return {str(key): (int(attempts), str(error)) for key, attempts, error in rows.fetchall()}


def outage(
    database: str,
    conn: psycopg.Connection[Any],
    broker: Broker,
    *,
    seconds: float = 4.0,
    meanwhile: Callable[[], object] = lambda: None,
    may: frozenset[str] = frozenset({"acked", "released"}),
) -> int:
    """2 000 events in batches of 20, while `broker` is stopped for a while and started again, and
    `meanwhile` called on both sides of it. Returns when all are settled, their outcomes among those
    that `may` be: nobody was charged. How many there were."""
    total = 2000

    def produce() -> None:
        with psycopg.connect(database, autocommit=True) as mine:
            for first in range(1, total + 1, 20):
                put(mine, first, first + 19)
                time.sleep((seconds + 2) * 20 / total)

    producer = threading.Thread(target=produce)
    producer.start()
    time.sleep(1)
    meanwhile()
    broker.stop()
    time.sleep(seconds)
    broker.start()
    meanwhile()
    producer.join()
    until(lambda: left(conn) == 0, 90)
    assert outcomes(conn).keys() <= may, "nobody was charged"
    assert outcomes(conn)["acked"] == total
    assert conn.execute("select tidegate.dead_letter_count()").fetchone() == (0,)
    return total
