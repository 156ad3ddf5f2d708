"""A PgBouncer in transaction mode in front of a database."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tests.brokers import free_port, until


class PgBouncer:
    """Hands out `size` server connections a transaction, from each of two pools, `url` and
    `other`."""

    def __init__(self, database: str, *, size: int = 2) -> None:
        binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
        assert binary, "this test needs pgbouncer: install the package of that name"
        parts = conninfo_to_dict(database)
        port = free_port()
        self.url = f"postgresql://anyone@127.0.0.1:{port}/pooled"
        self.other = f"postgresql://anyone@127.0.0.1:{port}/other"
        # Not in pytest's folders: those are root's, and another run may take them back at any time.
        self._folder = Path(tempfile.mkdtemp(prefix="tg-bouncer-"))
        self._folder.chmod(0o755)
        server = " ".join(f"{name}={parts[name]}" for name in ("host", "port", "user", "dbname"))
        server += f" password={parts['password']}" if parts.get("password") else ""
        settings = self._folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\npooled = {server}\nother = {server}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {size}\nlogfile =\n"
        )
        self._command = [binary, "-q", str(settings)]
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as_user = {"user": pwd.getpwnam("nobody").pw_uid}
        self._process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log, cwd="/", **self._as_user)
        until(self._answers)

    def restart(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Every connection through it breaks."""
        self._process.send_signal(how)
        self._process.wait()
        self.start()

    def end(self) -> None:
        """Stop."""
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            psycopg.connect(self.url).close()
        except psycopg.OperationalError:
            return False
        return True
