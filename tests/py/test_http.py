"""Events relayed to a real HTTP server by a relay process: all of them, one refused, an outage."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest

from tests.brokers import (
    Relays,
    event_id,
    free_port,
    left,
    outage,
    outcomes,
    put,
    relays,
    until,
    waiting_errors,
)
from tests.messages import TRACE

pytestmark = pytest.mark.slow


class Receiver:
    """An http.server that counts what it accepted, and refuses ids of `refused`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/hook"
        self.seen: Counter[str] = Counter()
        self.traces: set[str | None] = set()
        self.attempts: set[str | None] = set()
        self.refused: dict[str, int] = {}
        self.start()

    def start(self) -> None:
        """Listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            connections: ClassVar[set[Any]] = set()

            def setup(self) -> None:
                super().setup()
                self.connections.add(self.connection)

            def do_HEAD(self) -> None:
                self.send_error(405)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                name = self.headers["ce-id"]
                status = receiver.refused.get(name, 204)
                if status == 204:
                    receiver.seen[name] += 1
                    receiver.traces.add(self.headers["traceparent"])
                    receiver.attempts.add(self.headers["ce-attempt"])
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *words: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, address: Any) -> None:
                pass

        self._handler = Handler
        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more, and hang up on everybody."""
        self._server.shutdown()
        self._server.server_close()
        for connection in self._handler.connections:
            connection.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    started = Receiver()
    yield started
    started.stop()


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("select tidegate.topic_create('t')")
        yield connection


@pytest.fixture
def relay(database: str, tmp_path: Path) -> Iterator[Relays]:
    with relays(database, tmp_path / "relay.log") as start:
        yield start


def test_every_event_arrives_once_and_a_refused_one_dies_alone(
    receiver: Receiver, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    receiver.refused = {event_id(7): 400, event_id(8): 500}
    put(conn, 1, 2000)
    relay(receiver.url)
    until(lambda: left(conn) == 1)
    assert receiver.seen == Counter(event_id(n) for n in range(1, 2001) if n not in (7, 8))
    assert receiver.traces == {TRACE}
    counted = outcomes(conn)
    assert (counted["acked"], counted["dead_lettered"]) == (1998, 1)
    row = conn.execute(
        "select group_key, reason, last_error from tidegate.dead_letter_list()"
    ).fetchone()
    assert row == ("7", "not_retryable", f"http://127.0.0.1:{receiver.port}: 400 Bad Request")
    assert "500 Internal Server Error" in waiting_errors(conn)["8"][1]
    receiver.refused = {}
    until(lambda: left(conn) == 0)
    assert receiver.seen[event_id(8)] == 1


def test_an_outage_under_load_charges_nobody(
    receiver: Receiver, database: str, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    process = relay(receiver.url)
    total = outage(database, conn, receiver)
    assert process.poll() is None
    assert set(receiver.seen) == {event_id(number) for number in range(1, total + 1)}
    assert receiver.attempts == {"1"}
    # repeats are those whose answer was lost, under the same id
    assert sum(receiver.seen.values()) - total <= 16
