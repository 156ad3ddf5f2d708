"""The demo: it adds up, it says so when it does not, and it leaves nothing behind."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import psycopg
import pytest

from pyshim import demo
from pyshim.config import Database
from pyshim.connect import connect
from pyshim.live import Live
from pyshim.runtime import Runtime

# Other tests make databases on the same server meanwhile.
DEMOS = "select count(*) from pg_database where datname like 'tidegate_demo%'"


async def test_a_small_demo_adds_up_and_notices_when_something_is_missing(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a demo of a hundred orders
    monkeypatch.setattr(demo, "ORDERS", 100)
    monkeypatch.setattr(demo, "PRODUCING", 1.0)
    database = Database(empty_database, "the test")
    one = demo.Demo(Runtime(database, "Odd-Name", 5.0, "demo"), None)
    # when it runs
    assert await one.run()
    # then the poison event is the one that died, and the rest of the ninety arrived
    said = capsys.readouterr().out
    assert "it adds up" in said
    assert 'exhausted after 3 attempts:\n  invalid input syntax for type numeric: "twelve' in said
    # and when a delivery goes missing, or one comes from nowhere, it says so
    connection = await connect(database)
    await connection.execute(
        "delete from shop.parcel where order_id = (select min(order_id) from shop.parcel)"
    )
    assert not await one._summarise(connection)
    assert "WRONG: order.placed to queue pack: 90 committed is not 89" in capsys.readouterr().out
    await connection.execute(
        "insert into shop.parcel (order_id, event_id) values (-1, gen_random_uuid())"
    )
    assert not await one._summarise(connection)
    assert "WRONG: 1 orders were seen that never were committed" in capsys.readouterr().out
    await connection.close()


def test_the_command_makes_a_database_of_its_own_and_takes_it_away(database: str) -> None:
    with psycopg.connect(database) as conn:
        before = conn.execute(DEMOS).fetchone()
        done = subprocess.run(
            [sys.executable, "-m", "pyshim", "demo"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={
                **os.environ,
                "TIDEGATE_DATABASE_URL": database,
                "TIDEGATE_DEMO_REDIS": "redis://127.0.0.1:1/0",
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "it adds up" in done.stdout
        assert "\x1b" not in done.stdout
        assert conn.execute(DEMOS).fetchone() == before


def test_an_interrupted_demo_removes_everything_and_judges_nothing(database: str) -> None:
    with psycopg.connect(database) as conn:
        before = conn.execute(DEMOS).fetchone()
        process = subprocess.Popen(
            [sys.executable, "-m", "pyshim", "demo"],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "TIDEGATE_DATABASE_URL": database,
                "TIDEGATE_DEMO_REDIS": "redis://127.0.0.1:1/0",
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
        assert process.stdout is not None
        while "delivered" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 130
        assert said.endswith("interrupted; everything removed\n")
        assert "WRONG" not in said
        assert conn.execute(DEMOS).fetchone() == before


class Terminal(io.StringIO):
    """Text output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_live_block_is_redrawn_below_what_is_written() -> None:
    out = Terminal()
    live = Live(out)
    live.show(["a", "b"])
    live.write("event\n")
    live.show(["c"])
    up = "\x1b[2A\x1b[J"
    assert out.getvalue() == f"a\nb\n{up}event\na\nb\n{up}c\n"


def test_elsewhere_nothing_is_drawn() -> None:
    out = io.StringIO()
    live = Live(out)
    live.show(["a"])
    live.write("event\n")
    assert out.getvalue() == "event\n"
