"""SQLSTATE → exception: each code of class TG has its class, its message and its hint."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from pyshim import errors

SQL = Path(__file__).parents[2] / "sql"
RAISE = """
do $$ begin
    raise exception using errcode = '{}', message = 'seen', hint = 'next', detail = 'more';
end $$
"""


def raised(connection: psycopg.Connection[tuple[object, ...]], state: str) -> psycopg.Error:
    """The error that the server answers with this SQLSTATE."""
    with pytest.raises(psycopg.Error) as error, connection.transaction():
        connection.execute(RAISE.format(state).encode())
    return error.value


@pytest.fixture
def server_connection(empty_database: str) -> psycopg.Connection[tuple[object, ...]]:
    """A plain connection, as any client has."""
    return psycopg.connect(empty_database, autocommit=True)


def test_each_code_that_the_sql_raises_or_notes_is_known_and_no_other_is() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in SQL.rglob("*.sql"))
    by_the_driver = {errors.SchemaMismatch.sqlstate}
    known = {*errors.BY_SQLSTATE, *errors.INCIDENTS}
    assert known - by_the_driver == set(re.findall(r"'(TG\d{3})'", text))
    assert set(re.findall(r"\bTG\d{3}\b", text)) <= known


@pytest.mark.parametrize("state", sorted(errors.BY_SQLSTATE))
def test_a_code_becomes_its_class(
    state: str, server_connection: psycopg.Connection[tuple[object, ...]]
) -> None:
    ours = errors.from_database(raised(server_connection, state))
    assert type(ours) is errors.BY_SQLSTATE[state]
    assert (ours.sqlstate, ours.message, ours.hint, ours.detail) == (state, "seen", "next", "more")
    assert str(ours) == "seen (hint: next)"


def test_an_unknown_code_of_ours_keeps_its_message(
    server_connection: psycopg.Connection[tuple[object, ...]],
) -> None:
    ours = errors.from_database(raised(server_connection, "TG999"))
    assert ours is not None
    assert (type(ours), ours.message) == (errors.TidegateError, "seen")


def test_a_foreign_code_is_not_ours(
    server_connection: psycopg.Connection[tuple[object, ...]],
) -> None:
    assert errors.from_database(raised(server_connection, "22012")) is None
