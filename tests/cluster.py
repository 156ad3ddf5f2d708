"""A primary and a streaming standby, for the tests that kill one and promote the other."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pyshim import embedded, render
from tests.brokers import free_port, until
from tests.server import SCHEMA

_SETTINGS = {"wal_level": "replica", "max_connections": "60"}


class Pair:
    """Two servers with the same data. `url` names both and finds the one that takes writes."""

    def __init__(self, primary: embedded.Server) -> None:
        self._primary = primary
        self._parts: dict[str, Any] = conninfo_to_dict(primary.url)
        self._port = free_port()
        self.primary = primary.url
        self.standby = make_conninfo(**{**self._parts, "port": self._port})
        self.url = make_conninfo(
            **{
                **self._parts,
                "host": "127.0.0.1,127.0.0.1",
                "port": f"{primary.port},{self._port}",
                "target_session_attrs": "read-write",
            }
        )
        as_user = embedded._unprivileged_user()
        # Not in pytest's folders: those are root's, and another run may take them back at any time.
        self._folder = Path(tempfile.mkdtemp(prefix="tg-", dir=embedded._short_tmp()))
        if as_user:
            os.chown(self._folder, as_user["user"], as_user["group"])
        data = self._folder / "data"
        copy = [primary.bin / "pg_basebackup", "-R", "-X", "stream", "-c", "fast", "--no-sync"]
        subprocess.run([*copy, "-D", data, "-d", primary.url], check=True, cwd="/", **as_user)
        with (self._folder / "log").open("wb") as log:
            command = [primary.bin / "postgres", "-D", data, "-p", str(self._port)]
            command += ["-c", f"unix_socket_directories={self._folder}"]
            self._process = subprocess.Popen(command, cwd="/", stderr=log, **as_user)
        until(self._streams)

    def synchronous(self) -> None:
        """From now on nothing is acknowledged before the standby has it, too."""
        with psycopg.connect(self.primary, autocommit=True) as conn:
            conn.execute("alter system set synchronous_standby_names = '*'")
            conn.execute("select pg_reload_conf()")
            until(lambda: self._one(conn, "select sync_state from pg_stat_replication") == "sync")

    def cut(self) -> None:
        """The standby receives nothing more: from here on it is behind."""
        with psycopg.connect(self.standby, autocommit=True) as conn:
            conn.execute("alter system set primary_conninfo = ''")
            conn.execute("select pg_reload_conf()")
            until(lambda: self._one(conn, "select count(*) from pg_stat_wal_receiver") == 0)

    def kill(self) -> None:
        """End the primary, every process of it, as when its machine has gone."""
        with psycopg.connect(self.primary) as conn:
            data = Path(str(self._one(conn, "show data_directory")))
        postmaster = int((data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGSTOP)  # it starts no more of them
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for pid in (*map(int, children), postmaster):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def promote(self) -> None:
        """Make the standby the one that takes writes."""
        with psycopg.connect(self.standby, autocommit=True) as conn:
            assert self._one(conn, "select pg_promote()") is True

    def end(self) -> None:
        """Stop the standby; the primary is its maker's to stop."""
        self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder)

    def _streams(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.standby) as conn:
            return self._one(conn, "select count(*) from pg_stat_wal_receiver") == 1
        return False

    @staticmethod
    def _one(conn: psycopg.Connection[Any], query: str) -> Any:
        row = conn.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


@contextlib.contextmanager
def pair() -> Iterator[Pair]:
    """A primary with Tidegate in it, and its standby."""
    with embedded.running(in_memory=True, settings=_SETTINGS) as primary:
        with psycopg.connect(primary.url, autocommit=True) as conn:
            conn.execute(render.render(SCHEMA).encode())
        both = Pair(primary)
        try:
            yield both
        finally:
            both.end()
