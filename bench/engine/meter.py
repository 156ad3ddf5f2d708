"""What a call costs: CPU time of its backend, bytes of WAL, buffers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]


class Cpu:
    """CPU time of one backend as the scheduler counts it, in nanoseconds.

    Time spent waiting for disks, locks and the client is not in it. Only where the server's
    processes can be seen under /proc: `is_known` is False elsewhere, and `read` answers 0.
    """

    def __init__(self, connection: Connection) -> None:
        row = connection.execute("select pg_backend_pid()").fetchone()
        assert row
        self._read = _reader(row[0])
        before = self.read()
        connection.execute("select count(*) from generate_series(1, 200000)")
        # A process of that pid that did not work when our backend did is somebody else's.
        self.is_known = self.read() - before > 1_000_000
        if not self.is_known:
            self._read = lambda: 0

    def read(self) -> int:
        return self._read()


def _reader(pid: int) -> Callable[[], int]:
    folder = Path("/proc") / str(pid)
    with contextlib.suppress(OSError):
        stat = os.open(folder / "stat", os.O_RDONLY)

        def fields() -> list[bytes]:
            # The clock of a process is exact only once it sleeps: it has answered us a moment ago,
            # and is about to.
            while True:
                found = os.pread(stat, 1000, 0).rpartition(b")")[2].split()
                if found[0] != b"R":
                    return found

        with contextlib.suppress(OSError):
            schedstat = os.open(folder / "schedstat", os.O_RDONLY)

            def exact() -> int:
                fields()
                return int(os.pread(schedstat, 100, 0).split()[0])

            return exact
        tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        return lambda: sum(map(int, fields()[11:13])) * tick
    return lambda: 0


@dataclass
class Wal:
    """WAL written by the whole server: read it only while nobody else writes."""

    monitor: Connection

    def read(self) -> int:
        row = self.monitor.execute("select pg_current_wal_insert_lsn() - '0/0'").fetchone()
        assert row
        return int(row[0])
