"""Against a real redis-server: an outage, and one entry that it rejects."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from tests.brokers import event_id, outage

pytestmark = pytest.mark.heavy


class Server:
    """A redis-server on a port of its own, which can be stopped and started."""

    def __init__(self, folder: Path, *options: str) -> None:
        found = shutil.which("redis-server")
        assert found, "these tests need redis-server: install the package of that name"
        self._binary = found
        self._folder = folder
        self._options = options
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start, empty unless an option says otherwise, and wait until it answers."""
        command = [self._binary, "--port", str(self.port), "--save", "", "--dir", str(self._folder)]
        self.process = subprocess.Popen([*command, *self._options], stdout=subprocess.DEVNULL)
        _until(self._answers)

    def stop(self) -> None:
        """Stop; what it held is gone."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(timeout=10)

    def client(self) -> redis.Redis:
        """A client, for the test to look with."""
        return redis.Redis.from_url(self.url, decode_responses=True)

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.exceptions.ConnectionError:
            return False


def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


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
def relay(database: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(target: str, *more: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "relay.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "pyshim", "relay", "t", "--to", target, *more],
                stderr=log,
                env={
                    **os.environ,
                    "TIDEGATE_DATABASE_URL": database,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                },
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def _put(conn: psycopg.Connection[Any], count: int) -> None:
    conn.execute(
        "select tidegate.outbox_put('t', jsonb_build_object('n', n), p_group_key => n::text)"
        " from generate_series(1, %s) n",
        (count,),
    )


def _left(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute("select sum(ready + scheduled + leased) from tidegate.backlog").fetchone()
    assert row is not None
    return int(row[0])


def _outcomes(conn: psycopg.Connection[Any]) -> dict[str, int]:
    return dict(conn.execute("select outcome, total from tidegate.outcomes").fetchall())


@pytest.mark.parametrize(("how", "seconds"), [("stopped", 60), ("frozen", 30)])
def test_an_outage_charges_nobody_and_drains_afterwards(
    broker: Server,
    conn: psycopg.Connection[Any],
    relay: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
    how: str,
    seconds: float,
) -> None:
    # given a relay at work
    process = relay(f"{broker.url}?stream=s&zset=z&socket_timeout=2")
    _put(conn, 1)
    _until(lambda: broker.client().xlen("s") == 1)
    # when Redis goes away for a minute with 10 000 events due
    if how == "stopped":
        broker.stop()
    else:
        broker.process.send_signal(signal.SIGSTOP)
    _put(conn, 10_000)
    time.sleep(seconds)
    # then nobody was charged, and the relay is patient
    assert process.poll() is None
    _until(lambda: "released" in _outcomes(conn))
    assert _outcomes(conn).keys() == {"acked", "released"}
    assert _outcomes(conn)["released"] <= 1000
    assert conn.execute("select tidegate.dead_letter_count()").fetchone() == (0,)
    assert len((tmp_path / "relay.log").read_text().splitlines()) < seconds / 3
    # and when it is back, all of them arrive, none charged
    if how == "stopped":
        broker.start()
    else:
        broker.process.send_signal(signal.SIGCONT)
    _until(lambda: _left(conn) == 0, 60)
    client = broker.client()
    entries = [json.loads(entry["envelope"]) for _, entry in client.xrange("s")]
    expected = 10_000 + (how == "frozen")
    assert {event["attempt"] for event in entries} == {1}
    assert len({event["event_id"] for event in entries}) == expected
    # the member of an event is always the same: no redelivery is in the sorted set twice
    assert client.zcard("z") == expected
    assert _outcomes(conn)["acked"] == 10_001


def test_an_outage_under_load_and_killed_relays_lose_nothing(
    database: str,
    conn: psycopg.Connection[Any],
    relay: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    # given a Redis that keeps what it acknowledged, and two relays
    broker = Server(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    words = (f"{broker.url}?stream=s&socket_timeout=2", "--lease", "3s")
    running = [relay(*words), relay(*words)]

    def kill() -> None:
        victim = running.pop(0)
        victim.kill()
        victim.wait()
        running.append(relay(*words))

    # when one is killed, Redis stops and comes back, and the other one is killed
    try:
        total = outage(
            database, conn, broker, meanwhile=kill, may=frozenset({"acked", "released", "expired"})
        )
        entries = [json.loads(entry["envelope"]) for _, entry in broker.client().xrange("s")]
    finally:
        broker.stop()
    # then all of them are there, and those that are there twice have the same id
    ids: dict[int, set[str]] = {}
    for event in entries:
        ids.setdefault(event["payload"]["n"], set()).add(event["event_id"])
    assert ids == {number: {event_id(number)} for number in range(1, total + 1)}
    log = (tmp_path / "relay.log").read_text().splitlines()
    assert all(line.startswith("at=") for line in log)
    assert len(log) < 40


def test_one_entry_that_redis_rejects_fails_alone_with_its_own_error(
    broker: Server, conn: psycopg.Connection[Any], relay: Callable[..., subprocess.Popen[bytes]]
) -> None:
    # given 500 events for streams of their own, one of which is no stream
    client = broker.client()
    client.set("t:250", "a string")
    _put(conn, 500)
    # when they are relayed
    relay(broker.url + "?stream={topic}:{group_key}")
    _until(lambda: _outcomes(conn).get("acked") == 499)
    # then 499 are settled, and one is retried with its own error
    assert _outcomes(conn)["retried"] == 1
    rows = conn.execute("select group_key, attempts, errors from tidegate.scheduled").fetchall()
    assert [(row[0], row[1]) for row in rows] == [("250", 1)]
    assert "WRONGTYPE" in json.dumps(rows[0][2])
    assert client.xlen("t:251") == 1
    # and it goes through when its key is free
    client.delete("t:250")
    _until(lambda: _left(conn) == 0)
    (entry,) = client.xrange("t:250")
    assert json.loads(entry[1]["envelope"])["attempt"] >= 2


def test_a_sorted_set_gives_out_events_by_their_time(
    broker: Server, conn: psycopg.Connection[Any], relay: Callable[..., subprocess.Popen[bytes]]
) -> None:
    later, sooner = "2030-01-02T00:00:00Z", "2030-01-01T00:00:00Z"
    for run_at in (later, sooner):
        conn.execute(
            "select tidegate.outbox_put('t', '{}',"
            " p_headers => jsonb_build_object('run_at', %s::text))",
            (run_at,),
        )
    relay(broker.url + "?zset=due")
    client = broker.client()
    _until(lambda: client.zcard("due") == 2)
    popped = [json.loads(member)["headers"]["run_at"] for member, _ in client.zpopmin("due", 2)]
    assert popped == [sooner, later]


def test_a_password_that_is_wrong_charges_nobody(
    broker: Server,
    conn: psycopg.Connection[Any],
    relay: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
) -> None:
    broker.client().config_set("requirepass", "right")
    _put(conn, 3)
    relay(broker.url.replace("//", "//:wrong-one@") + "?stream=s")
    _until(lambda: "failed" in (tmp_path / "relay.log").read_text())
    assert _outcomes(conn) == {}
    assert "wrong-one" not in (tmp_path / "relay.log").read_text()
