"""Errors are told apart by SQLSTATE, not by exception class."""

from __future__ import annotations

import psycopg
import pytest

from pyshim.errors import DatabaseUnavailable, NoSuchChannel
from pyshim.publishers import TransportDown
from pyshim.retry import DeadlineExceeded, Verdict, classify


def _error(sqlstate: str, base: type[psycopg.Error] = psycopg.Error) -> psycopg.Error:
    return type("Raised", (base,), {"sqlstate": sqlstate})("said the server")


@pytest.mark.parametrize(
    "sqlstate",
    ["08000", "08006", "53300", "53200", "57P01", "57P02", "57P03", "58000", "58030", "25006"],
)
def test_a_lost_server_asks_for_a_new_connection(sqlstate: str) -> None:
    assert classify(_error(sqlstate)) is Verdict.RECONNECT


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03"])
def test_a_lost_race_asks_for_the_transaction_again(sqlstate: str) -> None:
    assert classify(_error(sqlstate, psycopg.OperationalError)) is Verdict.AGAIN


@pytest.mark.parametrize("sqlstate", ["22P05", "23505", "42883", "28P01", "TG010", "XX000"])
def test_a_mistake_is_never_repeated(sqlstate: str) -> None:
    assert classify(_error(sqlstate, psycopg.OperationalError)) is Verdict.NEVER


def test_a_timeout_is_told_from_a_shutdown_of_the_same_class() -> None:
    assert classify(_error("57014", psycopg.OperationalError)) is Verdict.TIMED_OUT
    assert classify(DeadlineExceeded("5 s")) is Verdict.TIMED_OUT


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("server closed the connection unexpectedly"),
        psycopg.InterfaceError("the connection is closed"),
        ConnectionResetError(),
        TransportDown("no broker"),
        DatabaseUnavailable("not after three attempts"),
    ],
)
def test_an_error_that_never_met_the_server_is_a_lost_connection(error: Exception) -> None:
    assert classify(error) is Verdict.RECONNECT


@pytest.mark.parametrize("error", [ValueError("x"), NoSuchChannel("x")])
def test_our_own_errors_are_final(error: Exception) -> None:
    assert classify(error) is Verdict.NEVER
