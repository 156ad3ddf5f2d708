"""`tidegate sweep` and `tidegate relay` as a user runs them, against a real database."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.fake_redis import fake_redis

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def _environment(database: str | None) -> dict[str, str]:
    named = {"TIDEGATE_DATABASE_URL": database} if database else {}
    kept = {name: value for name, value in os.environ.items() if "DATABASE_URL" not in name}
    return {**kept, **named, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def run(database: str) -> Run:
    """Run the command to its end."""

    def _run(*words: str, url: str = database, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pyshim", *words],
            capture_output=True,
            text=True,
            env=_environment(url),
            timeout=60,
            check=False,
            **options,
        )

    return _run


@pytest.fixture
def start(database: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command; whatever is still running at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def _start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "pyshim", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(database),
        )
        started.append(process)
        return process

    yield _start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        connection.execute("select topic_create('t')")
        connection.execute("select queue_create('q')")
        yield connection


def _put(conn: psycopg.Connection[Any], count: int, topic: str = "t") -> None:
    conn.execute(
        "select outbox_put(%s, jsonb_build_object('n', n)) from generate_series(1, %s) n",
        (topic, count),
    )


def _scalar(conn: psycopg.Connection[Any], query: str) -> Any:
    row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def _until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_one_sweep_prints_its_result_row(run: Run, conn: psycopg.Connection[Any]) -> None:
    conn.execute("select outbox_route('t', 'q')")
    _put(conn, 3)
    swept = run("sweep", "--limit", "2")
    assert swept.returncode == 0
    head, rule, row = swept.stdout.splitlines()
    assert head.split(" | ") == ["claimed", "dispatched", "retried", "dead_lettered", "first_error"]
    assert set(rule) == {"-", "+"}
    assert [cell.strip() for cell in row.split("|")] == ["2", "2", "0", "0", ""]


def test_one_sweep_can_print_json(run: Run, conn: psycopg.Connection[Any]) -> None:
    conn.execute("select outbox_route('t', 'q')")
    _put(conn, 1)
    assert json.loads(run("sweep", "--json").stdout) == {
        "claimed": 1,
        "dispatched": 1,
        "retried": 0,
        "dead_lettered": 0,
        "first_error": None,
    }


def test_a_following_sweeper_delivers_what_comes_and_ends_on_sigterm(
    start: Callable[..., subprocess.Popen[str]], conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select outbox_route('t', 'q')")
    waiting = "select ready from backlog where kind = 'queue' and name = 'q'"
    sweeper = start("sweep", "--follow", "--log-format", "json", "-v")
    for expected in (7, 14):
        _put(conn, 7)
        _until(lambda n=expected: _scalar(conn, waiting) == n)  # type: ignore[misc]
    sweeper.send_signal(signal.SIGTERM)
    _, err = sweeper.communicate(timeout=5)
    assert sweeper.returncode == 0
    events = [json.loads(line) for line in err.splitlines()]
    assert (events[0]["event"], events[0]["schema"]) == ("started", "tidegate")
    assert events[0]["database"].endswith(f"/{conn.info.dbname}")
    assert events[-1]["event"] == "stopped"
    assert events[-1]["dispatched"] == 14


def test_a_loop_says_that_it_has_reconnected(
    start: Callable[..., subprocess.Popen[str]], conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select outbox_route('t', 'q')")
    waiting = "select ready from backlog where kind = 'queue' and name = 'q'"
    sweeper = start("sweep", "--follow", "--no-cleanup")
    for expected in (1, 2):
        _put(conn, 1)
        _until(lambda n=expected: _scalar(conn, waiting) == n)  # type: ignore[misc]
        conn.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name like 'tidegate sweep%'"
        )
    sweeper.send_signal(signal.SIGTERM)
    _, err = sweeper.communicate(timeout=10)
    assert err.index("event=started") < err.index("event=reconnecting")
    assert err.index("event=reconnecting loop=sweep") < err.index("event=reconnected loop=sweep")


def test_a_relay_writes_envelopes_to_stdout_and_settles_them(
    run: Run, conn: psycopg.Connection[Any]
) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    conn.execute(
        "select outbox_put('t', '{\"price\": 10.00}', p_group_key => 'g', p_tenant => 'acme',"
        " p_headers => jsonb_build_object('traceparent', %s::text))",
        (trace,),
    )
    _put(conn, 9)
    relayed = run("relay", "t", "--to", "stdout", "--limit", "4", "--drain")
    assert relayed.returncode == 0, relayed.stderr
    first, *rest = [json.loads(line) for line in relayed.stdout.splitlines()]
    assert len(rest) == 9
    assert '"payload":{"price": 10.00}' in relayed.stdout
    assert first["headers"] == {"traceparent": trace}
    assert (first["topic"], first["attempt"]) == ("t", 1)
    assert (first["group_key"], first["tenant"]) == ("g", "acme")
    assert len({event["event_id"] for event in [first, *rest]}) == 10
    assert _scalar(conn, "select sum(ready + scheduled + leased) from backlog") == 0
    assert "price" not in relayed.stderr


def test_a_relay_whose_reader_hangs_up_ends_and_loses_nothing(
    start: Callable[..., subprocess.Popen[str]], conn: psycopg.Connection[Any]
) -> None:
    _put(conn, 3)
    relay = start("relay", "t", "--to", "stdout")
    assert relay.stdout is not None
    assert relay.stdout.readline()
    relay.stdout.close()
    _put(conn, 3)
    assert relay.wait(timeout=20) == 0
    assert relay.stderr is not None
    assert "the reader of standard output has gone" in relay.stderr.read()
    assert _scalar(conn, "select sum(ready + scheduled + leased) from backlog") == 3
    assert _scalar(conn, "select sum(attempts) from ready") == 0


async def test_a_relay_killed_between_publish_and_settle_sends_the_same_events_again(
    start: Callable[..., subprocess.Popen[str]], conn: psycopg.Connection[Any]
) -> None:
    # given a relay that is killed when the broker has its two events, and before it hears so
    _put(conn, 2)
    relays: list[subprocess.Popen[str]] = []
    received: list[dict[str, Any]] = []

    def answer(words: list[str]) -> str | None:
        if words[0] == "XADD":
            received.append(json.loads(words[words.index("envelope") + 1]))
            if len(received) == 2:
                relays[0].kill()
                return None
        return "+OK"

    async with fake_redis(answer) as (url, _):
        command = ("relay", "t", "--to", f"{url}?protocol=2&stream=s", "--lease", "1s")
        relays.append(start(*command))
        for _ in range(200):
            if len(received) == 2:
                break
            await asyncio.sleep(0.05)
        # when another relay runs
        relays.append(start(*command))
        for _ in range(200):
            if len(received) == 4 and _scalar(conn, "select sum(leased) from backlog") == 0:
                break
            await asyncio.sleep(0.05)
    # then it sends the same events, charged nothing, and settles them
    ids = [event["event_id"] for event in received]
    assert ids[:2] == ids[2:]
    assert [event["attempt"] for event in received] == [1, 1, 1, 1]
    assert _scalar(conn, "select sum(ready + scheduled + leased) from backlog") == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["relay", "nope", "--to", "stdout"], 1, "nope"),
        (["relay", "t", "--to", "carrier-pigeon"], 2, "'carrier-pigeon'"),
        (["relay", "t", "--to", "redis://localhost/0"], 2, "names no key"),
        (["relay", "t", "--to", "stdout", "--limit", "0"], 1, "0"),
        (["relay", "t", "--to", "stdout", "--lease", "soon"], 2, "'soon'"),
        (["relay", "t", "--to", "stdout", "--lease", "0"], 1, "p_lease"),
        (["sweep", "--limit", "0"], 1, "p_limit"),
        (["sweep", "--topic", "nope"], 1, "nope"),
        (["sweep", "--follow", "--topic", "nope"], 1, "nope"),
        (["sweep", "--timeout", "-1s"], 2, "-1s"),
        (["sweep", "--schema", "elsewhere"], 1, "tidegate migrate"),
        (["sweep", "--follow", "--json"], 2, "--log-format json"),
    ],
)
def test_a_mistake_is_told_with_what_was_seen(
    run: Run, conn: psycopg.Connection[Any], words: list[str], code: int, said: str
) -> None:
    told = run(*words)
    assert (told.returncode, told.stdout) == (code, "")
    assert said in told.stderr
    assert "Traceback" not in told.stderr


def test_a_database_that_is_down_is_told_without_its_password(run: Run) -> None:
    for words in (["sweep"], ["sweep", "--follow"], ["relay", "t", "--to", "stdout"]):
        told = run(*words, url="postgresql://u:hunter2@127.0.0.1:1/x")
        assert told.returncode == 1
        assert "cannot connect" in told.stderr
        assert "stopped" not in told.stderr
        assert told.stderr.count(' event="connect failed" attempt=') == 2
        assert ("database=127.0.0.1:1/x" in told.stderr) == (words != ["sweep"])
        assert "hunter2" not in told.stderr
        assert "Traceback" not in told.stderr
