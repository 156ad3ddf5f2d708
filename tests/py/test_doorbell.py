"""The doorbell: who rings, who is woken, and what becomes of it when the line is cut.

Loops here pause for an hour: whatever they do after their first step, a bell has made them do.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pyshim import logs, loops
from pyshim.config import Database
from pyshim.connect import connect
from pyshim.doorbell import Doorbell, kept_alive
from pyshim.loops import Bell, Pace, Progress, Stop

HOUR = Pace.every(3600)


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        connection.execute("""select topic_create('orders', '{"doorbell": "1 minute"}')""")
        connection.execute("""select topic_create('always', '{"doorbell": "0"}')""")
        connection.execute("select topic_create('plain')")
        yield connection


@pytest.fixture
def heard(database: str) -> Iterator[Callable[[], list[str]]]:
    """`heard()`: the payloads that have come since it was last asked, in order."""
    with psycopg.connect(database, autocommit=True) as listener:
        listener.execute("listen tidegate")

        def ask() -> list[str]:
            # What was committed before is delivered before the answer to this.
            listener.execute("select 1")
            return [notify.payload for notify in listener.notifies(timeout=0)]

        yield ask


@pytest.fixture
def lines() -> Callable[[str], list[dict[str, Any]]]:
    """`lines(event)`: what was logged under that name, from warnings and news down."""
    written = io.StringIO()
    logs.configure("json", stream=written)

    def read(event: str) -> list[dict[str, Any]]:
        told = [json.loads(line) for line in written.getvalue().splitlines()]
        return [line for line in told if line["event"] == event]

    return read


class Loop:
    """A loop that asks a topic for its events, and is woken by a bell or not at all."""

    def __init__(self, database: str, topic: str, bell: Bell, pace: Pace = HOUR) -> None:
        self.steps = 0
        self.taken = 0
        self._database, self._topic, self._bell, self._pace = database, topic, bell, pace

    async def step(self) -> Progress:
        async with await psycopg.AsyncConnection.connect(self._database, autocommit=True) as conn:
            found = await conn.execute(
                "select * from tidegate.outbox_claim(%s, 10)", (self._topic,)
            )
            rows = await found.fetchall()
        self.steps += 1
        self.taken += len(rows)
        return Progress.SOME if rows else Progress.NONE

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stop = Stop()
        running = loops.run(self._topic, self.step, self._pace, stop, bell=self._bell)
        task = asyncio.ensure_future(running)
        try:
            yield
        finally:
            stop.set()
            await task


async def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


# Who rings


def test_nobody_rings_unless_asked_to(
    conn: psycopg.Connection[Any], heard: Callable[[], list[str]]
) -> None:
    conn.execute("select outbox_put('plain', '{}') from generate_series(1, 3)")
    assert heard() == []


def test_one_ring_an_interval_wakes_for_many_puts(
    conn: psycopg.Connection[Any], heard: Callable[[], list[str]]
) -> None:
    for _ in range(5):
        conn.execute("select outbox_put('orders', '{}')")
    assert heard() == ["topic orders"]
    # without an interval, one a transaction
    for _ in range(2):
        conn.execute("select outbox_put('always', '{}') from generate_series(1, 3)")
    assert heard() == ["topic always"] * 2


def test_a_ring_is_heard_when_its_transaction_commits_and_only_then(
    conn: psycopg.Connection[Any], heard: Callable[[], list[str]]
) -> None:
    with conn.transaction():
        conn.execute("select outbox_put('always', '{}')")
        assert heard() == []
    assert heard() == ["topic always"]
    with conn.transaction(force_rollback=True):
        conn.execute("select outbox_put('always', '{}')")
    assert heard() == []


def test_who_relies_on_a_ring_that_is_rolled_back_is_left_to_the_poll(
    conn: psycopg.Connection[Any], heard: Callable[[], list[str]]
) -> None:
    # The bound that docs/howto/wake-ups.md states: no ring is not no message.
    with conn.transaction(force_rollback=True):
        conn.execute("select outbox_put('orders', '{}')")
    conn.execute("select outbox_put('orders', '{}')")
    assert heard() == []


def test_a_sweep_rings_in_the_queues_it_delivers_to(
    conn: psycopg.Connection[Any], heard: Callable[[], list[str]]
) -> None:
    conn.execute("""select queue_create('loud', '{"doorbell": "1 s"}'), queue_create('quiet')""")
    conn.execute("select outbox_route('plain', 'loud'), outbox_route('plain', 'quiet')")
    conn.execute("select outbox_put('plain', '{}')")
    assert heard() == []
    conn.execute("select outbox_sweep()")
    assert heard() == ["queue loud"]


def test_what_is_requeued_and_what_a_barrier_fires_ring(
    conn: psycopg.Connection[Any], heard: Callable[[], list[str]]
) -> None:
    conn.execute("""select queue_create('loud', '{"doorbell": "0", "max_attempts": 1}')""")
    conn.execute("select queue_send('loud', '{}')")
    assert heard() == ["queue loud"]
    conn.execute("select queue_nack(lease_id) from queue_claim('loud')")
    assert heard() == []
    conn.execute("select dead_letter_requeue(array_agg(dead_letter_id)) from dead_letter_list()")
    assert heard() == ["queue loud"]
    conn.execute("select barrier_open('b', 1, p_callback_queue => 'loud')")
    conn.execute("select barrier_arrive('b', epoch, 1) from barrier_status('b')")
    assert heard() == ["queue loud"]


def test_an_installation_of_another_name_rings_under_that(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyshim import render

    name = "App-jobs of " + "x" * 51  # as long as a name may be
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(render.render(name).encode())
        conn.execute(f'listen "{name}"'.encode())
        conn.execute(f'set search_path = "{name}"'.encode())
        conn.execute("""select topic_create('t', '{"doorbell": "1 s"}')""")
        conn.execute("select outbox_put('t', '{}')")
        told = [(n.channel, n.payload) for n in conn.notifies(timeout=0)]
    assert told == [(name, "topic t")]


def test_a_prepared_transaction_cannot_ring_and_may_do_without(
    conn: psycopg.Connection[Any], heard: Callable[[], list[str]]
) -> None:
    name = f"bell {conn.info.dbname}"
    conn.execute("begin")
    conn.execute("select outbox_put('always', '{}')")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="LISTEN, UNLISTEN, or NOTIFY"):
        conn.execute(f"prepare transaction '{name}'".encode())
    conn.execute("rollback")

    conn.execute("begin")
    conn.execute("set local tidegate.doorbell = off")
    conn.execute("select outbox_put('always', '{}')")
    conn.execute(f"prepare transaction '{name}'".encode())
    conn.execute(f"commit prepared '{name}'".encode())
    assert heard() == []
    row = conn.execute("select ready from backlog where name = 'always'").fetchone()
    assert row == (1,)


# Who is woken


async def test_a_ring_wakes_the_loops_of_its_channel_and_no_other(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select queue_create('orders')")
    doorbell = Doorbell.at(Database(database, "the test"), "tidegate")
    orders = Loop(database, "orders", doorbell.bell("topic", "orders"))
    plain = Loop(database, "plain", doorbell.bell("topic", "plain"))
    same_name = Loop(database, "plain", doorbell.bell("queue", "orders"))
    any_topic = Loop(database, "always", doorbell.bell("topic"))
    async with (
        doorbell.listening(), orders.running(), plain.running(), same_name.running(),
        any_topic.running(),
    ):  # fmt: skip
        # given loops that have looked once more when they were connected, and sleep
        await _until(lambda: min(each.steps for each in (orders, plain, same_name)) == 2)
        assert doorbell.is_listening
        seen = any_topic.steps
        # when something is put into one topic
        conn.execute("select outbox_put('orders', '{}')")
        # then its loop takes it, who waits for any topic looks, and the others sleep on
        await _until(lambda: orders.taken == 1 and any_topic.steps > seen)
        assert (plain.steps, same_name.steps) == (2, 2)


async def test_what_rang_nobody_because_of_the_last_ring_is_found_soon(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    doorbell = Doorbell.at(Database(database, "the test"), "tidegate")
    loop = Loop(database, "orders", doorbell.bell("topic", "orders"))
    async with doorbell.listening(), loop.running():
        await _until(lambda: doorbell.is_listening and loop.steps == 2)
        conn.execute("select outbox_put('orders', '{}')")
        await _until(lambda: loop.taken == 1)
        # within the minute that the throttle lasts nobody rings, and the loop's pause is an hour
        conn.execute("select outbox_put('orders', '{}')")
        await _until(lambda: loop.taken == 2)


async def test_a_ring_during_a_step_is_not_overheard() -> None:
    bell, stop = Bell(), Stop()
    found: list[bool] = []

    async def step() -> Progress:
        found.append(True)
        if len(found) == 1:
            bell.ring()
        else:
            stop.set()
        return Progress.NONE

    await asyncio.wait_for(loops.run("test", step, HOUR, stop, bell=bell), 30)
    assert len(found) == 2


async def test_no_ring_ends_the_pause_after_an_error() -> None:
    # A broker that is down would be asked at the rate of the puts.
    bell, pauses = Bell(), []

    class Noting(Stop):
        async def pause(self, seconds: float, bell: Bell | None = None) -> None:
            pauses.append((seconds > 1000, bell is not None))
            if len(pauses) == 2:
                self.set()

    async def step() -> Progress:
        if not pauses:
            return Progress.NONE
        raise psycopg.OperationalError("gone")

    await loops.run("test", step, HOUR, Noting(), bell=bell)
    assert pauses == [(True, True), (True, False)]


async def test_pauses_begin_at_five_milliseconds_while_the_bell_is_live() -> None:
    bell = Bell()
    pauses: list[float] = []

    class Noting(Stop):
        async def pause(self, seconds: float, bell: Bell | None = None) -> None:
            pauses.append(seconds)
            if len(pauses) == 6:
                self.set()

    async def step() -> Progress:
        if len(pauses) == 1:
            bell.ring(from_channel=True)
        return Progress.NONE

    pace = Pace(interval=0.02, idle=0.1, idle_max=2.0, error=0.5, jitter=0.0)
    await loops.run("test", step, pace, Noting(), bell=bell)
    # the second step rings, which starts the doubling anew, without a moment to wait at first
    assert pauses == pytest.approx([0.1, 0.01, 0.0, 0.005, 0.01, 0.02])
    # and nobody who could ring is nobody to hurry for
    bell.silence()
    assert not bell.is_live


async def test_who_is_woken_in_vain_steps_back_and_who_finds_something_does_not() -> None:
    bell = Bell()
    for _ in range(3):
        assert bell.answer() == 0
        bell.answered(Progress.NONE)
    waits = [bell.answer() for _ in range(100)]
    assert 0 < max(waits) <= 0.005
    for _ in range(100):
        bell.answered(Progress.NONE)
    waits = [bell.answer() for _ in range(100)]
    assert 0.005 < max(waits) <= 0.025
    bell.answered(Progress.SOME)
    assert bell.answer() == 0


# When the line is cut


class Proxy:
    """A TCP proxy that can fall silent: connections stay, and nothing comes through."""

    def __init__(self, database: str) -> None:
        self._parts = conninfo_to_dict(database)
        self._tasks: set[asyncio.Task[None]] = set()
        self._frozen: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self.connections = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield make_conninfo(**{**self._parts, "host": "127.0.0.1", "port": port})
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for writer in self._open:
                writer.close()

    def freeze(self) -> None:
        """Whatever is connected now hears nothing any more, and is not told."""
        self._frozen |= self._open

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection(self._parts["host"], self._parts["port"])
        self._open |= {writer, back}
        for pair in ((reader, back), (there, writer)):
            task = asyncio.ensure_future(self._pump(*pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if writer in self._frozen:
                continue
            writer.write(data)
            await writer.drain()
        writer.close()


def _patient(url: str, check: float) -> Doorbell:
    async def opener() -> Any:
        return await connect(Database(url, "the test"), application_name="doorbell", attempts=1)

    return Doorbell(opener, "tidegate", check=check, answer=1.0)


async def test_a_connection_that_is_ended_is_replaced_and_says_so_in_two_lines(
    database: str, conn: psycopg.Connection[Any], lines: Callable[[str], list[dict[str, Any]]]
) -> None:
    doorbell = Doorbell.at(Database(database, "the test"), "tidegate")
    loop = Loop(database, "always", doorbell.bell("topic", "always"))
    async with doorbell.listening(), loop.running():
        await _until(lambda: doorbell.is_listening and loop.steps == 2)
        for number in (1, 2):
            # when the listening backend is ended, with something put meanwhile
            conn.execute(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                " where datname = current_database() and application_name like 'tidegate doorbell%'"
            )
            conn.execute("select outbox_put('always', '{}')")
            # then it is back, and what rang meanwhile is taken
            await _until(lambda n=number: len(lines("doorbell heard again")) == n)  # type: ignore[misc]
            await _until(lambda n=number: loop.taken == n)  # type: ignore[misc]
    assert [line["level"] for line in lines("doorbell lost")] == ["warning"] * 2
    assert lines("doorbell lost")[0]["note"] == "polling goes on"


async def test_a_connection_that_has_fallen_silent_is_noticed_and_replaced(
    database: str, conn: psycopg.Connection[Any], lines: Callable[[str], list[dict[str, Any]]]
) -> None:
    proxy = Proxy(database)
    async with proxy.running() as url:
        doorbell = _patient(url, check=0.1)
        loop = Loop(database, "always", doorbell.bell("topic", "always"))
        async with doorbell.listening(), loop.running():
            await _until(lambda: doorbell.is_listening and loop.steps == 2)
            # when the way to the server is cut without a word
            proxy.freeze()
            conn.execute("select outbox_put('always', '{}')")
            # then that is noticed, another connection is made, and what rang unheard is taken
            await _until(lambda: loop.taken == 1)
            assert [line["error"] for line in lines("doorbell lost")] == ["no answer within 1 s"]
            assert len(lines("doorbell heard again")) == 1
            # and the next ring is heard
            conn.execute("select outbox_put('always', '{}')")
            await _until(lambda: loop.taken == 2)


async def test_while_nobody_can_listen_loops_poll_and_that_is_said_once(
    database: str,
    conn: psycopg.Connection[Any],
    lines: Callable[[str], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pyshim.doorbell._FIRST_PAUSE", 0.001)
    tries: list[bool] = []

    async def opener() -> Any:
        tries.append(True)
        raise OSError("nobody there")

    doorbell = Doorbell(opener, "tidegate")
    loop = Loop(database, "orders", doorbell.bell("topic", "orders"), Pace.polling())
    async with doorbell.listening(), loop.running():
        await _until(lambda: len(tries) >= 3)
        conn.execute("select outbox_put('orders', '{}')")
        await _until(lambda: loop.taken == 1)
        assert not doorbell.is_listening
    assert [line["error"] for line in lines("doorbell lost")] == ["nobody there"]


async def test_nobody_listens_before_a_loop_waits(database: str) -> None:
    opened: list[bool] = []

    async def opener() -> Any:
        opened.append(True)
        raise OSError("nobody there")

    doorbell = Doorbell(opener, "tidegate")
    bell = doorbell.bell("topic", "orders")
    async with doorbell.listening():
        await asyncio.sleep(0.01)
        assert not opened
        await Stop().pause(0.05, bell)
        await _until(lambda: bool(opened))


def test_keepalives_are_ours_unless_the_connection_string_has_its_own() -> None:
    url = "postgresql://me:secret@db/app?keepalives_idle=60"
    kept = conninfo_to_dict(kept_alive(Database(url, "the test")).url)
    assert (kept["keepalives_idle"], kept["keepalives_count"]) == ("60", "3")
    assert (kept["password"], kept["dbname"]) == ("secret", "app")


# The commands

# What a command would do after two seconds at the most, it does after an hour.
ASLEEP = (
    "import sys; from pyshim import cli, loops;"
    " loops.Pace.polling = classmethod(lambda cls: cls.every(3600)); cli.main(sys.argv[1:])"
)

HANDLERS = """
from pyshim.registry import Registry

registry = Registry()


@registry.handler("jobs")
async def handle(message):
    pass
"""


@pytest.fixture
def start(database: str, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command whose loops sleep for an hour; it is killed at the end."""
    started: list[subprocess.Popen[str]] = []
    (tmp_path / "handlers.py").write_text(HANDLERS)

    def run(*words: str, url: str = database) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if "DATABASE_URL" not in name}
        process = subprocess.Popen(
            [sys.executable, "-c", ASLEEP, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={
                **kept,
                "TIDEGATE_DATABASE_URL": url,
                "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
            },
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


COMMANDS = {
    "sweep": ["sweep", "--follow", "--no-cleanup", "--interval", "1h"],
    "relay": ["relay", "orders", "--to", "stdout"],
    "ordered relay": ["relay", "jobs", "--ordered", "--to", "stdout"],
    "work": ["work", "handlers:registry"],
}


async def _is_woken(
    command: list[str], conn: psycopg.Connection[Any], start: Callable[..., Any], **options: str
) -> None:
    conn.execute("""select queue_create('jobs', '{"doorbell": "0"}')""")
    conn.execute("""select topic_configure('orders', '{"doorbell": "0"}')""")
    if command[0] == "sweep":
        conn.execute("select queue_create('end'), outbox_route('orders', 'end')")
    send = "outbox_put('orders', '{}')" if "jobs" not in _taken_by(command) else (
        "queue_send('jobs', '{}')"
    )  # fmt: skip
    process = start(*command, **options)

    def row(query: str) -> Any:
        found = conn.execute(query.encode()).fetchone()
        return found and found[0]

    # given one that listens, and has looked
    listening = (
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and application_name like 'tidegate doorbell%' and query = 'listen \"tidegate\"'"
    )
    await _until(lambda: row(listening) == 1 or process.poll() is not None)
    assert process.poll() is None, process.stderr.read()
    for _ in range(2):
        # when something comes
        conn.execute(f"select {send}".encode())
        # then it is gone before the hour is over
        left = (
            "select coalesce(sum(ready + leased), 0) from backlog"
            f" where name = '{'jobs' if 'jobs' in send else 'orders'}'"
        )
        await _until(lambda query=left: row(query) == 0)  # type: ignore[misc]
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def _taken_by(command: list[str]) -> str:
    return "jobs" if command[0] == "work" or "--ordered" in command else "orders"


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
async def test_a_command_is_woken(
    command: list[str], conn: psycopg.Connection[Any], start: Callable[..., Any]
) -> None:
    await _is_woken(command, conn, start)


@pytest.mark.slow
async def test_without_the_doorbell_nobody_listens(
    conn: psycopg.Connection[Any], start: Callable[..., Any]
) -> None:
    process = start("relay", "orders", "--to", "stdout", "--no-doorbell", "-v")
    conn.execute("select outbox_put('orders', '{}')")
    left = "select ready + leased from backlog where name = 'orders'"
    await _until(lambda: conn.execute(left).fetchone() == (0,))
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=20)
    assert "event=relayed" in told
    assert "doorbell" not in told


# Behind a transaction pooler


@pytest.mark.heavy
async def test_a_transaction_pooler_is_found_out_and_loops_poll(
    database: str,
    pooled: str,
    conn: psycopg.Connection[Any],
    lines: Callable[[str], list[dict[str, Any]]],
) -> None:
    doorbell = _patient(pooled, check=0.1)
    loop = Loop(pooled, "orders", doorbell.bell("topic", "orders"), Pace.polling())
    async with doorbell.listening(), loop.running():
        await _until(lambda: len(lines("doorbell lost")) == 1)
        assert "pooler" in lines("doorbell lost")[0]["note"]
        conn.execute("select outbox_put('orders', '{}')")
        await _until(lambda: loop.taken == 1)
        assert not doorbell.is_listening


@pytest.mark.heavy
async def test_beside_a_transaction_pooler_a_direct_connection_listens(
    database: str, pooled: str, conn: psycopg.Connection[Any], start: Callable[..., Any]
) -> None:
    await _is_woken([*COMMANDS["relay"], "--doorbell-url", database], conn, start, url=pooled)
