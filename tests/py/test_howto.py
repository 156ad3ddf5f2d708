"""The howtos are tried: their snippets run as they are printed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from pyshim import render

HOWTO = Path(__file__).parents[2] / "docs" / "howto"


def snippets(page: str, language: str) -> list[str]:
    """The blocks of a page in that language."""
    text = (HOWTO / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def url(empty_database: str) -> Iterator[str]:
    """An installation in schema jobs, as a URL that every driver takes."""
    with psycopg.connect(empty_database) as conn:
        conn.execute(render.render("jobs").encode())
    parts = {name: str(value) for name, value in conninfo_to_dict(empty_database).items()}
    login = ":".join(quote(parts[name], safe="") for name in ("user", "password") if name in parts)
    yield f"postgresql://{login}@{parts['host']}:{parts['port']}/{parts['dbname']}?sslmode=disable"


@pytest.fixture
def conn(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set search_path = jobs")
        yield connection


Command = Callable[[Path], "tuple[list[str], dict[str, str]]"]


def with_psql(psql: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    path = f"{Path(psql).parent}{os.pathsep}{os.environ['PATH']}"
    return ["sh", str(folder / "worker.sh")], {"PATH": path}


def with_python(psql: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, str(folder / "worker.py")], {}


def with_node(psql: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    npm, node = shutil.which("npm"), shutil.which("node")
    assert npm and node, "this test needs node and npm: install nodejs and npm"
    install = [npm, "install", "--no-audit", "--no-fund", "--loglevel", "error", "pg@8"]
    subprocess.run(install, cwd=folder, check=True, timeout=300)
    return [node, str(folder / "worker.js")], {}


def with_go(psql: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    go, packages = shutil.which("go"), Path("/usr/share/gocode")
    assert go, "this test needs Go: install golang-go"
    assert (packages / "src/github.com/lib/pq").exists(), "install golang-github-lib-pq-dev"
    environment = {
        "GOPATH": str(packages),
        "GO111MODULE": "off",
        "GOCACHE": str(folder / "cache"),
        "CGO_ENABLED": "0",
    }
    built = folder / "worker"
    subprocess.run(
        [go, "build", "-o", str(built), str(folder / "worker.go")],
        env=os.environ | environment,
        check=True,
        timeout=300,
    )
    return [str(built)], {}


LANGUAGES = {
    "sh": (with_psql, "worker.sh"),
    "python": (with_python, "worker.py"),
    "js": (with_node, "worker.js"),
    "go": (with_go, "worker.go"),
}
HEAVY = {"js", "go"}


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.heavy] if name in HEAVY else []) for name in LANGUAGES
    ]
)
def start(
    request: pytest.FixtureRequest, psql: str, url: str, tmp_path: Path
) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """`start()` runs one more worker of the page in this language."""
    prepare, name = LANGUAGES[request.param]
    (snippet,) = snippets("worker.md", request.param)
    (tmp_path / name).write_text(snippet, encoding="utf-8")
    words, more = prepare(psql, tmp_path)
    workers: list[subprocess.Popen[str]] = []

    def run() -> subprocess.Popen[str]:
        worker = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **more, "DATABASE_URL": url},
        )
        workers.append(worker)
        return worker

    yield run
    for worker in workers:
        worker.kill()
        worker.communicate()


def until(condition: Callable[[], bool], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def scalar(conn: psycopg.Connection[Any], query: str) -> Any:
    row = conn.execute(query.encode()).fetchone()
    assert row
    return row[0]


def prepared(conn: psycopg.Connection[Any], lease: str = "2 seconds") -> None:
    """The queue of the page, with leases short enough to run out, and one attempt."""
    for statement in snippets("worker.md", "sql"):
        conn.execute(statement.encode())
    conn.execute(
        "select queue_configure('emails', jsonb_build_object('lease', %s::text)"
        " || '{\"max_attempts\": 1}')",
        (lease,),
    )


LEFT = "select ready + scheduled + blocked + leased from backlog where name = 'emails'"
OUTCOMES = "select coalesce(jsonb_object_agg(outcome, total), '{}') from outcomes"


def test_a_worker_of_the_cookbook_does_its_work_and_keeps_its_lease(
    start: Callable[[], subprocess.Popen[str]], conn: psycopg.Connection[Any]
) -> None:
    # given work that takes longer than a lease, and a message that cannot succeed
    prepared(conn)
    conn.execute(
        "select queue_send('emails', jsonb_build_object('to', n || '@example.org', 'seconds',"
        " case n when 3 then 5 else 0 end)) from generate_series(1, 18) as n"
    )
    # when two workers are at it, so that one would see the other's lease run out
    workers = [start(), start()]
    until(lambda: bool(scalar(conn, LEFT) == 0))
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    printed = [worker.communicate(timeout=20)[0] for worker in workers]
    # then each message was done once, and the bad one is a dead letter with its own error
    assert [worker.returncode for worker in workers] == [0, 0]
    assert scalar(conn, OUTCOMES) == {"acked": 19, "dead_lettered": 1}
    assert scalar(conn, "select last_error from dead_letter_list()") == "no address: nobody"
    sent = "".join(printed).splitlines()
    wanted = ["ada@example.org", *(f"{n}@example.org" for n in range(1, 19))]
    assert sorted(sent) == sorted(f"sent to {address}" for address in wanted)


def test_a_worker_of_the_cookbook_gives_back_what_it_has_not_begun(
    start: Callable[[], subprocess.Popen[str]], conn: psycopg.Connection[Any]
) -> None:
    # given a worker in the middle of a batch of ten
    prepared(conn, lease="1 minute")
    conn.execute("select queue_purge('emails', 'discard')")
    conn.execute(
        'select queue_send(\'emails\', \'{"to": "a@example.org", "seconds": 1}\')'
        " from generate_series(1, 10)"
    )
    worker = start()
    assert worker.stdout
    assert worker.stdout.readline() == "sent to a@example.org\n"
    # when it is told to stop
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=20) == 0
    # then the others are ready at once, none of them charged
    row = conn.execute("select ready, leased from backlog where name = 'emails'").fetchone()
    assert row and (row[0] >= 7, row[1]) == (True, 0)
    assert scalar(conn, "select sum(attempts) from queue_peek('emails')") == 0
    assert scalar(conn, "select total from outcomes where outcome = 'acked'") == 10 - row[0]


def test_the_snippets_of_sending_run_as_printed(
    url: str, conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    conn.execute("select queue_create('emails'), topic_create('orders')")
    (statements,) = snippets("send.md", "sql")
    with psycopg.connect(url, autocommit=True) as application:
        application.execute(statements.encode())
    names: dict[str, Any] = {}
    for block in snippets("send.md", "python"):
        exec(compile(block, "docs/howto/send.md", "exec"), names)
    addresses = ["ada@example.org", "grace@example.org", "mary@example.org"]
    assert [row[0] for row in conn.execute("select * from public.account")] == addresses
    payloads = [row[0] for row in conn.execute("select payload from queue_claim('emails', 9)")]
    assert payloads == [{"to": address} for address in addresses]
    late = scalar(conn, "select payload from queue_peek('emails', p_place => 'scheduled')")
    assert late["news"] == 2
    assert scalar(conn, "select ready from backlog where name = 'orders'") == 2


@pytest.fixture
def typed(url: str, tmp_path: Path) -> Callable[[str], str]:
    """`typed(script)`: what a shell prints that knows the command; each line must succeed."""
    (tmp_path / "tidegate").write_text(f'#!/bin/sh\nexec {sys.executable} -m pyshim "$@"\n')
    (tmp_path / "tidegate").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "DATABASE_URL": url,
        "TIDEGATE_SCHEMA": "jobs",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }

    def run(script: str) -> str:
        done = subprocess.run(
            ["sh", "-e", "-x"],
            input=script,
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_the_commands_of_sending_run_as_printed(
    conn: psycopg.Connection[Any], typed: Callable[[str], str]
) -> None:
    printed = typed("".join(snippets("send.md", "sh")))
    assert "\n100 messages: 100 inserted\n" in printed
    assert "\n100 messages of queue reports are dead letters now\n" in printed
    assert scalar(conn, "select count(*) from backlog") == 0


@pytest.mark.slow
def test_the_commands_of_triage_run_as_printed(
    conn: psycopg.Connection[Any], typed: Callable[[str], str]
) -> None:
    def fail_all() -> None:
        conn.execute(
            "select queue_nack(lease_id, p_error => 'smtp 550')"
            " from (select distinct lease_id from queue_claim('emails', 9)) as l"
        )

    dead = "select count(*) from dead_letter where state = 'dead'"
    # given dead letters that die again whenever they were requeued, and one of last week
    conn.execute("select queue_create('emails', '{\"max_attempts\": 1}')")
    conn.execute("select queue_send('emails', to_jsonb(n)) from generate_series(1, 6) as n")
    look, requeue, discard = snippets("dead-letters.md", "sh")
    printed = ""
    for script in (look, requeue, discard):
        until(lambda: fail_all() or bool(scalar(conn, dead) == 6))
        conn.execute("update dead_letter set dead_at = now() - '8d'::interval where payload = '6'")
        # when the commands of a section are typed one after the other
        printed += typed(script)
    # then each has done what the page says
    assert printed.count("next page: tidegate dead-letter list --channel emails --since 2h") == 1
    assert "4 would be requeued" in printed
    states = conn.execute(
        "select state, jsonb_agg(payload order by payload) from dead_letter group by 1"
    )
    assert dict(states.fetchall()) == {"dead": [1, 2, 4, 5], "discarded": [3, 6]}


@pytest.mark.slow
def test_the_page_about_workers_runs_as_printed(
    conn: psycopg.Connection[Any], typed: Callable[[str], str], tmp_path: Path
) -> None:
    jobs, pay = snippets("work.md", "python")
    (script,) = snippets("work.md", "sh")
    (tmp_path / "jobs.py").write_text(jobs, encoding="utf-8")
    # when the commands are typed below the first snippet
    assert typed(script).splitlines()[-1] == "welcome ann@example.com 1"
    # and others send what the page speaks of
    letters = "select queue_send('letters', %s, p_headers => jsonb_build_object('task', %s::text))"
    to = '{"to": "bob@example.com"}'
    for payload, task in ((to, "digest"), (to, "newsletter"), ("{}", "digest")):
        conn.execute(letters.encode(), (payload, task))
    assert typed("tidegate work jobs:registry --drain").splitlines() == [
        "digest bob@example.com {'task': 'digest'}"
    ]
    reasons = conn.execute("select reason from dead_letter order by reason")
    assert [row[0] for row in reasons] == ["malformed", "unknown_handler"]
    # and the second snippet is put below the first
    (statements,) = snippets("work.md", "sql")
    conn.execute(statements.encode())
    (tmp_path / "jobs.py").write_text(jobs + pay, encoding="utf-8")
    typed("tidegate work jobs:registry --drain")
    assert scalar(conn, "select array_agg(amount) from public.ledger") == [5]
    assert scalar(conn, "select sum(ready + scheduled + leased) from backlog") == 0


def test_the_pages_about_workers_share_no_queue() -> None:
    used = {
        page: set(re.findall(r"(?:queue_create\('|queue create |handler\(\")([a-z]+)", text))
        for page in ("work.md", "worker.md")
        if (text := (HOWTO / page).read_text(encoding="utf-8"))
    }
    assert used == {"work.md": {"letters", "charges"}, "worker.md": {"emails"}}
