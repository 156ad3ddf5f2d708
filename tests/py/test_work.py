"""`tidegate work` as a user runs it: real processes, a real database, handlers in a module of the
current directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

MODULE = """
import asyncio, os, signal, subprocess, sys, time
import psycopg
from pyshim.registry import Malformed, Registry, Reject, Retry

registry = Registry()

def note(*words):
    with open("notes", "a") as notes:
        notes.write(" ".join(map(str, words)) + "\\n")

"""


class Bench:
    """A folder with a module of handlers, a database, and workers on both."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self.database = database
        self.conn = psycopg.connect(database, autocommit=True)
        self.conn.execute("set search_path = tidegate")
        self.started: list[subprocess.Popen[str]] = []

    def handlers(self, text: str) -> None:
        """Write the module `jobs`."""
        (self.folder / "jobs.py").write_text(MODULE + text)

    def queue(self, name: str, **policy: Any) -> None:
        self.conn.execute("select queue_create(%s, %s)", (name, json.dumps(policy)))

    def send(self, queue: str, *payloads: Any, headers: Any = None) -> list[int]:
        rows = self.conn.execute(
            "select message_id from queue_send_many(%s, %s::jsonb[], p_headers => %s)",
            (queue, [json.dumps(each) for each in payloads], headers and json.dumps(headers)),
        )
        return [row[0] for row in rows]

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """Start a worker; its log goes into a pipe, as JSON."""
        kept = {name: value for name, value in os.environ.items() if "DATABASE_URL" not in name}
        process = subprocess.Popen(
            [sys.executable, "-m", "pyshim", "work", "jobs:registry", "--log-format", "json"]
            + [*words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={
                **kept,
                "TIDEGATE_DATABASE_URL": self.database,
                "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
                **environment,
            },
        )
        self.started.append(process)
        return process

    def drain(self, *words: str) -> list[dict[str, Any]]:
        """Work until nothing is due; the log."""
        process = self.start("--drain", "-v", *words)
        log = self.log_of(process)
        assert process.returncode == 0, log
        return log

    def log_of(self, process: subprocess.Popen[str], timeout: float = 60) -> list[dict[str, Any]]:
        """Wait for its end; the log."""
        _, err = process.communicate(timeout=timeout)
        assert "Traceback" not in err, err
        return [json.loads(line) for line in err.splitlines() if line.startswith("{")]

    def notes(self) -> list[str]:
        """What handlers noted."""
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def scalar(self, query: str, *arguments: Any) -> Any:
        row = self.conn.execute(query.encode(), arguments).fetchone()
        assert row is not None
        return row[0]

    def left(self) -> int:
        """Messages that are anywhere but dead."""
        return int(self.scalar("select coalesce(sum(ready + scheduled + leased), 0) from backlog"))

    def dead(self) -> list[tuple[Any, ...]]:
        """message_id, reason, last_error, attempts of each dead letter."""
        return self.conn.execute(
            "select message_id, reason, last_error, attempts from dead_letter order by message_id"
        ).fetchall()

    def until(self, condition: Callable[[], Any], seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"it did not happen in time; notes: {self.notes()[-5:]}"
            time.sleep(0.02)

    def noted(self, *starts: str) -> bool:
        return all(any(n.startswith(start) for n in self.notes()) for start in starts)


@pytest.fixture
def bench(tmp_path: Path, database: str) -> Iterator[Bench]:
    made = Bench(tmp_path, database)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()
    made.conn.close()


def events(log: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [line for line in log if line["event"] == name]


def test_async_and_sync_handlers_work_on_what_is_there(bench: Bench) -> None:
    bench.handlers("""
@registry.handler("a")
async def a(delivery):
    await asyncio.sleep(0)
    note("a", delivery.payload["n"], delivery.attempt, delivery.headers.get("h"))

@registry.handler("b", concurrency=2)
def b(delivery):
    note("b", delivery.payload["n"], os.getpid())

@registry.handler("c", in_thread=True)
def c(delivery):
    note("c", delivery.payload["n"])
""")
    for name in "abc":
        bench.queue(name)
        bench.send(name, *({"n": n} for n in range(50)), headers={"h": name})
    log = bench.drain()
    assert bench.left() == 0
    assert bench.dead() == []
    notes = bench.notes()
    assert sorted(n for n in notes if n[0] == "a") == sorted(f"a {n} 1 a" for n in range(50))
    assert sorted(n for n in notes if n[0] == "c") == sorted(f"c {n}" for n in range(50))
    processes = {n.split()[2] for n in notes if n[0] == "b"}
    assert len(processes) in (1, 2)
    assert str(bench.started[0].pid) not in processes
    stopped = {line["loop"]: line["done"] for line in events(log, "stopped")}
    assert stopped == {"work a": 50, "work b": 50, "work c": 50}
