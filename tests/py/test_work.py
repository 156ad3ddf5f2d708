"""`tidegate work` as a user runs it: real processes, a real database, handlers in a module of the
current directory."""

from __future__ import annotations

import json
import os
import random
import re
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

from pyshim import embedded, render

pytestmark = pytest.mark.slow

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
            [sys.executable, "-m", "pyshim", "work", "jobs:registry", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={
                **kept,
                "TIDEGATE_LOG_FORMAT": "json",
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


def test_what_a_handler_raises_decides_what_becomes_of_the_message(bench: Bench) -> None:
    bench.handlers("""
class Broken(Exception):
    pass

@registry.handler("a", task="plain")
async def plain(delivery):
    raise ValueError("bad \\x00 \\udc80 address at postgresql://u:hunter2@h/d")

@registry.handler("a", task="rejected")
async def rejected(delivery):
    raise Reject("no such account")

@registry.handler("a", task="broken", reject=(Broken, KeyError))
async def broken(delivery):
    raise Broken("for good")

@registry.handler("a", task="malformed")
async def malformed(delivery):
    raise Malformed("no address")

@registry.handler("a", task="parsed", parse=lambda payload: payload["address"].lower())
async def parsed(delivery):
    note("parsed", delivery.payload)

@registry.handler("a", task="later", retry_in="2h")
async def later(delivery):
    raise OSError("busy")

@registry.handler("a", task="asked")
async def asked(delivery):
    raise Retry("rate limit", in_=3600)

@registry.handler("a", task="uncharged")
async def uncharged(delivery):
    raise Retry(in_=3600, charge=False)

@registry.handler("a", task="exit")
async def exit(delivery):
    sys.exit(3)
""")
    bench.queue("a", max_attempts=2, backoff_base="1h", backoff_cap="1h", jitter=0)
    ids = {}
    for task in (
        "plain", "rejected", "broken", "malformed", "parsed", "later", "asked", "uncharged",
        "exit", "nobody's",
    ):  # fmt: skip
        (ids[task],) = bench.send("a", {"n": 1}, headers={"task": task})
    (ids["parsed too"],) = bench.send("a", {"address": "ME@X"}, headers={"task": "parsed"})
    log = bench.drain()
    assert bench.notes() == ["parsed me@x"]
    reasons = {m: (reason, error, attempts) for m, reason, error, attempts in bench.dead()}
    assert reasons == {
        ids["rejected"]: ("not_retryable", "no such account", 1),
        ids["broken"]: ("not_retryable", "Broken: for good", 1),
        ids["malformed"]: ("malformed", "no address", 1),
        ids["parsed"]: ("malformed", "KeyError: 'address'", 1),
        ids["nobody's"]: (
            "unknown_handler",
            """queue 'a' has no handler for task "nobody's" in jobs:registry; it has for the"""
            " tasks 'plain', 'rejected', 'broken', 'malformed', 'parsed', 'later', 'asked',"
            " 'uncharged', 'exit'",
            1,
        ),
    }  # fmt: skip
    later = {
        message_id: (attempts, hours, error)
        for message_id, attempts, hours, error in bench.conn.execute(
            "select message_id, attempts, round(extract(epoch from due_at - now()) / 360)::int,"
            " errors->-1->>'error' from scheduled"
        )
    }
    assert later == {
        ids["plain"]: (1, 10, "ValueError: bad  ? address at postgresql://u:***@h/d"),
        ids["later"]: (1, 20, "OSError: busy"),
        ids["asked"]: (1, 10, "rate limit"),
        ids["uncharged"]: (0, 10, None),
        ids["exit"]: (1, 10, "SystemExit: 3"),
    }
    failed = {line["message_id"]: line for line in events(log, "failed")}
    assert "in plain" in failed[ids["plain"]]["at"]
    assert "jobs.py" in failed[ids["plain"]]["at"]
    assert "hunter2" not in json.dumps(log)
    (stopped,) = events(log, "stopped")
    assert (stopped["done"], stopped["retried"], stopped["dead_lettered"]) == (1, 4, 5)
    assert stopped["released"] == 1


def test_a_payload_that_python_cannot_hold_is_one_messages_fate(bench: Bench) -> None:
    bench.handlers("""
@registry.handler("a")
def a(delivery):
    note(delivery.payload)
""")
    bench.queue("a")
    digits = "9" * 5000
    bench.conn.execute("select queue_send('a', %s::jsonb)", (digits,))
    bench.send("a", 1, 2)
    bench.drain("--batch", "3")
    assert sorted(bench.notes()) == ["1", "2"]
    ((_, reason, error, _),) = bench.dead()
    assert reason == "malformed"
    assert "4300" in error


def test_a_sync_handler_that_takes_its_process_down_is_charged_alone(bench: Bench) -> None:
    bench.handlers("""
@registry.handler("a", concurrency=1)
def a(delivery):
    if delivery.payload == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    if delivery.payload == 3:
        os._exit(7)
    if delivery.payload == 4:
        async def never(): ...
        return never()
    note(delivery.payload)
""")
    bench.queue("a", max_attempts=1)
    bench.send("a", 1, 2, 3, 4, 5)
    bench.drain("--batch", "5")
    assert bench.notes() == ["1", "5"]
    errors = [error for _, _, error, _ in bench.dead()]
    assert errors[:2] == [
        "the handler's process was ended by SIGSEGV",
        "the handler's process ended with exit code 7",
    ]
    assert "async def" in errors[2]


def test_a_handler_past_its_timeout_is_ended_and_its_message_charged(bench: Bench) -> None:
    bench.handlers("""
@registry.handler("a", timeout="300ms")
async def a(delivery):
    try:
        await asyncio.sleep(60)
    finally:
        note("cleaned up")

@registry.handler("b", timeout=0.3)
def b(delivery):
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    note("pids", os.getpid(), helper.pid)
    while True:
        pass
""")
    for name in "ab":
        bench.queue(name, max_attempts=2, backoff_base="1h", backoff_cap="1h")
        bench.send(name, 1)
    started = time.monotonic()
    bench.drain()
    assert time.monotonic() - started < 15
    errors = bench.conn.execute("select attempts, errors->0->>'error' from scheduled").fetchall()
    assert errors == [(1, "timeout: ended after 0.3 s")] * 2
    assert "cleaned up" in bench.notes()
    (pids,) = (note.split()[1:] for note in bench.notes() if note.startswith("pids"))
    bench.until(lambda: not any(_is_alive(int(pid)) for pid in pids))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        if not Path("/proc/self").exists():
            return True
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_handler_is_ended_before_max_runtime_and_its_message_charged(bench: Bench) -> None:
    bench.handlers("""
@registry.handler("a", concurrency=1, batch=3)
async def a(delivery):
    note("began", delivery.payload, delivery.attempt)
    if delivery.payload == 1:
        await asyncio.sleep(60)
""")
    bench.queue(
        "a", lease="2s", max_runtime="4s", max_attempts=2, backoff_base="1h", backoff_cap="1h"
    )
    bench.send("a", 1, 2, 3)
    bench.drain()
    # then those that had to wait for it paid nothing, and it never ran twice at once
    assert bench.notes() == ["began 1 1", "began 2 1", "began 3 1"]
    (row,) = bench.conn.execute("select attempts, errors->0->>'error' from scheduled").fetchall()
    assert row[0] == 1
    assert re.fullmatch("timeout: ended after 3.* s, at the end of the queue's max_runtime", row[1])
    assert bench.scalar("select count(*) from tally where outcome = 'expired'") == 0


@pytest.mark.parametrize("kind", ["sleeps", "blocks the loop", "computes", "in a thread"])
def test_the_lease_of_a_long_handler_is_renewed(bench: Bench, kind: str) -> None:
    bodies = {
        "sleeps": "async def a(delivery):\n    await asyncio.sleep(6)",
        "blocks the loop": "async def a(delivery):\n    time.sleep(6)",
        "computes": "def a(delivery):\n    end = time.monotonic() + 6\n"
        "    while time.monotonic() < end: pass",
        "in a thread": "def a(delivery):\n    time.sleep(6)",
    }
    words = ", in_thread=True" if kind == "in a thread" else ""
    bench.handlers(f"@registry.handler('a'{words})\n{bodies[kind]}\n    note(delivery.attempt)\n")
    bench.queue("a", lease="2s", max_runtime="1min")
    bench.send("a", 1)
    # given another worker that would take it
    workers = bench.start(), bench.start()
    bench.until(lambda: bench.left() == 0)
    for worker in workers:
        worker.terminate()
    log = [line for worker in workers for line in bench.log_of(worker)]
    assert bench.notes() == ["1"]
    assert bench.dead() == []
    assert bool(events(log, "event loop blocked")) == (kind == "blocks the loop")


def test_renewals_have_a_connection_of_their_own_from_the_first_one_on(bench: Bench) -> None:
    bench.handlers("""
@registry.handler("a")
async def a(delivery):
    await asyncio.sleep(delivery.payload)
""")
    bench.queue("a", lease="1s", max_runtime="1min")
    connections = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and application_name like 'tidegate work%%'"
    )
    worker = bench.start()
    bench.send("a", 0)
    bench.until(lambda: bench.left() == 0)
    assert bench.scalar(connections) == 1
    bench.send("a", 2)
    bench.until(lambda: bench.scalar(connections) == 2)
    worker.terminate()
    bench.log_of(worker)
    bench.until(lambda: bench.scalar(connections) == 0, 2)
    assert bench.left() == 0


def test_a_worker_killed_in_the_middle_leaves_its_messages_to_the_next(bench: Bench) -> None:
    bench.handlers("""
@registry.handler("a", concurrency=2)
def a(delivery):
    note("began", delivery.payload, delivery.attempt, os.getpid())
    if not os.path.exists("go"):
        time.sleep(60)
    note("done", delivery.payload)
""")
    bench.queue("a", lease="1s")
    bench.send("a", *range(6))
    first = bench.start("--batch", "6")
    bench.until(lambda: len(bench.notes()) == 2)
    # when it is killed while it works on two of six
    first.kill()
    (bench.folder / "go").touch()
    # then what it had started ends with it
    for note in bench.notes():
        pid = int(note.split()[-1])
        bench.until(lambda pid=pid: not _is_alive(pid), 5)  # type: ignore[misc]
    # and all six are done by another, none charged
    second = bench.start()
    bench.until(lambda: bench.left() == 0)
    second.terminate()
    bench.log_of(second)
    done = [note for note in bench.notes() if note.startswith("done")]
    assert sorted(done) == [f"done {n}" for n in range(6)]
    assert {note.split()[2] for note in bench.notes() if note.startswith("began")} == {"1"}


def test_a_frozen_worker_is_told_that_its_lease_is_lost_and_changes_nothing(bench: Bench) -> None:
    bench.handlers("""
@registry.handler("a", concurrency=3)
async def a(delivery):
    note("began", delivery.payload, os.environ["NAME"])
    await asyncio.sleep(1 if os.environ["NAME"] == "first" else 4)
    note("done", delivery.payload, os.environ["NAME"])
""")
    bench.queue("a", lease="2s", max_runtime="1min")
    bench.send("a", 1, 2, 3)
    # given a worker that is frozen past its lease, while it works
    first = bench.start("-v", NAME="first")
    bench.until(lambda: bench.noted("began 3 first"))
    first.send_signal(signal.SIGSTOP)
    time.sleep(2.2)
    second = bench.start("-v", NAME="second")
    bench.until(lambda: bench.noted("began 1 second", "began 2 second", "began 3 second"))
    # when it goes on while another one has its messages
    first.send_signal(signal.SIGCONT)
    time.sleep(1.0)
    assert bench.scalar("select sum(leased) from backlog") == 3
    bench.until(lambda: bench.left() == 0)
    for worker in (first, second):
        worker.terminate()
    lost = bench.log_of(first)
    # then the new owner finished, and the old one said so
    (warning,) = events(lost, "lease lost")
    assert warning["messages"] == 3
    (stopped,) = events(lost, "stopped")
    assert (stopped["done"], stopped["lost"]) == (0, 3)
    (stopped,) = events(bench.log_of(second), "stopped")
    assert (stopped["done"], stopped["lost"]) == (3, 0)
    assert bench.scalar("select sum(amount) from tally where outcome = 'acked'") == 3


def test_a_first_signal_gives_back_what_has_not_started_and_waits_for_the_rest(
    bench: Bench,
) -> None:
    bench.handlers("""
@registry.handler("a", concurrency=2)
def a(delivery):
    note("began", delivery.payload)
    time.sleep(3)
    note("done", delivery.payload)
""")
    bench.queue("a")
    bench.send("a", *range(10))
    worker = bench.start("--batch", "10")
    bench.until(lambda: len(bench.notes()) == 2)
    worker.terminate()
    # then the eight others are free at once
    ready = "select sum(ready) from backlog"
    bench.until(lambda: bench.scalar(ready) == 8, 2)
    (stopped,) = events(bench.log_of(worker), "stopped")
    assert worker.returncode == 0
    assert (stopped["done"], stopped["released"], stopped["lost"]) == (2, 8, 0)
    assert sorted(bench.notes()) == ["began 0", "began 1", "done 0", "done 1"]
    assert bench.conn.execute("select sum(attempts), count(*) from ready").fetchone() == (0, 8)


def test_after_the_grace_what_runs_is_ended_and_given_back_uncharged(bench: Bench) -> None:
    bench.handlers("""
@registry.handler("a")
async def a(delivery):
    note("a", 0)
    await asyncio.sleep(60)

@registry.handler("b")
def b(delivery):
    note("b", os.getpid())
    time.sleep(60)

@registry.handler("c", in_thread=True)
def c(delivery):
    note("c", 0)
    time.sleep(60)

@registry.handler("d")
async def d(delivery):
    note("d", 0)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
""")
    for name in "abcd":
        bench.queue(name)
        bench.send(name, 1)
    worker = bench.start("--grace", "500ms")
    bench.until(lambda: bench.noted("a", "b", "c", "d"))
    (pid,) = (int(note.split()[1]) for note in bench.notes() if note[0] == "b")
    started = time.monotonic()
    worker.terminate()
    log = bench.log_of(worker)
    assert time.monotonic() - started < 8
    assert not _is_alive(pid)
    assert bench.conn.execute("select sum(attempts), count(*) from ready").fetchone() == (0, 4)
    # and it says which handlers it had to leave in the middle
    assert {line["queue"] for line in events(log, "handler goes on")} == {"c", "d"}
    assert worker.returncode == 1


def test_when_a_handler_s_process_ends_is_the_worker_s_to_say(bench: Bench) -> None:
    # given a handler whose process is told to end, as by a terminal that is closed
    bench.handlers("""
@registry.handler("a")
def a(delivery):
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    time.sleep(0.1)
    note("handled")
""")
    bench.queue("a")
    bench.send("a", 1)
    worker = bench.start("--drain")
    assert worker.wait(60) == 0
    assert bench.notes() == ["handled"]


def test_a_second_signal_ends_the_worker_and_its_handlers_at_once(bench: Bench) -> None:
    bench.handlers("""
@registry.handler("a")
def a(delivery):
    note(os.getpid())
    time.sleep(60)
""")
    bench.queue("a")
    bench.send("a", 1, 2)
    worker = bench.start("--concurrency", "2")
    bench.until(lambda: len(bench.notes()) == 2)
    worker.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert worker.poll() is None
    worker.send_signal(signal.SIGINT)
    assert worker.wait(timeout=5) == -signal.SIGINT
    for note in bench.notes():
        bench.until(lambda pid=int(note): not _is_alive(pid), 5)  # type: ignore[misc]


def test_connections_that_are_cut_cost_no_message_an_attempt(bench: Bench) -> None:
    bench.handlers("""
@registry.handler("a", concurrency=5, batch=7)
async def a(delivery):
    await asyncio.sleep(0.05)
    note(delivery.payload)
""")
    bench.queue("a", lease="3s")
    bench.send("a", *range(200))
    worker = bench.start()
    cuts = 0
    while bench.left():
        time.sleep(0.4)
        cuts += bench.scalar(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid <>"
            " pg_backend_pid() and datname = current_database() and application_name like 'tide%%'"
        )
        assert cuts < 200
    worker.terminate()
    (stopped,) = events(bench.log_of(worker), "stopped")
    assert cuts >= 2
    assert Counter(bench.notes()) == Counter(str(n) for n in range(200))
    assert (stopped["done"], stopped["lost"], stopped["retried"]) == (200, 0, 0)


def test_a_queue_in_trouble_holds_up_no_other(bench: Bench) -> None:
    bench.handlers("""
for name in ("a", "b", "c"):
    @registry.handler(name, concurrency=1)
    async def work(delivery):
        note(delivery.queue, delivery.payload)
        if delivery.queue == "b":
            raise ValueError("no")
        if delivery.queue == "c":
            await asyncio.sleep(60)
""")
    for name in ("a", "b", "c", "d"):
        bench.queue(name, backoff_base="10ms", max_attempts=3)
    worker = bench.start("--queue", "a", "--queue", "b", "--queue", "c", "--grace", "0s")
    bench.send("b", *range(5))
    bench.send("c", 0)
    bench.until(lambda: bench.noted("b 0", "c 0"))
    # given one queue that always fails, one that is stuck, and then one that is dropped
    for n in range(5):
        bench.send("a", n)
        bench.until(lambda n=n: bench.noted(f"a {n}"), 5)  # type: ignore[misc]
    bench.until(lambda: len(bench.dead()) == 5)
    bench.conn.execute("select queue_drop('b')")
    time.sleep(3)
    bench.send("a", "last")
    bench.until(lambda: bench.noted("a last"), 5)
    worker.terminate()
    log = bench.log_of(worker)
    assert worker.returncode == 0
    assert any("no queue" in line["error"] for line in events(log, "failed"))


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_message_that_is_cancelled_ends_its_handler(bench: Bench, kind: str) -> None:
    bench.handlers(f"""
@registry.handler("a", concurrency=1, batch=3)
{kind} a(delivery):
    note(delivery.payload, os.getpid())
    {"await asyncio" if kind == "async def" else "time"}.sleep(0 if delivery.payload else 60)
""")
    bench.queue("a", lease="2s", max_runtime="1min")
    ids = bench.send("a", 0, 1, 2)
    worker = bench.start()
    bench.until(lambda: bench.noted("0"))
    (pid,) = (int(note.split()[1]) for note in bench.notes())
    outcomes = "select array_agg(outcome) from queue_cancel('a', %s)"
    assert bench.scalar(outcomes, [ids[0], ids[1]]) == ["leased", "leased"]
    bench.until(lambda: bench.left() == 0)
    assert _is_alive(pid) == (pid == worker.pid)
    worker.terminate()
    bench.log_of(worker)
    assert [note.split()[0] for note in bench.notes()] == ["0", "2"]
    assert [(m, reason) for m, reason, _, _ in bench.dead()] == [
        (ids[0], "cancelled"),
        (ids[1], "cancelled"),
    ]


def test_an_ack_inside_the_handlers_transaction_commits_with_its_effects(bench: Bench) -> None:
    bench.handlers("""
URL = os.environ["TIDEGATE_DATABASE_URL"]

@registry.handler("a")
def a(delivery):
    with psycopg.connect(URL) as conn:
        conn.execute("insert into public.effect values (%s)", (delivery.payload,))
        delivery.ack_in(conn)
        if delivery.payload == 2:
            raise ValueError("after the ack, before the commit")

@registry.handler("b")
async def b(delivery):
    async with await psycopg.AsyncConnection.connect(URL, autocommit=True) as conn:
        if delivery.payload == 4:
            await delivery.ack_in_async(conn)
        async with conn.transaction():
            await conn.execute("insert into public.effect values (%s)", (delivery.payload,))
            if delivery.payload == 5:
                await conn.execute("select tidegate.queue_ack(%s)", (delivery.lease_id,))
            await delivery.ack_in_async(conn)
""")
    bench.conn.execute("create table public.effect (n int)")
    for name in "ab":
        bench.queue(name, backoff_base="1h", backoff_cap="1h")
    bench.send("a", 1, 2)
    bench.send("b", 3, 4, 5)
    log = bench.drain("--concurrency", "1")
    effects = bench.conn.execute("select n from public.effect order by n").fetchall()
    assert effects == [(1,), (3,)]
    failed = bench.conn.execute("select payload, errors->0->>'error' from scheduled order by 1")
    after, outside = failed.fetchall()
    assert after == (2, "ValueError: after the ack, before the commit")
    assert outside[0] == 4
    assert "no transaction is open" in outside[1]
    totals = {line["loop"]: (line["done"], line["lost"]) for line in events(log, "stopped")}
    assert totals == {"work a": (1, 0), "work b": (1, 1)}


def test_what_handlers_return_is_in_the_callback_of_their_barrier(bench: Bench) -> None:
    bench.handlers("""
URL = os.environ["TIDEGATE_DATABASE_URL"]

@registry.handler("a")
def a(delivery):
    if delivery.payload == "own":
        with psycopg.connect(URL) as conn:
            delivery.ack_in(conn, {"own": delivery.member})
        return "ignored"
    return {"nul": "a\\0b", "large": "x" * 1_100_000, "€": "€" * 300_000}[delivery.payload]

@registry.handler("b")
async def b(delivery):
    return {"async": delivery.member, "of": delivery.barrier}
""")
    for name in ("a", "b", "callbacks"):
        bench.queue(name)
    # given two barriers, and a message that is of none
    payloads = ["nul", "own", "large", "€"]
    bench.conn.execute(
        "select barrier_send('one', 'a', %s::jsonb[], 'callbacks', p_policy => 'collect')",
        ([json.dumps(each) for each in payloads],),
    )
    bench.conn.execute(
        "select barrier_send('two', 'b', array['1', '2']::jsonb[], 'callbacks')",
    )
    bench.send("a", "nul")
    # when both are worked on
    bench.drain("--concurrency", "2")
    # then the callbacks have what was returned; what cannot be stored fails its member only
    told: dict[str, Any] = dict(
        bench.conn.execute("select payload->>'barrier', payload from queue_peek('callbacks')")
    )
    own = {"own": 2}
    assert told["one"]["results"] == [None, own, None, "€" * 300_000]
    nul, large = (each["error"] for each in told["one"]["failures"])
    assert "the result holds \\u0000" in nul
    assert "the result has 1100002 bytes" in large
    assert told["two"]["results"] == [{"async": n, "of": "two"} for n in (1, 2)]
    # and a message of no barrier is done, whatever its handler returned
    assert [(row[1], row[3]) for row in bench.dead()] == [("not_retryable", 1)] * 2
    assert bench.left() == 2


@pytest.mark.parametrize(
    ("text", "words", "code", "said"),
    [
        ("", [], 2, "jobs:registry has no handlers"),
        ("registry.handler('nope')(print)", [], 1, "nope"),
        ("registry.handler('q')(print)", ["--queue", "other"], 2, "it has: q"),
        ("registry.handler('q', lease='3h')(print)", [], 1, "max_runtime"),
        ("import nowhere_to_be_found", [], 2, "No module named 'nowhere_to_be_found'"),
        ("registry = 3", [], 2, "another thing (int)"),
        ("registry.handler('q')(print); registry.handler('q')(print)", [], 2, "already"),
        ("registry.handler('q')(print)", ["--concurrency", "0"], 2, "1<=x<=10000"),
        ("registry.handler('q')(print)", ["--grace", "soon"], 2, "'soon'"),
    ],
)
def test_a_mistake_is_told_before_any_work(
    bench: Bench, text: str, words: list[str], code: int, said: str
) -> None:
    bench.handlers(text)
    bench.queue("q")
    worker = bench.start(*words)
    out, err = worker.communicate(timeout=20)
    assert (worker.returncode, out) == (code, "")
    assert said in err
    assert "Traceback" not in err


def test_a_database_that_is_down_at_the_start_is_told_once(bench: Bench) -> None:
    bench.handlers("registry.handler('q')(print)")
    worker = bench.start(TIDEGATE_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/x")
    _, err = worker.communicate(timeout=20)
    assert worker.returncode == 1
    lines = err.splitlines()
    tries = [json.loads(line) for line in lines if "connect failed" in line]
    assert [(line["attempt"], line["of"]) for line in tries] == [(1, 3), (2, 3)]
    assert "stopped" not in err
    assert lines[-2].startswith("tidegate: cannot connect to the database")


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["the worker", "the worker, from a handler's process"])
def test_a_poison_that_kills_workers_is_cornered_and_nobody_else_pays(
    bench: Bench, kind: str
) -> None:
    """2 000 messages in batches of 500, one of which kills the worker that meets it."""
    bench.handlers(
        """
@registry.handler("a", concurrency=4)
async def a(delivery):
    if delivery.payload == 777:
        note("met", delivery.attempt)
        os.kill(os.getpid(), signal.SIGKILL)
    note(delivery.payload, delivery.attempt)
"""
        if kind == "the worker"
        else """
@registry.handler("a", concurrency=1)
def a(delivery):
    if delivery.payload == 777:
        note("met", delivery.attempt)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    note(delivery.payload, delivery.attempt)
"""
    )
    bench.queue("a", lease="1s", max_attempts=3, backoff_base="100ms")
    bench.send("a", *range(2000))
    # given three workers, each replaced as soon as it dies
    herd = [bench.start("--batch", "500") for _ in range(3)]
    end = time.monotonic() + 180
    while bench.left():
        assert time.monotonic() < end, bench.notes()[-10:]
        for place, worker in enumerate(herd):
            if worker.poll() is not None:
                assert worker.returncode == -signal.SIGKILL
                herd[place] = bench.start("--batch", "500")
        time.sleep(0.05)
    for worker in herd:
        worker.terminate()
    # then the poison stood alone after at most ten crashes, and used up its attempts alone
    met = [note for note in bench.notes() if note.startswith("met")]
    assert met.count("met 1") <= 10
    assert met.count("met 2") == met.count("met 3") == 1
    ((_, reason, error, attempts),) = bench.dead()
    assert (reason, attempts) == ("expired", 3)
    assert "lease expired" in error
    # and every other message was done, none of them ever charged
    others = {note for note in bench.notes() if not note.startswith("met")}
    assert others == {f"{n} 1" for n in range(2000) if n != 777}


@pytest.mark.heavy
@pytest.mark.parametrize("survives", [True, False], ids=["the worker survives", "and so is it"])
def test_a_database_that_is_down_for_longer_than_the_lease_charges_nobody(
    tmp_path: Path, survives: bool
) -> None:
    with embedded.running() as own:
        with psycopg.connect(own.url) as conn:
            conn.execute(render.render("tidegate").encode())
        bench = Bench(tmp_path, own.url)
        bench.handlers("""
@registry.handler("a", concurrency=2, batch=10)
@registry.handler("lone", concurrency=1, batch=1)
def a(delivery):
    note("began", delivery.queue, delivery.payload, delivery.attempt)
    while not os.path.exists("go"):
        time.sleep(0.05)
    note("done", delivery.queue, delivery.payload)
""")
        for name, count in (("a", 20), ("lone", 1)):
            bench.queue(name, lease="2s", max_runtime="10min")
            bench.send(name, *range(count))
        worker = bench.start()
        bench.until(lambda: len(bench.notes()) == 3)
        # when the database is down for twice the lease, and handlers or the worker end meanwhile
        postmaster = int((own.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGQUIT)
        time.sleep(2)
        (tmp_path / "go").touch() if survives else worker.kill()
        time.sleep(3)
        own.restart()
        bench.conn = psycopg.connect(own.url, autocommit=True)
        bench.conn.execute("set search_path = tidegate")
        if survives:
            # then the worker does all, and none is charged
            bench.until(lambda: bench.left() == 0, 60)
            worker.terminate()
            log = bench.log_of(worker)
            assert worker.returncode == 0
            assert {n for n in bench.notes() if n.startswith("done a")} == {
                f"done a {n}" for n in range(20)
            }
            assert {n.split()[3] for n in bench.notes() if n.startswith("began")} == {"1"}
            assert events(log, "not renewed")
            assert all(line["retried"] == 0 for line in events(log, "stopped"))
        else:
            # then the next claim finds all of them, neither charged nor halved
            claim = "select array_agg(attempt) from queue_claim(%s, 100)"
            assert bench.scalar(claim, "a") == [1] * 20
            assert bench.scalar(claim, "lone") == [1]
        assert bench.dead() == []
        bench.conn.close()


@pytest.mark.heavy
def test_workers_share_two_server_connections_behind_a_pooler(bench: Bench, pooled: str) -> None:
    bench.handlers("""
for name in ("a", "b"):
    @registry.handler(name)
    async def work(delivery):
        await asyncio.sleep(0.01)
        note(delivery.queue, delivery.payload)

@registry.handler("long")
def long(delivery):
    time.sleep(3)
    note(delivery.queue, delivery.payload)
""")
    for name in ("a", "b", "long"):
        bench.queue(name, lease="1s", max_runtime="1min")
    bench.send("a", *range(300))
    bench.send("b", *range(300))
    bench.send("long", 1, 2)
    direct, bench.database = bench.database, pooled
    workers = [bench.start() for _ in range(3)]
    bench.until(lambda: bench.left() == 0, 60)
    assert direct != pooled
    for worker in workers:
        worker.terminate()
    for worker in workers:
        log = bench.log_of(worker)
        assert [line for line in log if line["level"] != "info"] == []
    counted = Counter(note.split()[0] for note in bench.notes())
    assert counted == {"a": 300, "b": 300, "long": 2}


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_handler_that_has_acked_may_go_on_without_a_lease(bench: Bench, kind: str) -> None:
    bench.handlers(f"""
@registry.handler("a")
{kind} a(delivery):
    with psycopg.connect(os.environ["TIDEGATE_DATABASE_URL"]) as conn:
        delivery.ack_in(conn)
    {"await asyncio" if kind == "async def" else "time"}.sleep(2)
    note("after", delivery.payload)
""")
    bench.queue("a", lease="1s", max_runtime="1min")
    bench.send("a", 1)
    log = bench.drain()
    assert bench.notes() == ["after 1"]
    (stopped,) = events(log, "stopped")
    assert (stopped["done"], stopped["lost"]) == (1, 0)


def test_a_process_that_does_not_start_is_no_messages_fault(bench: Bench) -> None:
    bench.handlers("""
if os.path.exists("broken") and "child" in sys.argv[0]:
    note("broken")
    raise RuntimeError("no licence")

@registry.handler("a", concurrency=1)
def a(delivery):
    note(delivery.payload, delivery.attempt)
""")
    (bench.folder / "broken").touch()
    bench.queue("a")
    bench.send("a", 1, 2)
    worker = bench.start()
    bench.until(lambda: bench.noted("broken"))
    (bench.folder / "broken").unlink()
    bench.until(lambda: bench.left() == 0)
    worker.terminate()
    told = events(bench.log_of(worker), "no process")
    assert "no licence" in told[0]["error"]
    assert sorted(set(bench.notes())) == ["1 1", "2 1", "broken"]


def test_a_drain_ends_when_handlers_have_sent_nothing_more_to_any_queue(bench: Bench) -> None:
    bench.handlers("""
@registry.handler("a")
async def a(delivery):
    await asyncio.sleep(0.3)
    n = delivery.payload
    note(delivery.queue, n)
    with psycopg.connect(os.environ["TIDEGATE_DATABASE_URL"]) as conn:
        if n < 4:
            other = "b" if delivery.queue == "a" else "a"
            conn.execute("select tidegate.queue_send(%s, to_jsonb(%s::int))", (other, n + 1))
        (worker,) = conn.execute("select distinct worker from tidegate.in_flight").fetchone()
        assert worker == "w7", worker

registry.handler("b")(a)
""")
    for name in "ab":
        bench.queue(name)
    bench.send("a", 0)
    bench.drain("--worker", "w7")
    assert bench.notes() == ["a 0", "b 1", "a 2", "b 3", "a 4"]
    assert bench.left() == 0


@pytest.mark.heavy
def test_kills_lose_no_message_and_break_no_order_within_groups(bench: Bench) -> None:
    bench.handlers("""
import random

@registry.handler("a", task="async", concurrency=8)
async def a(delivery):
    await asyncio.sleep(random.uniform(0, 0.02))
    work(delivery)

@registry.handler("a", task="sync")
def b(delivery):
    time.sleep(random.uniform(0, 0.02))
    work(delivery)

def work(delivery):
    if random.random() < 0.1:
        raise ValueError("by chance")
    note(delivery.group_key or "-", delivery.payload)
""")
    bench.queue("a", lease="2s", max_attempts=0, backoff_base="50ms", backoff_cap="200ms")
    bench.conn.execute(
        "select queue_send('a', to_jsonb(n),"
        " p_headers => jsonb_build_object('task', case n % 3 when 0 then 'sync' else 'async' end),"
        " p_group_key => case when n % 2 = 0 then 'g' || n % 40 end)"
        " from generate_series(1, 2500) n"
    )
    # given three workers, one of which is killed every second or so
    herd = [bench.start() for _ in range(3)]
    end = time.monotonic() + 300
    kills = 0
    while bench.left():
        assert time.monotonic() < end
        time.sleep(random.uniform(1.0, 3.0))
        place = random.randrange(len(herd))
        assert herd[place].poll() is None
        herd[place].kill()
        herd[place] = bench.start()
        kills += 1
    for worker in herd:
        worker.terminate()
    # then every message was done, and nobody overtook another of its group
    assert kills >= 5
    assert bench.dead() == []
    done = [tuple(note.split()) for note in bench.notes()]
    assert {n for _, n in done} == {str(n) for n in range(1, 2501)}
    groups: dict[str, list[int]] = {}
    for group, n in done:
        groups.setdefault(group, []).append(int(n))
    for group, order in groups.items():
        assert group == "-" or order == sorted(order)
