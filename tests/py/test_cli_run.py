"""`tidegate run` and `tidegate guard`: what each command does, says, and refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.commands import Tell, cells, complaint, one


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        connection.execute("select queue_create('q')")
        yield connection


def test_a_run_is_opened_shown_and_ended(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    assert tell("run", "open", "order-7", "--tenant", "acme").out == "run order-7 is open\n"
    assert tell("run", "open", "order-7.a", "--parent", "order-7").code == 0
    conn.execute("select queue_send('q', '1', p_run_id => 'order-7')")
    head, _, row = map(cells, tell("run", "status", "order-7").out.splitlines())
    shown = dict(zip(head, row, strict=True))
    assert (shown["state"], shown["open children"], shown["waiting"]) == ("open", "1", "1")
    [told] = json.loads(tell("run", "status", "order-7", "--json").out)
    assert (told["state"], told["tenant"]) == ("open", "acme")
    told = tell("run", "finish", "order-7", "error", "--reason", "no stock", "--json")
    assert json.loads(told.out) == [{"outcome": "changed", "state": "error"}]
    assert one(conn, "select state from run where run_id = 'order-7.a'") == ("error",)
    assert tell("run", "finish", "order-7", "completed").code == 0
    # a run that has completed stays so
    told = tell("run", "finish", "order-7", "error", "--json")
    assert told.code == 1
    assert json.loads(told.out) == [{"outcome": "refused", "state": "completed"}]
    assert "has completed" in complaint(tell("run", "cancel", "order-7"))


def test_a_run_is_cancelled_by_name(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    conn.execute("select queue_send_many('q', array['1', '2']::jsonb[], p_run_id => 'r')")
    assert tell("run", "open", "r").code == 0
    told = tell("run", "cancel", "r", "--reason", "not wanted")
    assert told.out == "run r is cancelled: 1 stopped, 2 messages removed\n"
    assert json.loads(tell("run", "cancel", "r", "--json").out) == {
        "run_id": "r",
        "outcome": "cancelled",
        "runs": 0,
        "removed": 0,
    }
    assert "not wanted" in tell("run", "status", "r").out
    assert tell("run", "open", "r") == (1, "run r is stopped\n", "")
    told = tell("queue", "send", "q", "3", "--run-id", "r", "--json")
    assert (told.code, json.loads(told.out)["outcome"]) == (0, "cancelled"), told


def test_a_run_that_was_never_opened_is_cancelled_when_that_is_meant(tell: Tell) -> None:
    assert "run r was never opened" in complaint(tell("run", "cancel", "r"), 2)
    assert tell("run", "status", "r").code == 1
    told = tell("run", "cancel", "r", "--yes")
    said = "run r was never opened: it is stopped before it begins, and stays so\n"
    assert (told.code, told.out) == (0, said)
    assert tell("run", "open", "r").code == 1
    # now it is known, and nobody is asked
    assert tell("run", "cancel", "r").out == "run r is cancelled: 0 stopped, 0 messages removed\n"


def test_what_is_no_run_is_told(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    told = tell("run", "status", "nothing")
    assert (told.code, told.out) == (1, "run nothing was neither opened nor cancelled\n")
    assert tell("run", "status", "nothing", "--json").code == 1
    assert tell("run", "finish", "nothing", "completed").code == 1
    assert "Open the parent first" in complaint(tell("run", "open", "c", "--parent", "nobody"))
    assert tell("run", "finish", "r", "open").code == 2


def test_runs_are_listed(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    for name in ("first", "second", "third"):
        assert tell("run", "open", name).code == 0
    assert tell("run", "finish", "second", "error", "--reason", "no stock").code == 0
    head, _, *rows = map(cells, tell("run", "list").out.splitlines())
    assert head == ["run", "state", "opened", "ended", "parent", "tenant", "reason"]
    assert [row[0] for row in rows] == ["third", "first"]
    assert "no stock" in tell("run", "list", "--state", "error").out
    listed = json.loads(tell("run", "list", "--state", "any", "--limit", "2", "--json").out)
    assert [(each["run_id"], each["state"]) for each in listed] == [
        ("third", "open"),
        ("second", "error"),
    ]
    told = tell("run", "list", "--state", "any", "--after", "second", "--json")
    assert [each["run_id"] for each in json.loads(told.out)] == ["first"]
    assert "That run is gone" in complaint(tell("run", "list", "--after", "nothing"))
    assert json.loads(tell("run", "list", "--state", "stopped", "--json").out) == []
    assert tell("run", "list", "--state", "running").code == 2


def test_one_of_two_scripts_gets_the_guard(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    guard = ("invoice", "7")
    assert tell("guard", "claim", *guard, "--owner", "a").code == 0
    told = tell("guard", "claim", *guard, "--owner", "b", "--json")
    assert told.code == 3
    assert json.loads(told.out) == [{"outcome": "held", "result": None, "is_repeat": False}]
    assert tell("guard", "renew", *guard, "--owner", "a", "--lease", "1h").code == 0
    assert tell("guard", "renew", *guard, "--owner", "b").code == 3
    assert tell("guard", "release", *guard, "--owner", "b").code == 3
    assert tell("guard", "release", *guard, "--owner", "a").code == 0
    assert tell("guard", "claim", *guard, "--owner", "b").code == 0
    assert tell("guard", "finish", *guard, "--owner", "a").code == 3
    assert tell("guard", "finish", *guard, "--owner", "b", "--result", '{"no": 7.50}').code == 0
    told = tell("guard", "claim", *guard, "--owner", "a", "--json")
    assert json.loads(told.out)[0]["result"] == {"no": 7.5}
    told = tell("guard", "claim", *guard, "--owner", "b")
    assert cells(told.out.splitlines()[2]) == ["done", '{"no": 7.50}', "true"]
    tell("run", "cancel", "r", "--yes")
    told = tell("guard", "claim", "invoice", "8", "--owner", "a", "--run-id", "r", "--json")
    assert (told.code, json.loads(told.out)[0]["outcome"]) == (3, "terminal")


def test_a_guard_is_given_what_can_be_read(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    told = tell("guard", "finish", "s", "k", "--owner", "a", "--result", "text")
    assert "--result 'text' is not JSON" in complaint(told, 2)
    for bad in ("NaN", '["\\u0000"]', '"\\ud800"'):
        told = tell("guard", "finish", "s", "k", "--owner", "a", "--result", bad)
        assert repr(bad) in complaint(told, 2)
        assert "hint: " in told.err
    assert tell("guard", "claim", "s", "k").code == 2
    for words in (("s", "k", "--owner", ""), ("", "k", "--owner", "a"), ("s", "", "--owner", "a")):
        for verb in ("claim", "renew", "finish", "release"):
            assert "is a variable unset?" in complaint(tell("guard", verb, *words), 2)
    told = tell("guard", "claim", "s", "k", "--owner", "a", "--lease", "soon")
    assert "--lease is 'soon'; allowed" in complaint(told, 2)
    for long, code in (("999999999h", 1), ("99999999999999h", 2)):
        complaint(tell("guard", "claim", "s", "k", "--owner", "a", "--lease", long), code)
    assert "positive" in complaint(tell("guard", "claim", "s", "k", "--owner", "a", "--lease", "0"))
