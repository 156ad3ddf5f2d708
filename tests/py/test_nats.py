"""Against a real nats-server: every event once, one that it rejects, an outage under load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import nats
import psycopg
import pytest
from nats.js import JetStreamContext

from pyshim.publishers import Outcome, publisher_for
from tests.brokers import (
    Relays,
    ended,
    event_id,
    free_port,
    freeze,
    left,
    outage,
    outcomes,
    put,
    relays,
    until,
    waiting_errors,
)
from tests.messages import TRACE, message

pytestmark = pytest.mark.heavy


class Server:
    """A nats-server with JetStream, on a port of its own, which keeps what it stored."""

    def __init__(self, folder: Path, *options: str) -> None:
        found = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
        assert found, "these tests need nats-server: install the package of that name"
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._command = [found, "-a", "127.0.0.1", "-p", str(self.port)]
        self._command += ["-js", "-sd", str(folder / "jetstream"), *options]
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
        until(self._answers)

    def stop(self) -> None:
        """Stop; what it stored is kept."""
        ended(self.process)

    def ask(self, question: Any) -> Any:
        """The answer of `question(jetstream)`, over a connection for that alone."""

        async def over() -> Any:
            client = await nats.connect(self.url)
            try:
                return await question(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(over())

    def stream(self, **settings: Any) -> None:
        """Make the stream ORDERS."""

        def make(jetstream: JetStreamContext) -> Coroutine[Any, Any, Any]:
            return jetstream.add_stream(name="ORDERS", subjects=["orders.>"], **settings)

        self.ask(make)

    def stored(self) -> list[Any]:
        """Every message of the stream, in order."""

        async def read(jetstream: JetStreamContext) -> list[Any]:
            count = (await jetstream.stream_info("ORDERS")).state.messages
            subscription = await jetstream.subscribe("orders.>", ordered_consumer=True)
            return [await subscription.next_msg(timeout=10) for _ in range(count)]

        found: list[Any] = self.ask(read)
        return found

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
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


def test_every_event_arrives_once_with_its_id_and_trace(
    broker: Server, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    broker.stream()
    put(conn, 1, 2000)
    relay(f"{broker.url}?subject=orders.{{topic}}&stream=ORDERS")
    until(lambda: left(conn) == 0)
    messages = broker.stored()
    assert [message.headers["Nats-Msg-Id"] for message in messages] == [
        event_id(number) for number in range(1, 2001)
    ]
    envelope = json.loads(messages[0].data)
    assert (envelope["event_id"], envelope["payload"]) == (event_id(1), {"n": 1})
    assert messages[0].headers["traceparent"] == TRACE
    assert outcomes(conn) == {"acked": 2000}


def test_one_event_that_is_rejected_fails_alone_with_its_own_error(
    broker: Server, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    # given a stream that takes small messages
    broker.stream(max_msg_size=2000)
    put(conn, 1, 499)
    large = """jsonb_build_object('n', repeat('x', 3000))"""
    conn.execute(f"select tidegate.outbox_put('t', {large}, p_group_key => 'large')")
    # when they are relayed
    relay(f"{broker.url}?subject=orders.{{topic}}")
    until(lambda: outcomes(conn).get("acked") == 499)
    # then one waits for a retry with its own error
    until(lambda: "retried" in outcomes(conn))
    ((group, (attempts, error)),) = waiting_errors(conn).items()
    assert (group, attempts) == ("large", 1)
    assert "message size exceeds maximum allowed (error 10054)" in error


def test_a_subject_of_its_own_that_no_stream_takes_is_the_events_error(
    broker: Server, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    broker.stream()
    conn.execute("select tidegate.outbox_put('t', '1', p_group_key => 'orders.a')")
    conn.execute("select tidegate.outbox_put('t', '2', p_group_key => 'elsewhere')")
    relay(f"{broker.url}?subject={{group_key}}")
    until(lambda: outcomes(conn) == {"acked": 1, "retried": 1})
    assert "no stream takes the subject 'elsewhere'" in waiting_errors(conn)["elsewhere"][1]


def test_a_missing_stream_is_said_and_charges_nobody(
    broker: Server, conn: psycopg.Connection[Any], relay: Relays, tmp_path: Path
) -> None:
    put(conn, 1, 500)
    relay(f"{broker.url}?subject=orders.{{topic}}")
    log = tmp_path / "relay.log"
    until(lambda: "no stream takes the subject 'orders.t'" in log.read_text())
    assert outcomes(conn).keys() <= {"released"}
    # and when somebody makes it, all arrive
    broker.stream()
    until(lambda: left(conn) == 0)
    assert len(broker.stored()) == 500
    assert outcomes(conn).keys() == {"released", "acked"}
    assert len(log.read_text().splitlines()) < 10


def test_an_outage_under_load_charges_nobody(
    broker: Server, database: str, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    broker.stream()
    process = relay(f"{broker.url}?subject=orders.{{topic}}&timeout=2s")
    total = outage(database, conn, broker)
    assert process.poll() is None
    messages = broker.stored()
    # the stream knows an id again: no event is there twice
    assert sorted(message.headers["Nats-Msg-Id"] for message in messages) == [
        event_id(number) for number in range(1, total + 1)
    ]
    assert {json.loads(message.data)["attempt"] for message in messages} == {1}


def test_a_password_that_is_wrong_charges_nobody_and_is_not_logged(
    tmp_path: Path, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    server = Server(tmp_path, "--user", "u", "--pass", "right")
    try:
        put(conn, 1, 3)
        relay(f"nats://u:wrong-one@127.0.0.1:{server.port}?subject=orders.x")
        log = tmp_path / "relay.log"
        until(lambda: "Authorization" in log.read_text())
        assert "wrong-one" not in log.read_text()
        assert outcomes(conn) == {}
    finally:
        server.stop()


def test_groups_arrive_in_order_through_an_outage_and_a_killed_relay(
    broker: Server, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    # given a queue with 40 events in each of 10 groups, and two relays that keep their order
    broker.stream(duplicate_window=0.1)  # repeats are to be seen
    conn.execute("""select tidegate.queue_create('out', '{"max_attempts": 0, "lease": "3 s"}')""")
    conn.execute(
        "select tidegate.queue_send('out', to_jsonb(n), p_group_key => (n % 10)::text)"
        " from generate_series(0, 399) n"
    )
    target = f"{broker.url}?subject=orders.{{group_key}}&timeout=1s"
    first = relay(target, "--ordered", "--limit", "7", source="out")
    relay(target, "--ordered", "--limit", "7", source="out")
    # when one is killed at work, and the server goes away and comes back
    until(lambda: outcomes(conn).get("acked", 0) > 50)
    first.kill()
    broker.stop()
    relay(target, "--ordered", "--limit", "7", source="out")
    time.sleep(2)
    broker.start()
    until(lambda: left(conn) == 0, 120)
    # then the first arrivals of each group are all of it, in order
    arrived: dict[str, list[int]] = {}
    for each in broker.stored():
        numbers = arrived.setdefault(each.subject, [])
        number = json.loads(each.data)["payload"]
        if number not in numbers:
            numbers.append(number)
    assert arrived == {f"orders.{group}": list(range(group, 400, 10)) for group in range(10)}
    assert outcomes(conn).keys() <= {"acked", "released", "expired"}


async def test_what_is_not_acknowledged_is_not_published(broker: Server) -> None:
    await asyncio.to_thread(broker.stream)
    publisher = publisher_for(f"{broker.url}?subject=orders.{{topic}}&timeout=500ms")
    assert await publisher.publish([message(1)]) == [Outcome()]
    freeze(broker.process)
    outcomes = await publisher.publish([message(2), message(3)])
    assert [outcome.unreached for outcome in outcomes] == [True, True]
    broker.process.send_signal(signal.SIGCONT)
    # and the same publisher goes on when the server does
    await publisher.probe()
    assert await publisher.publish([message(2), message(3)]) == [Outcome(), Outcome()]
    await publisher.close()


async def test_a_late_answer_to_a_batch_that_was_given_up_is_nobody_elses(broker: Server) -> None:
    await asyncio.to_thread(broker.stream)
    publisher = publisher_for(f"{broker.url}?subject={{group_key}}")
    await publisher.probe()
    # given a batch that is given up while the server is frozen
    freeze(broker.process)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(publisher.publish([message(1, group_key="orders.a")]), 0.5)
    broker.process.send_signal(signal.SIGCONT)
    # when the next one, over the same connection, holds an event that no stream takes
    (outcome,) = await publisher.publish([message(2, group_key="elsewhere")])
    await publisher.close()
    # then the answer to the first is not taken for its own
    assert "no stream takes the subject 'elsewhere'" in (outcome.error or "")
