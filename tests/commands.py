"""What tests of commands look at: answers, tables, complaints, and a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg


class Told(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


Tell = Callable[..., Told]


def one(conn: psycopg.Connection[Any], query: str) -> Any:
    """The first row."""
    return conn.execute(query.encode()).fetchone()


def cells(line: str) -> list[str]:
    """A line of a table."""
    return [cell.strip() for cell in line.split("|")]


def complaint(told: Told, code: int = 1) -> str:
    """One clear line of ours, and perhaps a hint; nothing on standard output."""
    assert (told.code, told.out) == (code, ""), told
    first, *rest = told.err.splitlines()
    assert first.startswith("tidegate: ")
    assert all(line.startswith(("  hint: ", "  detail: ")) for line in rest)
    return told.err


class Terminal:
    """The command on a terminal of 60 columns."""

    def __init__(self, database: str, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pyshim", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={
                **os.environ,
                "TIDEGATE_DATABASE_URL": database,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "COLUMNS": "60",
            },
        )
        os.close(theirs)
        self.seen = ""

    def until(self, text: str) -> None:
        """Read until `text` was shown."""
        end = time.monotonic() + 20
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self._ours], [], [], 0.2)[0]:
                self.seen += os.read(self._ours, 4096).decode()

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._ours, text.encode() + b"\n")

    def end(self) -> int:
        """What it exits with; the rest of what it showed is in `seen`."""
        try:
            while more := os.read(self._ours, 4096):
                self.seen += more.decode()
        except OSError:  # nobody has the other end any more
            pass
        os.close(self._ours)
        return self.process.wait(timeout=20)
