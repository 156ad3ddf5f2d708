"""Where a run takes place: an embedded server with fixed settings, or that of DATABASE_URL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg

from bench.engine.meter import Connection, Cpu, Wal
from pyshim import config, embedded, migrate
from pyshim.connect import connect

SCHEMA = "tidegate"

SETTINGS = {
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_compression": "off",
    "autovacuum": "on",
}

# For the measured session, so that bare SQL walks its index whatever the statistics of the moment
# say. Tidegate's functions bring such settings along.
_PLANS = ("set enable_seqscan = off", "set enable_sort = off")


@dataclass
class Place:
    """A database of our own, with the one connection that is measured and one that looks on."""

    url: str
    connection: Connection
    monitor: Connection
    cpu: Cpu
    wal: Wal

    def connect(self) -> Connection:
        """One more connection, in autocommit mode."""
        return psycopg.connect(self.url, autocommit=True)

    def rest(self, *tables: str) -> None:
        """Vacuum `tables`, so that every round begins alike; dead rows of others do not matter."""
        self.monitor.execute(f"vacuum {', '.join(tables)}")

    def checkpoint(self) -> None:
        """Begin with a checkpoint behind us, where we may ask for one."""
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            self.monitor.execute("checkpoint")

    def describe(self) -> dict[str, object]:
        """Server, settings and machine, for the results."""
        shown = [*SETTINGS, "jit", "default_toast_compression"]
        rows = self.monitor.execute(
            "select name, current_setting(name) from pg_settings where name = any(%s)", [shown]
        ).fetchall()
        lz4 = self.monitor.execute(
            "select 'lz4' = any(enumvals) from pg_settings where name = 'default_toast_compression'"
        ).fetchone()
        version = self.monitor.execute("select version()").fetchone()
        return {
            "server": version[0] if version else "",
            "settings": dict(rows),
            "has_lz4": bool(lz4 and lz4[0]),
            "machine": {
                "processor": _processor(),
                "cores": os.cpu_count(),
                "memory_gb": _memory(),
                "system": f"{platform.system()} {platform.release().split('-')[0]}",
                "load": [round(load, 1) for load in os.getloadavg()],
            },
            "cpu_is_known": self.cpu.is_known,
        }


@contextlib.contextmanager
def open_place(named: config.Database | None) -> Iterator[Place]:
    """Install Tidegate in a database of our own; it is gone afterwards."""
    if named is None:
        with (
            embedded.running(fsync=True, settings=SETTINGS) as server,
            _installed(server.url) as it,
        ):
            yield it
        return
    dbname = f"tidegate_bench_{uuid4().hex[:8]}"
    with psycopg.connect(named.url, autocommit=True) as admin:
        admin.execute(f"create database {dbname}")
        try:
            with _installed(config.with_database(named.url, dbname)) as place:
                yield place
        finally:
            admin.execute(f"drop database {dbname} with (force)")


@contextlib.contextmanager
def _installed(url: str) -> Iterator[Place]:
    asyncio.run(_migrate(url))
    with (
        psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection,
        psycopg.connect(url, autocommit=True) as monitor,
    ):
        for setting in _PLANS:
            connection.execute(setting)
        yield Place(url, connection, monitor, Cpu(connection), Wal(monitor))


async def _migrate(url: str) -> None:
    connection = await connect(config.Database(url, "the bench"))
    try:
        await migrate.apply(connection, SCHEMA)
    finally:
        await connection.close()


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int:
    with contextlib.suppress(ValueError, OSError):
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    return 0
