"""Against a real rabbitmq-server: every event once, those that it rejects, an outage under load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiormq
import aiormq.abc
import psycopg
import pytest

from tests.brokers import (
    Relays,
    ended,
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

pytestmark = pytest.mark.heavy

# Debian's wrapper, which is first in PATH, would become the user rabbitmq.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class Server:
    """A rabbitmq-server on ports and with an epmd of its own, which keeps what it stored."""

    def __init__(self, folder: Path) -> None:
        assert SERVER.exists(), "these tests need rabbitmq-server: install the package of that name"
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        (folder / "rabbitmq.conf").write_text("max_message_size = 20000\n")
        (folder / "plugins").write_text("[].")
        self._log = folder / "rabbitmq.log"
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tidegate{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        }
        self._epmd = subprocess.Popen(["epmd"], env=self._environment)
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [SERVER], env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        until(self._answers, 120)

    def stop(self) -> None:
        """Stop; what it stored is kept."""
        ended(self.process)

    def end(self) -> None:
        """Stop for good."""
        self.stop()
        ended(self._epmd)

    def ask(self, question: Any) -> Any:
        """The answer of `question(channel)`, over a connection for that alone."""

        async def over() -> Any:
            connection = await aiormq.connect(self.url)
            try:
                return await question(await connection.channel())
            finally:
                await connection.close()

        return asyncio.run(over())

    def queue(self, name: str, exchange: str = "", **arguments: Any) -> None:
        """Make a durable queue, and a durable topic exchange that feeds it."""

        async def make(channel: aiormq.abc.AbstractChannel) -> None:
            await channel.queue_declare(name, durable=True, arguments=arguments)
            if exchange:
                await channel.exchange_declare(exchange, exchange_type="topic", durable=True)
                await channel.queue_bind(name, exchange, routing_key="orders.#")

        self.ask(make)

    def taken(self, name: str) -> list[Any]:
        """Every message of a queue, taken out of it."""

        async def read(channel: aiormq.abc.AbstractChannel) -> list[Any]:
            found = []
            while (message := await channel.basic_get(name, no_ack=True)).body:
                found.append(message)
            return found

        found: list[Any] = self.ask(read)
        return found

    def _answers(self) -> bool:
        async def nothing(channel: aiormq.abc.AbstractChannel) -> bool:
            return True

        assert self.process.poll() is None, self._log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return bool(self.ask(nothing))
        return False


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("rabbitmq"))
    yield started
    started.end()


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    """A name that no other test has."""
    return f"q{abs(hash(request.node.name))}"


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
    rabbit: Server, queue: str, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    rabbit.queue(queue, "events")
    put(conn, 1, 2000)
    relay(f"{rabbit.url}?exchange=events&routing_key=orders.{{topic}}")
    until(lambda: left(conn) == 0)
    messages = rabbit.taken(queue)
    assert [message.header.properties.message_id for message in messages] == [
        event_id(number) for number in range(1, 2001)
    ]
    first = messages[0]
    assert first.header.properties.headers["traceparent"] == TRACE
    assert first.header.properties.delivery_mode == 2
    assert json.loads(first.body)["payload"] == {"n": 1}
    assert outcomes(conn) == {"acked": 2000}


def test_an_event_that_no_queue_takes_fails_alone_with_its_own_error(
    rabbit: Server, queue: str, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    rabbit.queue(queue)
    conn.execute(
        "select tidegate.outbox_put("
        "  't', '1', p_group_key => case n when 7 then 'nobody' else %s end"
        ") from generate_series(1, 500) n",
        (queue,),
    )
    relay(f"{rabbit.url}?routing_key={{group_key}}")
    until(lambda: outcomes(conn) == {"acked": 499, "retried": 1})
    ((group, (attempts, error)),) = waiting_errors(conn).items()
    assert (group, attempts) == ("nobody", 1)
    assert "no queue takes the routing key 'nobody'" in error
    assert len(rabbit.taken(queue)) == 499


def test_an_event_that_closes_the_channel_fails_alone_with_its_own_error(
    rabbit: Server, queue: str, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    # given a server that takes at most 20 000 bytes, and closes the channel for more
    rabbit.queue(queue)
    put(conn, 1, 30)
    large = "jsonb_build_object('n', repeat('x', 30000))"
    conn.execute(f"select tidegate.outbox_put('t', {large}, p_group_key => 'large')")
    put(conn, 31, 60)
    relay(f"{rabbit.url}?routing_key={queue}")
    until(lambda: outcomes(conn).get("acked") == 60)
    assert outcomes(conn) == {"acked": 60, "retried": 1}
    assert "larger than" in waiting_errors(conn)["large"][1]
    assert {message.header.properties.message_id for message in rabbit.taken(queue)} == {
        event_id(number) for number in range(1, 61)
    }


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("routing_key=nowhere", "no queue takes the routing key 'nowhere'"),
        ("exchange=nowhere&routing_key={group_key}", "no exchange 'nowhere'"),
    ],
)
def test_a_missing_queue_or_exchange_is_said_and_charges_nobody(
    rabbit: Server,
    conn: psycopg.Connection[Any],
    relay: Relays,
    tmp_path: Path,
    target: str,
    said: str,
) -> None:
    put(conn, 1, 20)
    relay(f"{rabbit.url}?{target}")
    until(lambda: said in (tmp_path / "relay.log").read_text())
    assert "guest:guest" not in (tmp_path / "relay.log").read_text()
    until(lambda: outcomes(conn) == {"released": 20})


def test_a_full_queue_that_is_everybodys_charges_nobody(
    rabbit: Server, queue: str, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    rabbit.queue(queue, **{"x-max-length": 5, "x-overflow": "reject-publish"})
    put(conn, 1, 20)
    relay(f"{rabbit.url}?routing_key={queue}")
    until(lambda: outcomes(conn).get("released", 0) > 0)
    assert outcomes(conn).keys() <= {"acked", "released"}
    # and when somebody makes room, the others come
    found: Counter[str] = Counter()

    def drained() -> bool:
        found.update(message.header.properties.message_id for message in rabbit.taken(queue))
        return left(conn) == 0

    until(drained)
    found.update(message.header.properties.message_id for message in rabbit.taken(queue))
    assert found == Counter(event_id(number) for number in range(1, 21))


def test_an_outage_under_load_charges_nobody(
    rabbit: Server, queue: str, database: str, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    rabbit.queue(queue)
    process = relay(f"{rabbit.url}?routing_key={queue}")
    total = outage(database, conn, rabbit)
    assert process.poll() is None
    messages = rabbit.taken(queue)
    # RabbitMQ keeps repeats: they carry the same id
    ids = Counter(message.header.properties.message_id for message in messages)
    assert set(ids) == {event_id(number) for number in range(1, total + 1)}
    assert {json.loads(message.body)["attempt"] for message in messages} == {1}


def test_a_password_that_is_wrong_charges_nobody_and_is_not_logged(
    rabbit: Server, conn: psycopg.Connection[Any], relay: Relays, tmp_path: Path
) -> None:
    put(conn, 1, 3)
    relay(f"amqp://guest:wrong-one@127.0.0.1:{rabbit.port}/?routing_key=q")
    log = tmp_path / "relay.log"
    until(lambda: "failed" in log.read_text())
    assert "wrong-one" not in log.read_text()
    assert outcomes(conn) == {}
