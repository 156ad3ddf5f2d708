"""Who leads the upkeep: one recovers, and stops before its next write when it is another's turn.

Of origin r: "tick via real connection" and "leadership step-down" in its four forms: the renewal
says no, it fails, the lead is lost in the middle of a pass, and it is left when told to stop.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from pyshim.config import Database
from pyshim.connect import connect
from pyshim.loops import Stop
from pyshim.maintain import Maintainer
from pyshim.session import Session
from tests.commands import Tell, complaint


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        connection.execute("select queue_create('failures')")
        connection.execute("select run_open('r')")
        connection.execute(
            "select barrier_open('b', 1, p_failure_queue => 'failures', p_run_id => 'r',"
            " p_expires_in => '1 ms')"
        )
        yield connection


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    made = Session(lambda: connect(Database(database, "the test")), "tidegate", timeout=2.0)
    yield made
    await made.close()


def _scalar(conn: psycopg.Connection[Any], query: str) -> Any:
    row = conn.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def _standing(conn: psycopg.Connection[Any]) -> tuple[str, str]:
    """State of the run, and of its barrier."""
    return _scalar(conn, "select state from run"), _scalar(conn, "select state from barrier")


def _depose(conn: psycopg.Connection[Any]) -> None:
    conn.execute("update leader set epoch = epoch + 1, holder = 'another'")


def _ran(conn: psycopg.Connection[Any]) -> set[str]:
    return {row[0] for row in conn.execute("select job from upkeep").fetchall()}


def _everybodys(conn: psycopg.Connection[Any]) -> set[str]:
    """The jobs that need no leader."""
    jobs = conn.execute("select job from _maintenance_jobs() where job <> 'recovery'").fetchall()
    return {row[0] for row in jobs}


async def test_whoever_leads_recovers(session: Session, conn: psycopg.Connection[Any]) -> None:
    maintainer = Maintainer(session, Stop())
    outcomes = {each.job: each for each in await maintainer.once()}
    assert outcomes["recovery"].error is None
    assert outcomes["recovery"].result["failed"] == 1
    assert _standing(conn) == ("error", "aborted")
    # and with its epoch
    statement = _scalar(conn, "select statement from maintenance_due(7) where job = 'recovery'")
    assert "p_leader_epoch => '7'" in statement


async def test_who_does_not_lead_does_the_rest(
    session: Session, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select leader_acquire('maintain', 'another')")
    outcomes = {each.job for each in await Maintainer(session, Stop()).once()}
    assert outcomes == _everybodys(conn)
    assert _standing(conn) == ("open", "open")
    # until the other one has resigned
    conn.execute("select leader_resign('maintain', 1)")
    maintainer = Maintainer(session, Stop())
    assert "recovery" in {each.job for each in await maintainer.once()}


async def test_a_renewal_that_says_no_ends_the_pass(
    session: Session, conn: psycopg.Connection[Any]
) -> None:
    maintainer = Maintainer(session, Stop())
    conn.execute("select maintenance_configure(job, p_paused => true) from _maintenance_jobs()")
    assert await maintainer.once() == []
    conn.execute("select maintenance_configure(job, p_paused => false) from _maintenance_jobs()")
    _depose(conn)
    assert await maintainer.once() == []
    assert _ran(conn) == set()
    # and the next one is what somebody does who does not lead
    assert {each.job for each in await maintainer.once()} == _everybodys(conn)


async def test_a_renewal_that_fails_ends_the_pass(
    session: Session, conn: psycopg.Connection[Any]
) -> None:
    maintainer = Maintainer(session, Stop())
    conn.execute("select maintenance_configure(job, p_paused => true) from _maintenance_jobs()")
    await maintainer.once()
    conn.execute("select maintenance_configure(job, p_paused => false) from _maintenance_jobs()")
    conn.execute("alter table leader rename to leader_away")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await maintainer.once()
    assert _ran(conn) == set()
    conn.execute("alter table leader_away rename to leader")
    assert "recovery" in {each.job for each in await maintainer.once()}


async def test_a_lead_lost_in_the_middle_of_a_pass_ends_it(
    session: Session, conn: psycopg.Connection[Any]
) -> None:
    # given that another one takes over while the first job runs
    head = _scalar(conn, "select pg_get_functiondef('maintenance_tick'::regproc)")
    head = head[: head.index("AS $function$")]
    body = "begin update leader set epoch = epoch + 1, holder = 'another'; ticked := 0; end"
    conn.execute(f"{head} as $took$ {body} $took$".encode())
    # then the next one is not begun
    outcomes = {each.job for each in await Maintainer(session, Stop()).once()}
    assert outcomes == {"tick"}
    assert _ran(conn) == {"tick"}
    assert _standing(conn) == ("open", "open")


async def test_a_write_that_is_refused_ends_the_pass_and_notes_nothing(
    session: Session, conn: psycopg.Connection[Any]
) -> None:
    # given that another one takes over while the recovery runs
    conn.execute(
        """
        create function public.take_over() returns trigger language plpgsql as
        $$ begin
            update tidegate.leader set epoch = epoch + 1, holder = 'another'; return new;
        end $$;
        create trigger take_over after update on run for each row
        execute function public.take_over();
        """
    )
    outcomes = {each.job for each in await Maintainer(session, Stop()).once()}
    assert outcomes == {"tick"}
    assert _standing(conn) == ("open", "open")
    assert _scalar(conn, "select failure_count from upkeep where job = 'recovery'") == 0


async def test_the_lead_is_left_when_told_to_stop(
    session: Session, conn: psycopg.Connection[Any]
) -> None:
    maintainer = Maintainer(session, Stop())
    await maintainer.once()
    assert _scalar(conn, "select outcome from leader_acquire('maintain', 'next')") == "held"
    await maintainer.close()
    assert _scalar(conn, "select epoch from leader_acquire('maintain', 'next')") == 2


@pytest.mark.parametrize("interval", ["10s", "1min"])
def test_an_interval_as_long_as_the_lease_is_refused(tell: Tell, interval: str) -> None:
    said = complaint(tell("maintain", "--interval", interval), 2)
    assert "--interval" in said and "--lease 10s" in said


def _start(database: str, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TIDEGATE_DATABASE_URL": database}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.Popen(
        [sys.executable, "-m", "pyshim", "maintain", "--interval", "100ms", "--lease", "2s",
         "--timeout", "60s", "-v", *words],
        stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def _until(conn: psycopg.Connection[Any], query: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not _scalar(conn, query):
        assert time.monotonic() < end, query
        time.sleep(0.05)


@pytest.mark.slow
def test_one_that_was_stopped_in_the_middle_of_a_pass_writes_no_more(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    # given two stranded barriers, the first of which takes its time to be closed
    conn.execute(
        """
        create table public.gate (is_open boolean);
        create table public.passed (backend int);
        create function public.wait() returns trigger language plpgsql as $$
        begin
            if new.state <> old.state and not exists (select from public.gate) then
                insert into public.passed values (pg_backend_pid());
                while not exists (select from public.gate) loop perform pg_sleep(0.05); end loop;
            end if;
            return new;
        end $$;
        create trigger wait before update on barrier for each row
        when (old.name = 'b') execute function public.wait();
        select maintenance_configure('recovery', '100 milliseconds');
        select run_open('second');
        select barrier_open('second', 1, p_failure_queue => 'failures', p_run_id => 'second',
            p_expires_in => '10 ms');
        """
    )
    first = _start(database)
    second: subprocess.Popen[str] | None = None
    try:
        _until(conn, "select count(*) > 0 from pg_stat_activity where wait_event = 'PgSleep'"
                     " and application_name like 'tidegate maintain%'")  # fmt: skip
        # when it is stopped in the middle of its pass, and another one has taken over
        first.send_signal(signal.SIGSTOP)
        second = _start(database)
        _until(conn, "select epoch = 2 and holder is not null from leader")
        _until(conn, "select state = 'aborted' from barrier where name = 'second'")
        assert _scalar(conn, "select state from barrier where name = 'b'") == "open"
        # then what its backend writes next is refused, and the pass undone
        conn.execute("insert into public.gate values (true)")
        _until(conn, "select state = 'aborted' from barrier where name = 'b'")
        assert _scalar(conn, "select count(*) from public.passed") == 0
        # and it knows when it goes on
        first.send_signal(signal.SIGCONT)
        time.sleep(1)
        first.send_signal(signal.SIGTERM)
        _, told = first.communicate(timeout=20)
        second.send_signal(signal.SIGTERM)
        _, other = second.communicate(timeout=20)
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
    assert (first.returncode, second.returncode) == (0, 0), (told, other)
    assert "event=leading" in told and "epoch=1" in told
    assert "event=deposed" in told and "job=recovery" not in told
    assert "epoch=2" in other and "event=deposed" not in other
    # each has failed once, and was heard of once
    assert conn.execute(
        "select payload ->> 'barrier' from queue_peek('failures') order by 1"
    ).fetchall() == [("b",), ("second",)]
    assert _scalar(conn, "select failure_count from upkeep where job = 'recovery'") == 0
