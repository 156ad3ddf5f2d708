"""Where pgTAP comes from.

pgTAP is a script of SQL functions, so any server can run any copy of it. `load` takes the first it
finds: the file that TIDEGATE_PGTAP names, the extension if the server offers it, a copy in our
cache, a copy that some PostgreSQL installation left on this machine, and at last Debian's package,
which is downloaded and unpacked into the cache without being installed, so that no root is needed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

PACKAGE = re.compile(r"^postgresql-(\d+)-pgtap$")
SCRIPT = re.compile(r"^pgtap--(\d+(?:\.\d+)*)\.sql$")
INSTALLED = ("/usr/share/postgresql", "/usr/local/share", "/opt/homebrew/share", "/usr/pgsql-*")

MISSING = """\
pgTAP was not found, and the SQL tests need it. Any of these is enough:
  - Debian or Ubuntu: apt-get install postgresql-15-pgtap (any version will do)
  - another system:   install the pgtap extension on the server that DATABASE_URL names
  - by hand:          TIDEGATE_PGTAP=/path/to/pgtap--1.3.3.sql make test
What was tried: {tried}"""


class PgtapMissing(Exception):
    """No copy of pgTAP could be found; the message says what was tried and what to install."""


def load(conn: psycopg.Connection[Any]) -> None:
    """Create schema `tap` in the database of `conn` and put pgTAP into it."""
    conn.execute("create schema tap")
    named = os.environ.get("TIDEGATE_PGTAP")
    offered = conn.execute("select from pg_available_extensions where name = 'pgtap'").fetchone()
    if offered and not named:
        conn.execute("create extension pgtap schema tap")
        return
    script = Path(named) if named else find()
    conn.execute("set search_path = tap; set client_min_messages = warning")
    conn.execute(script.read_text(encoding="utf-8").encode())  # bytes: many statements at once


def find() -> Path:
    """Return the path of a pgTAP script on this machine, fetching one where there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate"
    for folder in (cache, *_installed()):
        if script := newest(folder):
            return script
    return _fetch(cache)


def newest(folder: Path) -> Path | None:
    """Return the pgTAP script of the highest version anywhere below `folder`."""
    found = [
        (tuple(map(int, match[1].split("."))), path)
        for path in folder.glob("**/pgtap--*.sql")
        if (match := SCRIPT.match(path.name))
    ]
    return max(found)[1] if found else None


def _installed() -> Iterator[Path]:
    for pattern in INSTALLED:
        yield from Path("/").glob(pattern.removeprefix("/"))


def _fetch(cache: Path) -> Path:
    """Download Debian's package into `cache` and unpack its script there."""
    tools = ("apt-get", "apt-cache", "dpkg-deb")
    if absent := [tool for tool in tools if shutil.which(tool) is None]:
        raise PgtapMissing(MISSING.format(tried=f"no {', '.join(absent)} on this machine"))
    tried = []
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        # First with the machine's own package lists; where they are missing or outdated, with
        # lists of our own, which an unprivileged user may fetch as well.
        for options in ([], _own_lists(Path(scratch) / "apt")):
            try:
                deb = _download(Path(scratch), options)
                unpacked = Path(scratch) / "unpacked"
                _run(["dpkg-deb", "-x", str(deb), str(unpacked)], Path(scratch))
            except _Failed as failure:
                tried.append(str(failure))
                continue
            if script := newest(unpacked):
                kept = cache / script.name
                script.replace(kept)
                return kept
            tried.append(f"{deb.name} holds no pgtap--<version>.sql")
    raise PgtapMissing(MISSING.format(tried="; ".join(tried)))


def _own_lists(folder: Path) -> list[str]:
    return [
        "-o", f"Dir::State={folder}/state",
        "-o", "Dir::State::status=/var/lib/dpkg/status",
        "-o", f"Dir::Cache={folder}/cache",
        "-o", "APT::Sandbox::User=",
    ]  # fmt: skip


def _download(scratch: Path, options: list[str]) -> Path:
    if options:
        for part in ("state/lists/partial", "cache/archives/partial"):
            (scratch / "apt" / part).mkdir(parents=True)
        _run(["apt-get", *options, "-q", "update"], scratch)
    names = _run(["apt-cache", *options, "pkgnames", "postgresql-"], scratch).split()
    packages = sorted((name for name in names if PACKAGE.match(name)), key=_major)
    if not packages:
        raise _Failed("the package lists name no postgresql-*-pgtap")
    _run(["apt-get", *options, "-q", "download", packages[-1]], scratch)
    return next(scratch.glob("*.deb"))


def _major(package: str) -> int:
    match = PACKAGE.match(package)
    assert match
    return int(match[1])


class _Failed(Exception):
    """A command of the package manager failed; the message is its last line."""


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise _Failed(f"{' '.join(command)}: {said[-1] if said else done.returncode}")
    return done.stdout
