"""The upkeep: what is due is run, each job alone, and a stop is heard at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import pytest

from pyshim import calls
from pyshim.config import Database
from pyshim.connect import connect
from pyshim.loops import Progress, Stop
from pyshim.maintain import Maintainer
from pyshim.session import Session


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        yield connection


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    made = Session(lambda: connect(Database(database, "the test")), "tidegate", timeout=2.0)
    yield made
    await made.close()


def upkeep(conn: psycopg.Connection[Any]) -> dict[str, tuple[int, bool]]:
    """Job → failures in a row, and whether it ever succeeded."""
    rows = conn.execute("select job, failure_count, succeeded_at is not null from upkeep")
    return {job: (failures, succeeded) for job, failures, succeeded in rows}


def _scalar(conn: psycopg.Connection[Any], query: str) -> Any:
    row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def _break(conn: psycopg.Connection[Any], routine: str, body: str) -> None:
    """Give a routine another body; its head is kept."""
    definition = _scalar(conn, f"select pg_get_functiondef('tidegate.{routine}'::regproc)")
    head = definition[: definition.index("AS $function$")]
    conn.execute(f"{head} as $broken$ begin {body} end $broken$".encode())


async def test_what_is_due_is_run_once(session: Session, conn: psycopg.Connection[Any]) -> None:
    maintainer = Maintainer(session, Stop())
    assert {each.job for each in await maintainer.once()} >= {"tick", "counters", "cleanup"}
    again = {each.job for each in await maintainer.once()}
    assert not again & {"counters", "cleanup"}
    assert upkeep(conn) == dict.fromkeys(upkeep(conn), (0, True))


async def test_idle_queues_move_without_a_claim(
    session: Session, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select queue_create('q')")
    conn.execute("select queue_send('q', '1', p_run_at => clock_timestamp() + '1 second')")
    maintainer = Maintainer(session, Stop())
    end = time.monotonic() + 20
    while not _scalar(conn, "select ready from backlog where name = 'q'"):
        assert time.monotonic() < end
        await maintainer.step()
        await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ("raise 'no room';", "P0001 no room"),
        ("perform pg_sleep(60);", "57014 canceling statement due to statement timeout"),
    ],
)
async def test_a_job_that_fails_is_noted_and_stops_no_other(
    session: Session, conn: psycopg.Connection[Any], broken: str, error: str
) -> None:
    # given that what is due first fails, or hangs until its time is over
    _break(conn, "counter_reconcile", broken)
    _break(conn, "maintenance_tick", broken)
    outcomes = {each.job: each for each in await Maintainer(session, Stop()).once()}
    # then it failed alone, and comes back later
    assert outcomes["tick"].error == error
    assert outcomes["counters"].error == error
    assert outcomes["cleanup"].error is None
    assert upkeep(conn)["tick"] == (1, False)
    assert upkeep(conn)["cleanup"] == (0, True)
    due_in = _scalar(conn, "select due_in from maintenance_due() where job = 'counters'")
    assert 230 < due_in.total_seconds() <= 240


async def test_an_error_of_a_part_is_no_success_and_keeps_the_cadence(
    session: Session, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("alter table guard rename to guard_away")
    outcomes = {each.job: each for each in await Maintainer(session, Stop()).once()}
    cleanup = outcomes["cleanup"]
    assert cleanup.error and "guard" in cleanup.error and not cleanup.systemic
    assert upkeep(conn)["cleanup"] == (1, False)
    assert upkeep(conn)["cleanup.guard"] == (1, False)
    due_in = _scalar(conn, "select due_in from maintenance_due() where job = 'cleanup'")
    assert 290 < due_in.total_seconds() <= 300


async def test_a_job_that_left_something_is_run_again_at_once(
    session: Session, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select counter_add('k') from generate_series(1, 25000)")
    maintainer = Maintainer(session, Stop())
    assert await maintainer.step() is Progress.FULL
    assert await maintainer.step() is Progress.FULL
    assert await maintainer.step() is Progress.NONE
    assert _scalar(conn, "select count(*) from counter_delta") == 0


async def test_two_maintainers_share_the_jobs(
    session: Session, database: str, conn: psycopg.Connection[Any]
) -> None:
    other = Session(lambda: connect(Database(database, "the test")), "tidegate")
    try:
        both = await asyncio.gather(
            Maintainer(session, Stop()).once(), Maintainer(other, Stop()).once()
        )
    finally:
        await other.close()
    ran = [each.job for outcomes in both for each in outcomes if each.job != "tick"]
    assert sorted(ran) == sorted(set(ran))


async def test_a_stop_ends_a_job_in_progress(
    session: Session, conn: psycopg.Connection[Any]
) -> None:
    session.timeout = 60.0
    _break(conn, "maintenance_tick", "perform pg_sleep(60);")
    stop = Stop()
    passing = asyncio.ensure_future(Maintainer(session, stop).once())
    running = (
        "select count(*) from pg_stat_activity"
        " where wait_event = 'PgSleep' and datname = current_database()"
    )
    await asyncio.sleep(1)
    assert _scalar(conn, running) == 1
    stop.set()
    began = time.monotonic()
    assert all(each.job != "tick" for each in await passing)
    assert time.monotonic() - began < 5
    assert _scalar(conn, running) == 0
    # it has neither succeeded nor failed
    assert upkeep(conn)["tick"] == (0, False)


async def test_a_statement_that_the_schema_gave_has_no_holes(session: Session) -> None:
    given = calls.given("select '50%' || '{x} %s' as said")
    assert (await session.one(given, {})).said == "50%{x} %s"


Run = Callable[..., "subprocess.CompletedProcess[str]"]


def _environment(database: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "DATABASE_URL" not in name}
    path = os.pathsep.join(sys.path)
    return {**kept, "TIDEGATE_DATABASE_URL": database, "PYTHONPATH": path}


@pytest.fixture
def run(database: str) -> Run:
    """Run the command to its end."""

    def _run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pyshim", *words],
            capture_output=True, text=True, env=_environment(database), timeout=60, check=False,
        )  # fmt: skip

    return _run


def test_once_says_how_each_job_went(run: Run, conn: psycopg.Connection[Any]) -> None:
    conn.execute("select counter_add('k', 3)")
    told = run("maintain", "--once")
    assert told.returncode == 0, told.stderr
    assert [line.split()[:2] for line in sorted(told.stdout.splitlines())] == [
        ["cleanup", "ok"], ["counters", "ok"], ["metrics", "ok"], ["recovery", "ok"],
        ["runs", "ok"], ["tick", "ok"],
    ]  # fmt: skip
    assert "counters_folded=1" in told.stdout
    conn.execute("alter table lease rename column messages to messages_away")
    conn.execute("truncate maintenance_run")
    told = run("maintain", "--once", "--json")
    assert told.returncode == 1
    errors = {each["job"]: each["error"] for each in json.loads(told.stdout)}
    assert "leased.run. kept" in errors["counters"]
    assert errors["cleanup"] is None


def test_a_maintainer_goes_on_until_it_is_told_to_stop(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select queue_create('q')")
    process = subprocess.Popen(
        [sys.executable, "-m", "pyshim", "maintain", "--interval", "100ms", "-v"],
        stderr=subprocess.PIPE, text=True, env=_environment(database),
    )  # fmt: skip
    try:
        for n in (1, 2):
            conn.execute("select queue_send('q', '1', p_run_at => clock_timestamp() + '1 s')")
            end = time.monotonic() + 20
            while _scalar(conn, "select ready from backlog where name = 'q'") < n:
                assert time.monotonic() < end
                time.sleep(0.05)
            # and an outage is got over
            conn.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name like 'tidegate maintain%'"
            )
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert "loop=maintain" in err and "event=stopped" in err
    assert "job=cleanup" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--json"], 2, "--once"),
        (["--interval", "soon"], 2, "'soon'"),
        (["--schema", "elsewhere"], 1, "tidegate migrate"),
    ],
)
def test_a_mistake_is_told(run: Run, words: list[str], code: int, said: str) -> None:
    told = run("maintain", *words)
    assert (told.returncode, told.stdout) == (code, "")
    assert said in told.stderr
    assert "Traceback" not in told.stderr
