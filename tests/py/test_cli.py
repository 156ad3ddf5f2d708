"""The command: exit codes, one clear line for each expected mistake, nothing secret."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pyshim import __version__, assets, cli

Run = Callable[..., "subprocess.CompletedProcess[str]"]
SETTINGS = ("TIDEGATE_DATABASE_URL", "TIDEGATE_SCHEMA", "DATABASE_URL")


@pytest.fixture
def tidegate(tmp_path: Path) -> Run:
    """`tidegate(*arguments, **environment)` as a process, in a folder that is not the checkout."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in SETTINGS and not name.startswith("PG")
        }
        return subprocess.run(
            [Path(sys.executable).with_name("tidegate"), *arguments],
            env=inherited | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Standard error, which must be an error of ours with its hint, and no traceback."""
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "\n  hint: " in done.stderr
    return done.stderr


def test_install_look_and_remove(tidegate: Run, empty_database: str) -> None:
    where = {"DATABASE_URL": empty_database, "TIDEGATE_SCHEMA": "Odd-Name"}
    dry = tidegate("migrate", "--dry-run", **where)
    assert dry.returncode == 0
    assert "would apply 0001_create_ledger" in dry.stdout
    assert tidegate("status", **where).returncode == 1

    done = tidegate("migrate", **where)
    assert (done.returncode, done.stderr) == (0, "")
    assert "applied 0001_create_ledger" in done.stdout
    assert f"routines of {__version__}" in done.stdout
    assert "applied" not in tidegate("migrate", **where).stdout

    status = tidegate("status", **where)
    assert (status.returncode, status.stderr) == (0, "")
    assert status.stdout.endswith("in step\n")

    removed = tidegate("rollback", "--to", "0", **where)
    assert removed.returncode == 0
    assert removed.stdout.endswith("schema Odd-Name is without Tidegate\n")
    assert complaint(tidegate("rollback", **where)).startswith("tidegate: nothing is installed")


def test_status_names_what_was_changed_by_hand(tidegate: Run, database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute("alter function tidegate.clock_now() cost 7")
    status = tidegate("status", DATABASE_URL=database)
    assert status.returncode == 1
    assert "clock_now(): changed by hand" in status.stdout
    as_json = tidegate("status", "--json", DATABASE_URL=database)
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["drift"] == [
        {"routine": "clock_now()", "drift": "changed by hand"}
    ]


def test_what_is_not_ours_is_named_with_what_to_do(tidegate: Run, database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute("create function tidegate.mine() returns int language sql return 1")
    status = tidegate("status", DATABASE_URL=database)
    assert status.returncode == 1
    assert status.stdout.endswith(
        "  mine(): not part of Tidegate: drop it, or move it to another schema\n"
        "not in step: migrate leaves alone what is not part of Tidegate\n"
    )


def test_after_a_rollback_the_routines_are_one_line(tidegate: Run, database: str) -> None:
    where = {"DATABASE_URL": database}
    count = len(assets.routines())
    assert tidegate("rollback", **where).returncode == 0
    status = tidegate("status", **where).stdout
    assert f"  {count} routines not installed\n" in status
    assert "not yet installed" not in status
    migrated = tidegate("migrate", **where).stdout
    assert f"\ninstalled {count} routines\n" in migrated
    assert len(migrated.splitlines()) == 3


def test_a_rollback_that_would_lose_rows_says_how_many(tidegate: Run, database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute("select tidegate.queue_create('mail')")
        conn.execute("select tidegate.queue_send('mail', '{}')")
    done = tidegate("rollback", "--to", "0", DATABASE_URL=database)
    assert done.returncode == 1
    assert "1 row" in complaint(done)
    assert "[TG060]" in done.stderr


def test_no_database_named(tidegate: Run) -> None:
    done = tidegate("status")
    assert done.returncode == 2
    assert complaint(done).startswith("tidegate: no database named\n")


def test_a_bad_schema_name(tidegate: Run) -> None:
    done = tidegate("migrate", "--schema", 'a"b', "--database-url", "postgresql://h/x")
    assert done.returncode == 2
    assert "schema name 'a\"b' contains" in complaint(done)


def test_a_database_that_is_down_is_tried_three_times(tidegate: Run) -> None:
    began = time.monotonic()
    done = tidegate("status", DATABASE_URL="postgresql://me:secret@127.0.0.1:1/x")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.count("attempt") == 2
    assert "cannot connect to the database named by DATABASE_URL" in done.stderr
    assert time.monotonic() - began > 0.5 + 1.0


def test_a_wrong_password_is_tried_once(tidegate: Run, empty_database: str) -> None:
    with psycopg.connect(empty_database) as conn:
        where = f"postgresql://nosuchrole:secret@{conn.info.host}:{conn.info.port}/x"
    done = tidegate("status", DATABASE_URL=where)
    assert done.returncode == 1
    assert "nosuchrole" in complaint(done)
    assert "attempt" not in done.stderr
    assert "secret" not in done.stderr


def test_another_mistake_of_the_database_is_one_line(tidegate: Run, database: str) -> None:
    read_only = {"DATABASE_URL": database, "PGOPTIONS": "-c default_transaction_read_only=on"}
    done = tidegate("migrate", **read_only)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "read-only transaction" in done.stderr


def test_a_missing_right_is_told_with_what_a_dba_runs(tidegate: Run, empty_database: str) -> None:
    name = f"app-{secrets.token_hex(4)}"
    role = sql.Identifier(name)
    with psycopg.connect(empty_database, autocommit=True) as conn:
        conn.execute(sql.SQL("create role {} login password {}").format(role, name))
        dbname = conn.info.dbname
        where = {"DATABASE_URL": make_conninfo(empty_database, user=name, password=name)}
        try:
            done = tidegate("migrate", **where)
            assert done.returncode == 1
            grant = f'have a DBA run: grant create on database {dbname} to "{name}"\n'
            assert complaint(done).endswith(grant)
            conn.execute(
                sql.SQL("grant create on database {} to {}").format(sql.Identifier(dbname), role)
            )
            done = tidegate("migrate", "--roles", "--schema", name, **where)
            assert done.returncode == 1
            assert f'--roles needs CREATEROLE; have a DBA run: alter role "{name}"' in complaint(
                done
            )
        finally:
            conn.execute(sql.SQL("drop owned by {}").format(role))
            conn.execute(sql.SQL("drop role {}").format(role))


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, those of groups before those in them."""
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def test_help_of_every_command_and_option_is_printed(tidegate: Run) -> None:
    known = set(commands(cli.cli))
    assert {("migrate",), ("relay",), ("queue", "send"), ("dead-letter", "show")} <= known
    assert "Exit codes: 0 done" in " ".join(tidegate("--help").stdout.split())
    for words in known:
        done = CliRunner().invoke(cli.cli, [*words, "--help"])
        assert done.exit_code == 0, words
        printed = " ".join(done.output.split())
        command: click.Command = cli.cli
        for word in words:
            assert isinstance(command, click.Group)
            command = command.commands[word]
        assert command.help and command.help.split()[0] in printed, words
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{words} {parameter.name}"
                assert parameter.opts[0] in printed, f"{words} {parameter.name}"


def test_every_command_stands_in_a_section_of_the_help() -> None:
    assert sorted(name for names in cli.SECTIONS.values() for name in names) == sorted(
        cli.cli.commands
    )
    printed = CliRunner().invoke(cli.cli, ["--help"]).output
    assert printed.index("\nSchema:\n") < printed.index("\n  migrate  ")
    assert printed.index("\nBy hand:\n") < printed.index("\n  queue  ")
