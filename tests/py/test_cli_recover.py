"""`tidegate recover`: once, told to people and to scripts; it fails when nothing was recovered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.commands import Tell, cells, complaint


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        connection.execute("select queue_create('failures')")
        connection.execute(
            "select barrier_open(n, 1, p_failure_queue => 'failures', p_expires_in => '1 ms')"
            " from unnest(array['a', 'b']) n"
        )
        yield connection


def test_it_recovers_and_says_what(tell: Tell, conn: psycopg.Connection[Any]) -> None:
    told = tell("recover", "--limit", "1")
    assert told.code == 0, told.err
    rows = dict(cells(line) for line in told.out.splitlines() if "|" in line)
    assert rows["barriers looked at"] == "1"
    assert rows["barriers failed, with their runs"] == "1"
    assert "call again" in told.out
    told = tell("recover", "--json")
    assert told.code == 0
    row = json.loads(told.out)
    assert (row["failed"], row["has_more"], row["systemic"]) == (1, False, False)
    # nothing to do is no failure
    told = tell("recover")
    assert told.code == 0 and "call again" not in told.out


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_it_fails_when_nothing_could_be_recovered(
    tell: Tell, conn: psycopg.Connection[Any], words: tuple[str, ...]
) -> None:
    conn.execute("update barrier set expire_queue = 'nowhere'")
    told = tell("recover", *words)
    assert told.code == 1
    assert "TG020: no queue named 'nowhere'" in told.out
    # one that could is enough
    conn.execute("select barrier_open('c', 1, p_expires_in => '1 us')")
    conn.execute("update barrier set look_at = clock_timestamp()")
    assert tell("recover", *words).code == 0


def test_a_mistake_is_told(tell: Tell, database: str) -> None:
    assert "p_limit" in complaint(tell("recover", "--limit", "0"))
