"""What an error means for the call that met it, read from its SQLSTATE and from nothing else.

There is no "only if it failed before the commit" rule: every call is keyed or fenced, so that a
repeat after an ambiguous commit has one effect (a claim returns the same lease, a settlement
answers `lost`).
"""

from __future__ import annotations

import enum

import psycopg

from pyshim.errors import DatabaseUnavailable


class Verdict(enum.Enum):
    """What to do after an error."""

    RECONNECT = "reconnect"  # the connection or the server is gone: a new connection may help
    AGAIN = "again"  # the transaction lost a race: the same connection may try it again
    TIMED_OUT = "timed out"  # statement_timeout or our deadline: ask for less
    NEVER = "never"  # a mistake: it would fail the same way


class DeadlineExceeded(Exception):
    """The client's deadline around a transaction has passed. The connection has been dropped."""

    sqlstate = None


_AGAIN = frozenset({"40001", "40P01", "55P03"})
# 25006: a write on a standby. The host was demoted while we held the connection; a new one finds
# the primary.
_RECONNECT = frozenset({"25006"})
_RECONNECT_CLASSES = ("08", "53", "57P", "58")


def classify(error: BaseException) -> Verdict:
    """The verdict on an error. An error without SQLSTATE never reached the server, or never came
    back."""
    if isinstance(error, DeadlineExceeded):
        return Verdict.TIMED_OUT
    if isinstance(error, DatabaseUnavailable):
        return Verdict.RECONNECT
    sqlstate: str | None = getattr(error, "sqlstate", None)
    if sqlstate is None:
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError)
        return Verdict.RECONNECT if lost else Verdict.NEVER
    if sqlstate == "57014":
        return Verdict.TIMED_OUT
    if sqlstate in _AGAIN:
        return Verdict.AGAIN
    if sqlstate in _RECONNECT or sqlstate.startswith(_RECONNECT_CLASSES):
        return Verdict.RECONNECT
    return Verdict.NEVER
