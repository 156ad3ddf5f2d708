"""A claim turns the machine whichever way its driver speaks to the server."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

SPEAKERS = [
    pytest.param(psycopg.ClientCursor, False, id="simple"),
    pytest.param(psycopg.Cursor, False, id="extended"),
    pytest.param(psycopg.Cursor, True, id="prepared"),
]


@pytest.mark.parametrize(("cursor", "prepare"), SPEAKERS)
def test_a_claim_moves_what_is_due(
    database: str, cursor: type[psycopg.Cursor[Any]], prepare: bool
) -> None:
    with psycopg.connect(
        database, autocommit=True, cursor_factory=cursor, options="-c search_path=tidegate,t"
    ) as conn:
        conn.execute("select clock_stands()")
        conn.execute("select topic_create('orders')")
        conn.execute("select outbox_put('orders', '1', p_run_at => clock_now() + interval '1 s')")
        conn.execute("select clock_moves('2 seconds')")
        claimed = conn.execute(
            "select payload from outbox_claim(%s)", ("orders",), prepare=prepare
        ).fetchall()
    assert claimed == [(1,)]
