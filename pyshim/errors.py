"""SQLSTATE → exception. Everything that Tidegate raises on purpose is a `TidegateError`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import psycopg


class TidegateError(Exception):
    """A mistake with a name: what was seen, and the next step as `hint`."""

    sqlstate: ClassVar[str | None] = None

    def __init__(self, message: str, *, hint: str | None = None, detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} (hint: {self.hint})"


class ConfigError(TidegateError):
    """A setting cannot be read. The message names the variable, the value and what is allowed."""


class Mistakes(ConfigError):
    """Several at once: each has its own message and hint."""

    def __init__(self, mistakes: Sequence[ConfigError]) -> None:
        super().__init__("; ".join(each.message for each in mistakes))
        self.mistakes = tuple(mistakes)

    @staticmethod
    def raise_any(mistakes: Sequence[ConfigError]) -> None:
        """Raise the only one, or all of them, or nothing."""
        if mistakes:
            raise mistakes[0] if len(mistakes) == 1 else Mistakes(mistakes)


class SchemaNameError(ConfigError):
    """A schema name that cannot be used."""


class AssetError(TidegateError):
    """The SQL files of this installation are incomplete or break a rule of the house."""


class DatabaseUnavailable(TidegateError):
    """No connection after all attempts."""


class DatabaseRefuses(DatabaseUnavailable):
    """The server is there, and will not let us in: another attempt would see the same."""


class EmbeddedUnavailable(TidegateError):
    """There is no PostgreSQL from a wheel on this platform, or it does not start."""


class MigrationError(TidegateError):
    """A migration cannot be applied: a frozen one changed, or its SQL failed."""


class BadArgument(TidegateError):
    """An argument of a call is not usable."""

    sqlstate = "TG010"


class NoSuchChannel(TidegateError):
    """The topic or queue does not exist."""

    sqlstate = "TG020"


class ChannelInUse(TidegateError):
    """The topic or queue does not fit the call: it holds messages, is routed, or has no route."""

    sqlstate = "TG022"


class ChannelDraining(TidegateError):
    """The queue is draining and takes no more messages."""

    sqlstate = "TG023"


class WrongIsolation(TidegateError):
    """The call needs READ COMMITTED."""

    sqlstate = "TG030"


class SweepInSweep(TidegateError):
    """A SQL handler called outbox_sweep or queue_work, of which one was calling it."""

    sqlstate = "TG031"


class UnsafeHandler(TidegateError):
    """The handler's owner or search_path would let others act as the installation's owner."""

    sqlstate = "TG040"


class NoSuchHandler(TidegateError):
    """The handler does not exist, or is no function of one jsonb or message that returns void."""

    sqlstate = "TG041"


class NotRetryable(TidegateError):
    """Yours to raise in a SQL handler: this message fails for good, with attempts left or not."""

    sqlstate = "TG042"


class SchemaMismatch(TidegateError):
    """Schema and driver do not fit: one of them is too old."""

    sqlstate = "TG050"


class LedgerRefuses(TidegateError):
    """A migrate, rollback or rendered file refuses: it does not fit what is installed, rows would
    be lost, or others could put something into the schema."""

    sqlstate = "TG060"


class NoSuchBarrier(TidegateError):
    """The barrier does not exist, or never had that epoch."""

    sqlstate = "TG080"


class BarrierSealed(TidegateError):
    """The barrier is sealed and takes no more members."""

    sqlstate = "TG081"


class EpochIsOver(TidegateError):
    """A write named a leader's epoch that is over."""

    sqlstate = "TG090"


class RunIsFinal(TidegateError):
    """The run has completed: it cannot be cancelled any more."""

    sqlstate = "TG091"


class NoSuchRun(TidegateError):
    """The run that was named as a parent does not exist."""

    sqlstate = "TG092"


BY_SQLSTATE: dict[str, type[TidegateError]] = {
    kind.sqlstate: kind for kind in TidegateError.__subclasses__() if kind.sqlstate is not None
}

# Never raised: rows of the table incident carry them.
INCIDENTS = {
    "TG032": "position_seq was set back: every floor was forgotten, and the sequence moved on.",
    "TG033": "The clock was set back: all deadlines are looked at again.",
    "TG034": "Messages stood below a floor and were put back: was position_seq set back?",
}


def from_database(error: psycopg.Error) -> TidegateError | None:
    """The exception for an error of class TG; None for errors that are not ours.

    An unknown TG code (a newer schema) is still a `TidegateError` with its message and hint.
    """
    state = error.sqlstate
    if state is None or not state.startswith("TG"):
        return None
    kind = BY_SQLSTATE.get(state, TidegateError)
    diag = error.diag
    return kind(
        diag.message_primary or str(error), hint=diag.message_hint, detail=diag.message_detail
    )
