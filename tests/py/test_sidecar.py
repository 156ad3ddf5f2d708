"""`tidegate run`: all roles in one process, against a real database."""

from __future__ import annotations

import json
import os
import queue
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, sql

from pyshim.config import with_database
from pyshim.names import ROLES
from pyshim.render import render

HERE = Path(__file__).parent

ALL = """
listen = "127.0.0.1:0"
log_format = "json"
[labels]
environment = "test"
[sweep]
interval = "50ms"
[[relay]]
topic = "handled"
to = "stdout"
[[work]]
registry = "sidecar_registry:registry"
queues = ["mail"]
grace = "5s"
[maintain]
interval = "100ms"
lease = "2s"
[maintain.retention]
dead_letter = "90d"
"""


class Sidecar:
    """A sidecar of ours: what it writes, what it logs, and where it answers."""

    def __init__(self, database: str, file: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pyshim", "run", "--config", str(file), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "TIDEGATE_DATABASE_URL": database,
                "PYTHONPATH": os.pathsep.join([*sys.path, str(HERE)]),
            },
        )
        self.out: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.logged: list[dict[str, Any]] = []
        for work in (self._read_out, self._read_log):
            threading.Thread(target=work, daemon=True).start()

    def _read_out(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.out.put(line)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.logged.append(json.loads(line) if line.startswith("{") else {"said": line})

    def events(self, name: str) -> list[dict[str, Any]]:
        """What it has logged under this name."""
        return [each for each in self.logged if each.get("event") == name]

    def fetch(self, path: str) -> tuple[int, str]:
        """What it answers."""
        until(lambda: bool(self.events("listening")), self)
        at = self.events("listening")[0]["address"]
        try:
            with urllib.request.urlopen(f"http://{at}{path}", timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def samples(self) -> dict[str, float]:
        """The samples of /metrics."""
        lines = [each for each in self.fetch("/metrics")[1].splitlines() if each[:1] != "#"]
        return {name: float(value) for name, value in (each.rsplit(" ", 1) for each in lines)}

    def end(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


Start = Callable[..., Sidecar]


def until(condition: Callable[[], bool], sidecar: Sidecar | None = None) -> None:
    """Wait for it."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, sidecar.logged if sidecar else "it did not happen in time"
        assert sidecar is None or sidecar.process.poll() is None, json.dumps(sidecar.logged[-4:])
        time.sleep(0.05)


@pytest.fixture
def start(database: str, tmp_path: Path) -> Iterator[Start]:
    """`start(text)` runs a sidecar with that file."""
    started: list[Sidecar] = []

    def run(text: str, *words: str) -> Sidecar:
        file = tmp_path / f"{len(started)}.toml"
        file.write_text(text)
        started.append(Sidecar(database, file, *words))
        return started[-1]

    yield run
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        connection.execute("select topic_create('orders'), topic_create('handled')")
        connection.execute("select queue_create('mail'), queue_create('blocking')")
        connection.execute("select outbox_route('orders', 'mail')")
        yield connection


def _put(conn: psycopg.Connection[Any], first: int, last: int) -> None:
    conn.execute(
        "select outbox_put('orders', jsonb_build_object('n', n))"
        " from generate_series(%s::int, %s::int) n",
        (first, last),
    )


def _numbers(sidecar: Sidecar, count: int) -> list[int]:
    """What `count` lines on standard output say."""
    found: list[int] = []
    while len(found) < count:
        until(lambda: not sidecar.out.empty(), sidecar)
        found.append(json.loads(sidecar.out.get())["payload"]["n"])
    return found


def test_events_flow_through_all_roles_of_one_process(
    start: Start, conn: psycopg.Connection[Any]
) -> None:
    # given a sidecar with all roles
    sidecar = start(ALL)
    # when events come in: swept into a queue, handled there, put into a topic, relayed
    _put(conn, 1, 20)
    assert sorted(_numbers(sidecar, 20)) == list(range(1, 21))
    # then one port tells of all of them
    loops = ('loop="sweep"', 'loop="relay",channel="handled"', 'loop="work",channel="mail"',
             'loop="maintain"')  # fmt: skip
    name = 'tidegate_loop_duration_seconds_count{{environment="test",{},outcome="success"}}'
    until(lambda: all(name.format(each) in sidecar.samples() for each in loops), sidecar)
    assert sidecar.samples()['tidegate_up{environment="test"}'] == 1
    assert sidecar.fetch("/healthz") == (200, "ok\n")
    assert sidecar.fetch("/readyz") == (200, "ok\n")
    # and the upkeep is told what to keep
    kept = conn.execute("select arguments from maintenance_setting where job = 'cleanup'")
    assert kept.fetchone() == ({"p_dead_letter_retention": "7776000.000 seconds"},)
    # and it holds no more connections than it says
    said = effective_connections(sidecar)
    found = conn.execute(
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and application_name like 'tidegate%'"
    ).fetchone()
    assert found is not None and found[0] <= said
    # and SIGTERM ends it, each role in good order
    assert sidecar.end() == 0, sidecar.logged
    until(lambda: len(sidecar.events("stopped")) == 4)
    assert {each["loop"] for each in sidecar.events("stopped")} == {
        "sweep", "relay handled", "work mail", "maintain"
    }  # fmt: skip
    alive = conn.execute("select sum(ready + scheduled + leased) from backlog").fetchone()
    assert alive == (0,)


def effective_connections(sidecar: Sidecar) -> int:
    """What `--check` says of the same file."""
    words = [*map(str, sidecar.process.args), "--check"]  # type: ignore[arg-type, union-attr]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(HERE)]), "PGHOST": "h"}
    told = subprocess.run(words, capture_output=True, text=True, check=True, env=env).stdout
    match = re.search(r"at most (\d+) database connections", told)
    assert match, told
    return int(match[1])


def test_a_role_that_cannot_begin_ends_the_process_and_says_why(
    start: Start, conn: psycopg.Connection[Any]
) -> None:
    # a topic that does not exist is found before anything begins
    sidecar = start(ALL.replace('topic = "handled"', 'topic = "handeld"'))
    assert sidecar.process.wait(60) == 2
    until(lambda: "said" in str(sidecar.logged))
    assert "relay[0]: there is no topic 'handeld' in schema tidegate; is it 'handled'?" in str(
        sidecar.logged
    )
    # and what only the first step finds out, such as a relay of a routed topic, names the role
    sidecar = start(ALL.replace('topic = "handled"', 'topic = "orders"'))
    assert sidecar.process.wait(60) == 1
    until(lambda: bool(sidecar.events("role ended")))
    assert sidecar.events("role ended")[0]["role"] == "relay[0]"


def test_a_database_that_is_not_there_yet_is_waited_for(database: str, start: Start) -> None:
    # given a database that lets nobody in yet
    name = conninfo.conninfo_to_dict(database)["dbname"]
    with psycopg.connect(with_database(database, "postgres"), autocommit=True) as admin:
        admin.execute(f'alter database "{name}" allow_connections false')
        sidecar = start('log_format = "json"\nlisten = "127.0.0.1:0"\n[sweep]\n')
        until(lambda: len(sidecar.events("waiting for the database")) >= 2, sidecar)
        # then it is healthy, not ready, and says what it waits for
        assert sidecar.fetch("/healthz") == (200, "ok, waiting for the database\n")
        assert sidecar.fetch("/readyz") == (503, "waiting for the database\n")
        told = sidecar.events("waiting for the database")
        assert "not currently accepting connections" in told[0]["error"]
        assert [each["attempt"] for each in told[:2]] == [1, 2]
        assert not sidecar.events("started")
        # and begins when it is there
        admin.execute(f'alter database "{name}" allow_connections true')
    until(lambda: bool(sidecar.events("started")), sidecar)
    until(lambda: sidecar.fetch("/readyz") == (200, "ok\n"), sidecar)
    assert sidecar.fetch("/healthz") == (200, "ok\n")
    assert sidecar.end() == 0, sidecar.logged


def test_whoever_waits_for_the_database_ends_when_told(start: Start) -> None:
    # given a server that takes connections and never answers, and none at all
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (silent.getsockname()[1], 1):
            url = f"postgresql://u:hunter2@127.0.0.1:{port}/x?connect_timeout=600"
            text = 'log_format = "json"\nlisten = "127.0.0.1:0"\n[sweep]\n'
            sidecar = start(text, "--database-url", url)
            until(lambda: bool(sidecar.events("listening")), sidecar)  # noqa: B023
            if port == 1:
                until(lambda: bool(sidecar.events("waiting for the database")), sidecar)  # noqa: B023
            assert sidecar.end() == 0, sidecar.logged
            assert "hunter2" not in str(sidecar.logged)


def test_a_database_that_will_never_let_us_in_is_not_waited_for(
    database: str, start: Start
) -> None:
    text = 'log_format = "json"\n[sweep]\n'
    sidecar = start(text, "--database-url", with_database(database, "nowhere"))
    assert sidecar.process.wait(60) == 2
    until(lambda: "does not exist" in str(sidecar.logged))
    # nor is a schema that is not installed
    sidecar = start('schema = "nowhere"\n' + text)
    assert sidecar.process.wait(60) == 1
    until(lambda: "holds no Tidegate" in str(sidecar.logged))


def test_the_rights_of_a_worker_are_enough_but_for_the_retention(
    empty_database: str, start: Start
) -> None:
    schema = f"rights_{secrets.token_hex(4)}"
    login = sql.Identifier(f"{schema}_login")
    names = [sql.Identifier(f"{schema}_{each}") for each in ROLES]
    with psycopg.connect(empty_database, autocommit=True) as admin:
        admin.execute(render(schema, roles=True).encode())
        admin.execute(sql.SQL("set search_path = {}").format(sql.Identifier(schema)))
        admin.execute("select topic_create('loose'), outbox_put('loose', '{\"n\": 1}')")
        worker, operator = (sql.Identifier(f"{schema}_{each}") for each in ("worker", "operator"))
        create = "create role {} login password 'sesame' in role {}"
        admin.execute(sql.SQL(create).format(login, worker))
        url = conninfo.make_conninfo(empty_database, user=f"{schema}_login", password="sesame")
        text = (
            f'schema = "{schema}"\nlog_format = "json"\nlisten = "127.0.0.1:0"\n'
            '[sweep]\n[[relay]]\ntopic = "loose"\nto = "stdout"\n[maintain]\ninterval = "100ms"\n'
        )
        kept = text + '[maintain.retention]\nrun = "30d"\n'
        try:
            # given a sidecar that only works, then all of it does
            sidecar = start(text, "--database-url", url)
            assert _numbers(sidecar, 1) == [1]
            ran = "select bool_and(succeeded_at is not null) and count(*) >= 6 from upkeep"
            until(lambda: admin.execute(ran).fetchone() == (True,), sidecar)
            assert sidecar.samples()["tidegate_up"] == 1
            assert sidecar.end() == 0
            assert not sidecar.events("failed")
            # what the cleanup keeps is an operator's to say
            sidecar = start(kept, "--database-url", url)
            assert sidecar.process.wait(60) == 1
            until(lambda: "permission denied" in str(sidecar.logged))
            admin.execute(sql.SQL("grant {} to {}").format(operator, login))
            sidecar = start(kept, "--database-url", url)
            set_ = "select count(*) from maintenance_setting where job = 'cleanup'"
            until(lambda: admin.execute(set_).fetchone() == (1,), sidecar)
            assert sidecar.end() == 0
        finally:
            admin.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(schema)))
            for each in (login, *names):
                admin.execute(sql.SQL("drop role if exists {}").format(each))


def test_what_blocks_one_role_holds_up_no_other(
    start: Start, conn: psycopg.Connection[Any]
) -> None:
    # given a handler that holds up its event loop
    blocking = '[[work]]\nregistry = "sidecar_registry:registry"\nqueues = ["blocking"]\n'
    sidecar = start(ALL.replace("[maintain]", f"{blocking}[maintain]"))
    conn.execute("select queue_send('blocking', '{\"seconds\": 600}')")
    until(lambda: bool(conn.execute("select 1 from in_flight where name = 'blocking'").fetchone()))
    # then events go on flowing through all the others, and the process answers
    _put(conn, 1, 5)
    assert sorted(_numbers(sidecar, 5)) == [1, 2, 3, 4, 5]
    assert sidecar.fetch("/healthz") == (200, "ok\n")
    # and the second signal ends it at once
    sidecar.process.send_signal(signal.SIGTERM)
    until(lambda: bool(sidecar.events("stopping")))
    sidecar.process.send_signal(signal.SIGTERM)
    assert sidecar.process.wait(60) == -signal.SIGTERM


def test_a_role_in_trouble_backs_off_while_the_others_work(
    start: Start, conn: psycopg.Connection[Any]
) -> None:
    # given a second relay, to a broker that is not there
    relay = '[[relay]]\ntopic = "elsewhere"\nto = "redis://127.0.0.1:1/0?stream=s"\n[maintain]'
    conn.execute("select topic_create('elsewhere'), outbox_put('elsewhere', '{}')")
    sidecar = start(ALL.replace("[maintain]", relay))
    # then it says so, and the others work
    _put(conn, 1, 5)
    assert sorted(_numbers(sidecar, 5)) == [1, 2, 3, 4, 5]
    until(lambda: bool(sidecar.events("failed")), sidecar)
    assert {each["loop"] for each in sidecar.events("failed")} == {"relay elsewhere"}
    # and when every connection is lost, nobody ends because of it
    conn.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and application_name like 'tidegate %'"
    )
    _put(conn, 6, 10)
    assert sorted(set(_numbers(sidecar, 5))) == [6, 7, 8, 9, 10]
    assert sidecar.end() == 0, sidecar.logged


@pytest.mark.slow
def test_killed_at_random_and_started_again_nothing_is_lost(
    start: Start, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select topic_configure('handled', '{\"lease\": \"2 s\"}')")
    conn.execute("select queue_configure('mail', '{\"lease\": \"2 s\"}')")
    text = ALL.replace("[labels]", "doorbell = false\n[labels]")
    seen: set[int] = set()
    for at in range(3):
        sidecar = start(text)
        _put(conn, 100 * at + 1, 100 * at + 100)
        seen.update(_numbers(sidecar, 10))
        sidecar.process.kill()
        sidecar.process.wait()
        while not sidecar.out.empty():
            line = sidecar.out.get()
            if line.endswith("}\n"):
                seen.add(json.loads(line)["payload"]["n"])
    sidecar = start(text)
    while len(seen) < 300:
        seen.update(_numbers(sidecar, 1))
    assert seen == set(range(1, 301))
    assert conn.execute("select dead_letter_count()").fetchone() == (0,)
    assert sidecar.end() == 0


@pytest.mark.slow
def test_a_handler_that_ignores_its_end_does_not_keep_the_process(
    start: Start, conn: psycopg.Connection[Any]
) -> None:
    # given a handler that cannot be cancelled, in the middle of a message
    conn.execute("select queue_create('stubborn'), queue_send('stubborn', '{\"seconds\": 600}')")
    sidecar = start(ALL.replace('queues = ["mail"]', 'queues = ["mail", "stubborn"]')
                    .replace('grace = "5s"', 'grace = "100ms"'))  # fmt: skip
    leased = "select sum(leased) from backlog"
    until(lambda: conn.execute(leased).fetchone() == (1,), sidecar)
    # when the sidecar is told to end, then it does, and the message is given back uncharged
    assert sidecar.end() == 1, sidecar.logged
    until(lambda: bool(sidecar.events("left running handlers")))
    assert conn.execute("select sum(attempts), count(*) from ready").fetchone() == (0, 1)
