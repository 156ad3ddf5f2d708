"""Against the mock cluster of librdkafka, in a process of its own: there is no Kafka in Debian.

It speaks the protocol and keeps records in memory; it knows no size limits and no logins, and
cannot be started again on the same port. So an outage is a cluster that is frozen.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer

from tests.brokers import (
    Relays,
    ended,
    event_id,
    freeze,
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

MOCK = Path(__file__).parents[1] / "mock_kafka.py"


class Cluster:
    """The mock cluster. To stop it is to freeze it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(MOCK)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout
        self.servers = self.process.stdout.readline().strip()
        self.url = f"kafka://{self.servers}"

    def start(self) -> None:
        """Thaw."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Freeze."""
        freeze(self.process)

    def records(self, topic: str) -> list[Any]:
        """Every record of a topic."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "test",
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
            }
        )
        consumer.subscribe([topic])
        found: list[Any] = []
        ends = set()
        while len(ends) < 4:  # a topic of the mock cluster has four partitions
            for record in consumer.consume(500, 1.0):
                if record.error():
                    ends.add(record.partition())
                else:
                    found.append(record)
        consumer.close()
        return found


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    started = Cluster()
    yield started
    ended(started.process)


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("select tidegate.topic_create('t')")
        yield connection


@pytest.fixture
def relay(database: str, tmp_path: Path) -> Iterator[Relays]:
    with relays(database, tmp_path / "relay.log") as start:
        yield start


def _ids(records: list[Any]) -> Counter[str]:
    return Counter(dict(record.headers())["event_id"].decode() for record in records)


def test_every_event_arrives_once_with_its_id_key_and_trace(
    cluster: Cluster, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    put(conn, 1, 2000)
    relay(f"{cluster.url}/orders")
    until(lambda: left(conn) == 0)
    records = cluster.records("orders")
    assert _ids(records) == Counter(event_id(number) for number in range(1, 2001))
    assert dict(records[0].headers())["traceparent"].decode() == TRACE
    for record in records:
        assert record.key().decode() == str(json.loads(record.value())["payload"]["n"])
    assert outcomes(conn) == {"acked": 2000}


def test_one_event_that_is_rejected_fails_alone_with_its_own_error(
    cluster: Cluster, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    put(conn, 1, 250)
    large = "jsonb_build_object('n', repeat('x', 5000))"
    conn.execute(f"select tidegate.outbox_put('t', {large}, p_group_key => 'large')")
    put(conn, 251, 499)
    relay(f"{cluster.url}/orders?message.max.bytes=3000")
    until(lambda: outcomes(conn) == {"acked": 499, "retried": 1})
    ((group, (attempts, error)),) = waiting_errors(conn).items()
    assert (group, attempts) == ("large", 1)
    assert "Message size too large" in error


def test_an_outage_under_load_charges_nobody(
    cluster: Cluster, database: str, conn: psycopg.Connection[Any], relay: Relays
) -> None:
    process = relay(f"{cluster.url}/orders?timeout=2s")
    total = outage(database, conn, cluster, seconds=8)
    assert process.poll() is None
    records = cluster.records("orders")
    assert set(_ids(records)) == {event_id(number) for number in range(1, total + 1)}
    assert {json.loads(record.value())["attempt"] for record in records} == {1}


def test_a_cluster_that_is_not_there_charges_nobody_and_is_said_once_a_try(
    conn: psycopg.Connection[Any], relay: Relays, tmp_path: Path
) -> None:
    put(conn, 1, 3)
    relay("kafka://u:hunter2@127.0.0.1:1/orders?security.protocol=SASL_PLAINTEXT")
    log = tmp_path / "relay.log"
    until(lambda: "failed" in log.read_text())
    assert outcomes(conn) == {}
    assert "hunter2" not in log.read_text()
    assert all(line.startswith("at=") for line in log.read_text().splitlines())
