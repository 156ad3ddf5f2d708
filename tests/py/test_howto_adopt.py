"""docs/howto/adopt.md, upgrade.md and pgbouncer.md are followed word by word."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pyshim import assets, cli
from pyshim.names import ROLES
from tests.commands import Told
from tests.py.test_howto import HOWTO, conn, scalar, snippets, typed, until, url

__all__ = ["conn", "typed", "url"]

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")


def printed(page: str) -> list[str]:
    """The blocks of a page that show what comes out."""
    fences = re.findall(
        r"^```(\w*)\n(.*?)^```$",
        (HOWTO / page).read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    return [text for language, text in fences if not language]


def psql_says(psql: str, conninfo: str, text: str) -> str:
    """What psql prints of it."""
    command = [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", conninfo]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def drop_roles(conn: psycopg.Connection[Any], names: list[str]) -> None:
    for name in names:
        if conn.execute("select from pg_roles where rolname = %s", (name,)).fetchone():
            ident = sql.Identifier(name)
            conn.execute(sql.SQL("drop owned by {}").format(ident))
            conn.execute(sql.SQL("drop role {}").format(ident))


@pytest.fixture
def shop(url: str) -> Iterator[psycopg.Connection[Any]]:
    """The page's database before it begins; what it makes for the whole server goes again."""
    names = ["shop", "shop_worker", *(f"jobs_{role}" for role in ROLES)]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop schema jobs cascade")
        drop_roles(connection, names)
        yield connection
        connection.execute("reset role")
        drop_roles(connection, names)


@pytest.mark.slow
def test_the_page_about_adopting_runs_as_printed(
    shop: psycopg.Connection[Any],
    url: str,
    psql: str,
    typed: Callable[[str], str],
    tmp_path: Path,
) -> None:
    blocks = snippets("adopt.md", "sql")
    there, grants, channels, put, look, cron, counted, drop, drop_roles_of = blocks
    install, follow, crontab, work = snippets("adopt.md", "sh")
    send, registry = snippets("adopt.md", "python")
    seen, outcomes = printed("adopt.md")
    shop.execute(there.encode())
    # make runs the command of its virtual environment, which is this one here
    assert re.search(r"^migrate: .*\n\t@\$\(TIDEGATE\) migrate \$\(ARGS\)$", MAKEFILE, re.MULTILINE)
    made = install.replace("make migrate SCHEMA=jobs ARGS=", "tidegate migrate --schema jobs ")
    assert made != install
    assert typed(made).endswith("in step\n")
    for statements in (grants, channels):
        shop.execute(statements.encode())
    # when the application, with no more than its own rights, does what it is shown
    parts = conninfo_to_dict(url)
    shop.execute("alter role shop password 'shop'")
    shop.execute("alter role shop_worker password 'worker'")
    application = make_conninfo(url, user="shop", password="shop")
    done = subprocess.run(
        [sys.executable, "-c", send],
        env={**os.environ, "DATABASE_URL": application, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    psql_says(psql, application, put)
    psql_says(psql, application, f"begin;\n{put}rollback;\n")
    assert shop.execute("select count(*) from orders").fetchone() == (2,)
    # then it is seen as printed
    assert psql_says(psql, url, look).strip() == seen.strip()
    # and swept by any of the three, with the rights of the worker
    worker = make_conninfo(url, user="shop_worker", password="worker")
    schedule, command = re.fullmatch(r"((?:\S+ ){5})(.*)\n", crontab).groups()  # type: ignore[union-attr]
    assert schedule == "* * * * * "
    path = f"{Path(psql).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["sh", "-c", command],
        env={**os.environ, "PATH": path, "DATABASE_URL": worker},
        check=True,
        timeout=60,
    )
    assert shop.execute("select ready from jobs.backlog where name = 'mail'").fetchone() == (2,)
    (scheduled,) = re.findall(r"'(select .*)'\);", cron)
    psql_says(psql, worker, scheduled)
    assert follow.split("#")[0].split() == ["tidegate", "sweep", "--follow"]
    once = "tidegate sweep"
    login = f"export DATABASE_URL='{worker_url(parts)}'\n"
    assert "claimed" in typed(login + once)
    # and worked on
    (tmp_path / "mailer.py").write_text(registry, encoding="utf-8")
    mailed = typed(login + work).splitlines()
    assert sorted(mailed) == [
        "mail to ada@example.org about order 1",
        "mail to grace@example.org about order 2",
    ]
    assert psql_says(psql, url, counted).strip() == outcomes.strip()
    # and nothing is left when it is backed out
    psql_says(psql, url, drop)
    psql_says(psql, url, drop_roles_of)
    assert shop.execute("select count(*) from pg_roles where rolname ~ '^jobs_'").fetchone() == (0,)
    assert shop.execute("select count(*) from orders").fetchone() == (2,)


def worker_url(parts: dict[str, Any]) -> str:
    """The URL by which shop_worker comes in."""
    return f"postgresql://shop_worker:worker@{parts['host']}:{parts['port']}/{parts['dbname']}"


# upgrade


KNOWN = [migration.name for migration in assets.migrations()]


def of_today(text: str) -> str:
    """The page shows a step from migration 8 to 9; this is the last step there is."""
    for shown, ours in ((9, len(KNOWN)), (8, len(KNOWN) - 1)):
        text = re.sub(rf"000{shown}_\w+", KNOWN[ours - 1], text)
        text = re.sub(rf"migration 000{shown}\b", f"migration {ours:04d}", text)
        text = re.sub(rf"\b(is at migration|needs|--to|--from) {shown}\b", rf"\1 {ours}", text)
    return text


def alike(text: str) -> list[str]:
    """Its lines, without what differs by day and release."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "(a time)", text)
    return re.sub(r"\d+ routines", "(some) routines", text).splitlines()


@pytest.fixture
def say(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Told]:
    """`say(line)`: what a line of a page says, in this process, which is quicker than a shell."""
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("TIDEGATE_SCHEMA", "jobs")

    def run(line: str) -> Told:
        words = shlex.split(line, comments=True)
        with pytest.MonkeyPatch.context() as patch:
            while "=" in words[0]:
                name, _, setting = words.pop(0).partition("=")
                patch.setenv(name, setting)
            assert words.pop(0) == "tidegate"
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                cli.main(words)
        code = ended.value.code
        return Told(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


@pytest.mark.slow
def test_the_page_about_upgrades_runs_as_printed(
    conn: psycopg.Connection[Any],
    url: str,
    psql: str,
    say: Callable[[str], Told],
    tmp_path: Path,
) -> None:
    look, migrate, patient, render, back = (
        of_today(block).splitlines() for block in snippets("upgrade.md", "sh")
    )
    (version,) = snippets("upgrade.md", "sql")
    seen, refused = map(of_today, printed("upgrade.md"))
    # given an installation as of a former release
    assert say(back[0]).code == 0
    # when it is upgraded, then all is said as printed
    status, dry_run = (say(half) for half in look[0].split("||"))
    assert (status.code, dry_run.code) == (1, 0)
    said = iter(alike(status.out + dry_run.out))
    for line in alike(seen):
        assert line == "  …" or line in said  # in this order
    assert [say(line).code for line in migrate] == [0, 0]
    conn.execute(
        "create or replace function clock_now() returns timestamptz language sql return now()"
    )
    assert "replaced clock_now()\n" in say(patient[0]).out
    assert scalar(conn, version.replace("migration, version", "migration")) == len(KNOWN)
    # and so it is by the file
    assert say(back[0]).code == 0
    command, _, name = render[0].partition(" > ")
    (tmp_path / name).write_text(say(command).out, encoding="utf-8")
    path = f"{Path(psql).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "DATABASE_URL": url}
    apply = ["sh", "-c", render[1]]
    subprocess.run(apply, cwd=tmp_path, env=environment, check=True, timeout=120)
    assert say("tidegate status").out.endswith("in step\n")
    # and a rollback that would lose something is refused as printed
    conn.execute("select queue_create('letters'), queue_send('letters', '1')")
    assert say("tidegate rollback --to 2") == (1, "", refused)
    assert scalar(conn, "select sum(ready) from backlog") == 1


def test_mixed_versions_are_refused_in_the_words_of_the_page(
    conn: psycopg.Connection[Any], say: Callable[[str], Told]
) -> None:
    beyond = f"{len(KNOWN) + 1:04d}_add_something"
    text = of_today((HOWTO / "upgrade.md").read_text(encoding="utf-8"))
    promised = re.findall(r"refuses: `(.*?)`", text.replace("0010_add_something", beyond))
    ledger = "insert into migration (migration, checksum, version) values (%s, repeat('0', 64), %s)"
    # a newer schema: one release ahead is fine for a sweep
    conn.execute(ledger, (beyond, "0.3.0"))
    conn.execute("update routine set version = '0.2.0'")
    assert say("tidegate sweep").code == 0
    conn.execute("update routine set version = '0.3.0'")
    said = {"too new": say("tidegate sweep")}
    said["unknown"] = say("tidegate migrate")
    assert say("tidegate rollback") == said["unknown"]
    # an older one, and none
    conn.execute("delete from migration where migration >= %s", (KNOWN[-1],))
    said["old"] = say("tidegate sweep")
    said["none"] = say("tidegate sweep --schema nowhere")
    # and an edited file
    conn.execute(ledger, (KNOWN[-1], "0.1.0"))
    said["edited"] = say("tidegate migrate")
    order = ["too new", "old", "none", "unknown", "edited"]
    for words, name in zip(promised, order, strict=True):
        code, out, err = said[name]
        assert (code, out) == (1, "")
        assert err.replace("nowhere", "jobs").startswith(f"tidegate: {words}"), err
        assert "\n  hint: " in err


# pgbouncer


@pytest.fixture
def pooler(url: str, tmp_path: Path) -> Iterator[str]:
    """The PgBouncer of the page, in front of the database under test: its URL."""
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    assert binary, "this test needs pgbouncer: install the package of that name"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    parts = conninfo_to_dict(url)
    server = " ".join(
        f"{name}={parts[name]}"
        for name in ("host", "port", "dbname", "user", "password")
        if name in parts
    )
    (settings,) = snippets("pgbouncer.md", "ini")
    for printed, ours in (
        ("host=127.0.0.1 port=5432 dbname=shop", server),
        ("listen_port = 6432", f"listen_port = {port}"),
        # Who may come in is not what this is about.
        ("auth_type = scram-sha-256\nauth_file = /etc/pgbouncer/userlist.txt", "auth_type = any"),
    ):
        assert printed in settings
        settings = settings.replace(printed, ours)
    (tmp_path / "pgbouncer.ini").write_text(settings + "unix_socket_dir =\nlogfile =\n")
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        for folder in (tmp_path, *tmp_path.parents):
            if folder == Path(tempfile.gettempdir()):
                break
            folder.chmod(0o755)
        as_user = {"user": pwd.getpwnam("nobody").pw_uid}
    process = subprocess.Popen([binary, str(tmp_path / "pgbouncer.ini")], cwd="/", **as_user)
    address = f"postgresql://anyone@127.0.0.1:{port}/shop"

    def is_up() -> bool:
        assert process.poll() is None
        try:
            psycopg.connect(address).close()
        except psycopg.OperationalError:
            return False
        return True

    until(is_up)
    yield address
    process.terminate()
    process.wait(timeout=60)


@pytest.mark.heavy
def test_the_page_about_pgbouncer_runs_as_printed(
    pooler: str,
    conn: psycopg.Connection[Any],
    psql: str,
    typed: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (script,) = snippets("pgbouncer.md", "sh")
    (send,) = snippets("pgbouncer.md", "python")
    (limited,) = snippets("pgbouncer.md", "sql")
    through = script.replace("postgresql://shop@127.0.0.1:6432/shop", pooler)
    assert through != script
    # the commands go through as they are
    assert "ada@example.org" in typed(through)
    login = through.splitlines()[0] + "\n"
    for command in ("migrate", "sweep", "status", "queue list", "dead-letter stats"):
        typed(login + "tidegate " + command)
    # the client too, and with it the statements of its connection
    monkeypatch.setenv("DATABASE_URL", pooler)
    exec(compile(send, "docs/howto/pgbouncer.md", "exec"), {})
    assert scalar(conn, "select ready from backlog where name = 'letters'") == 21
    # where they are prepared, two connections meet each other's, or none; PgBouncer has learnt it
    version = subprocess.run(["pgbouncer", "--version"], capture_output=True, text=True, check=True)
    number = re.search(r"PgBouncer (\d+)\.(\d+)", version.stdout)
    assert number
    if (int(number[1]), int(number[2])) < (1, 21):
        with pytest.raises(
            (psycopg.errors.DuplicatePreparedStatement, psycopg.errors.InvalidSqlStatementName)
        ):
            prepare_in_turns(pooler, 5)
    prepare_in_turns(pooler, None)
    # a limit in front holds for that transaction only
    psql_says(psql, pooler, limited)
    with psycopg.connect(pooler, autocommit=True, prepare_threshold=None) as client:
        with pytest.raises(psycopg.errors.QueryCanceled):
            client.execute("begin; set local statement_timeout = '50ms'; select pg_sleep(60)")
        client.execute("rollback")
        assert client.execute("show statement_timeout").fetchone() == ("0",)
    # and a setting in the startup packet is refused, as the page says
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter"):
        psycopg.connect(pooler, options="-c search_path=jobs")


def prepare_in_turns(pooler: str, threshold: int | None) -> None:
    """Two connections, each of which would prepare, take turns on the same server connections."""
    with (
        psycopg.connect(pooler, prepare_threshold=threshold, autocommit=True) as one,
        psycopg.connect(pooler, prepare_threshold=threshold, autocommit=True) as two,
    ):
        for number in range(20):
            one.execute("select %s::int + 1", (number,))
            two.execute("select %s::int + 2", (number,))
