"""`tidegate barrier`: what each command shows, does, and refuses."""

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
        connection.execute("select queue_create('q'), queue_create('failed')")
        yield connection


def opened(conn: psycopg.Connection[Any], name: str, members: int = 2, **options: Any) -> int:
    given = "".join(f", p_{key} => %({key})s" for key in options)
    query = f"select epoch from barrier_open(%(name)s, %(members)s, 'q'{given})"
    row = conn.execute(query.encode(), {"name": name, "members": members, **options}).fetchone()
    assert row
    return int(row[0])


def shown(text: str) -> list[dict[str, str]]:
    head, _, *rows = map(cells, text.splitlines())
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_barriers_are_listed_and_shown(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    epoch = opened(conn, "report-7", run_id="r")
    opened(conn, "late", expires_in="1 us")
    conn.execute("select barrier_arrive('report-7', %s, 1, '1')", (epoch,))
    both = shown(tell("barrier", "list").out)
    assert [row["barrier"] for row in both] == ["late", "report-7"]
    assert (both[1]["arrived"], both[1]["outstanding"], both[1]["run"]) == ("1", "1", "r")
    for words, names in (
        (("--stranded",), ["late"]),
        (("--run-id", "r"), ["report-7"]),
        (("--state", "fired"), []),
        (("--limit", "1"), ["late"]),
    ):
        told = json.loads(tell("barrier", "list", *words, "--json").out)
        assert [row["name"] for row in told] == names, words
    [alone] = shown(tell("barrier", "show", "report-7").out)
    assert alone.keys() == both[1].keys()
    assert (alone["barrier"], alone["arrived"], alone["stalls"]) == ("report-7", "1", "in 2h")
    assert alone["opened"].endswith(" ago")
    [told] = json.loads(tell("barrier", "show", "report-7", "--json").out)
    assert (told["epoch"], told["state"], told["members"]) == (epoch, "open", 2)
    told = tell("barrier", "show", "nothing")
    assert (told.code, told.out, told.err) == (1, "", "there is no barrier nothing\n")
    assert tell("barrier", "show", "nothing", "--json").code == 1


def test_results_come_in_pages_and_as_they_were(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    former = opened(conn, "b", policy="collect")
    conn.execute("select barrier_arrive('b', %s, 2, '{\"n\": 1.50}')", (former,))
    conn.execute("select barrier_fail('b', %s, 1, 'no paper')", (former,))
    rows = shown(tell("barrier", "results", "b").out)
    assert [(row["member"], row["result"], row["error"]) for row in rows] == [
        ("1", "", "no paper"),
        ("2", '{"n": 1.50}', ""),
    ]
    told = tell("barrier", "results", "b", "--after", "1", "--limit", "1", "--json")
    assert "1.50" in told.out
    assert [row["member"] for row in json.loads(told.out)] == [2]
    opened(conn, "b")
    assert json.loads(tell("barrier", "results", "b", "--json").out) == []
    told = tell("barrier", "results", "b", "--epoch", str(former), "--json")
    assert len(json.loads(told.out)) == 2


def test_an_abort_is_asked_for_and_done_once(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    opened(conn, "b", failure_queue="failed")
    assert "say --yes" in complaint(tell("barrier", "abort", "b"), 2)
    told = tell("barrier", "abort", "b", "--reason", "not wanted", "--yes", "--json")
    assert (told.code, json.loads(told.out)) == (0, [{"outcome": "aborted"}])
    assert one(conn, "select payload->>'reason' from queue_peek('failed')") == ("not wanted",)
    told = tell("barrier", "abort", "b", "--yes", "--json")
    assert (told.code, json.loads(told.out)) == (1, [{"outcome": "closed"}])
    told = tell("barrier", "abort", "b", "--yes")
    assert (told.code, told.out, told.err) == (1, "", "b is aborted: nothing to abort\n")


def test_a_stranded_barrier_is_resolved(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    epoch = opened(conn, "b", failure_queue="failed")
    assert tell("barrier", "resolve", "b", "keep").code == 0  # nothing is lost: nobody is asked
    assert "say --yes" in complaint(tell("barrier", "resolve", "b", "failed"), 2)
    told = tell("barrier", "resolve", "b", "failed", "--epoch", str(epoch - 1), "--yes")
    said = f"nothing was changed in b: its epoch is {epoch}, not {epoch - 1}\n"
    assert (told.code, told.out, told.err) == (1, "", said)
    told = tell("barrier", "resolve", "b", "fire")
    assert (told.code, told.err) == (1, "b is open: fire is for fire_failed\n")
    assert tell("barrier", "resolve", "b", "failed", "--yes").out == "barrier b is failed\n"
    assert tell("barrier", "resolve", "b", "keep").err == "b is aborted: nothing to resolve\n"
    assert one(conn, "select outcome from barrier_status('b')") == ("expired",)
    opened(conn, "c")
    assert tell("barrier", "resolve", "c", "completed", "--yes").code == 0
    assert one(conn, "select state from barrier_status('c')") == ("resolved",)
    assert tell("barrier", "resolve", "nothing", "keep").code == 1
    assert tell("barrier", "resolve", "c", "forget").code == 2
