"""Connections: autocommit, no prepared names (poolers), retried at connect, no password in logs."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.rows import dict_row

from pyshim import __version__, logs
from pyshim.config import Database, redact
from pyshim.errors import DatabaseRefuses, DatabaseUnavailable

log = logging.getLogger("tidegate")

Connection = psycopg.AsyncConnection[dict[str, Any]]

ATTEMPTS = 3
FIRST_DELAY = 0.5  # seconds, doubled after each attempt
LONGEST_DELAY = 5.0
CONNECT_TIMEOUT = 5  # seconds, of one attempt

# Wrong password, no such role or database, not allowed: another attempt sees the same. libpq hands
# out no SQLSTATE of a failed attempt, so it is known by its English words, too: in another language
# it is tried again. Names of hosts come and go, so one that is not known is no such case.
_HOPELESS = re.compile(
    r"authentication failed|no password supplied|does not exist|no pg_hba\.conf entry"
    r"|pg_hba\.conf rejects|not permitted to log in|permission denied for database"
    r"|no such (?:user|database)|invalid \w+ value"
)
_HOPELESS_STATES = ("28", "3D000", "42501")


async def connect(
    database: Database, *, application_name: str = "tidegate", attempts: int = ATTEMPTS
) -> Connection:
    """A connection in autocommit mode, rows as dicts.

    Tries `attempts` times (at most 10), 0.5 s apart and doubling to 5 s, unless the server answers
    that it will never let us in (`DatabaseRefuses`). Then `DatabaseUnavailable`, password redacted.
    An attempt ends after 5 s, unless the URL's connect_timeout or PGCONNECT_TIMEOUT says otherwise.
    """
    delay = FIRST_DELAY
    timeout = conninfo.conninfo_to_dict(database.url).get("connect_timeout")
    timeout = timeout or os.environ.get("PGCONNECT_TIMEOUT") or CONNECT_TIMEOUT
    attempts = max(1, min(attempts, 10))
    for attempt in range(1, attempts + 1):
        try:
            connection = await psycopg.AsyncConnection.connect(
                database.url,
                connect_timeout=timeout,
                autocommit=True,
                prepare_threshold=None,
                row_factory=dict_row,
                application_name=f"{application_name} {__version__}",
            )
        except psycopg.OperationalError as error:
            reason = redact(" ".join(str(error).split()))
            is_hopeless = _is_hopeless(error.sqlstate, reason)
            if is_hopeless or attempt == attempts:
                kind = DatabaseRefuses if is_hopeless else DatabaseUnavailable
                raise kind(
                    f"cannot connect to the database named by {database.source}: {reason}",
                    hint="check that the server is up and the connection string is right",
                ) from None
            logs.event(
                log, logging.WARNING, "connect failed", attempt=attempt, of=attempts, error=reason,
                said=f"connect attempt {attempt} of {attempts} failed: {reason}",
            )  # fmt: skip
            await asyncio.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)
        else:
            await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
            return connection
    raise AssertionError("unreachable")


def _is_hopeless(sqlstate: str | None, reason: str) -> bool:
    if sqlstate is not None:
        return sqlstate.startswith(_HOPELESS_STATES)
    return _HOPELESS.search(reason) is not None
