"""`tidegate top`: once, as JSON, and on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest

from pyshim import top
from tests.commands import Tell, Terminal, cells


class Row(NamedTuple):
    """A sample."""

    name: str
    labels: dict[str, str]
    value: float


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        connection.execute("select queue_create('mail'), topic_create('orders')")
        connection.execute("select queue_send('mail', '{}') from generate_series(1, 5)")
        connection.execute("select queue_ack(lease_id) from queue_claim('mail', 1)")
        connection.execute("select queue_nack(lease_id, null, 'x', false) from queue_claim('mail')")
        connection.execute("select queue_claim('mail')")
        yield connection


def test_once_it_shows_what_stands_where(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    told = tell("top", "--once")
    assert told.code == 0
    assert "no snapshot yet" in told.out
    conn.execute("select metrics_snapshot(), queue_pause('mail')")
    conn.execute("select metrics_snapshot()")
    told = tell("top")  # no terminal: once
    head, _, *rows = told.out.splitlines()[3:]
    found = {name: dict(zip(cells(head), cells(row), strict=False)) for row in rows
             for name in [cells(row)[1]]}  # fmt: skip
    assert found["mail"]["ready"] == "2"
    assert found["mail"]["leased"] == "1"
    assert found["mail"]["dead"] == "1"
    assert (head.split()[-1], found["mail"]["state"]) == ("state", "paused")
    assert found["orders"]["ready"] == "0"
    # and where nothing is paused, nobody is told so
    conn.execute("select queue_resume('mail'), metrics_snapshot()")
    lines = tell("top", "--once").out.splitlines()
    assert lines[3].endswith(" | expired")
    assert not any(line.endswith("|") for line in lines)


def test_scripts_get_json(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    conn.execute("select metrics_snapshot()")
    view = json.loads(tell("top", "--once", "--json").out)
    assert view["barriers_open"] == 0
    assert view["stranded_total"] == 0
    assert view["upkeep_failing"] == {}
    mail = next(each for each in view["channels"] if each["channel"] == "mail")
    assert (mail["ready"], mail["leases"], mail["dead_letters"]) == (2, 1, 1)
    assert mail["totals"]["acked"] == 1
    assert tell("top", "--json").code == 2


def test_rates_are_of_the_time_between_two_looks() -> None:
    labels = {"kind": "queue", "channel": "q"}

    def look(acked: float, retried: float) -> top.View:
        name = "tidegate_messages_total"
        return top.arrange(
            [
                Row(name, {**labels, "outcome": "acked"}, acked),
                Row(name, {**labels, "outcome": "retried"}, retried),
                Row("tidegate_upkeep_failures", {"upkeep": "cleanup"}, 2),
            ]
        )

    rows = top.table(look(30, 1), look(10, 1), 2.0)
    assert rows[0][4:6] == ("10.0", "0.0")
    assert top.table(look(0, 0), look(10, 0), 2.0)[0][4] == "0.0"  # a channel that was made anew
    assert top.table(look(30, 1), None, 0.0)[0][4] == ""
    assert "upkeep cleanup failed 2 times" in top.summary(look(1, 1))


def test_on_a_terminal_it_goes_on_until_ctrl_c(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select metrics_snapshot()")
    terminal = Terminal(database, "top", "--interval", "100ms")
    terminal.until("mail")
    terminal.until("0.0")  # a rate: the second look
    terminal.process.terminate()
    assert terminal.process.wait(10) == 0
