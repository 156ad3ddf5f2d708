"""One self-contained SQL file, for any schema name, that refuses what it does not fit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyshim import assets, migrate, names, render
from pyshim.connect import Connection
from pyshim.errors import AssetError, SchemaNameError

Dump = Callable[[str, str], str]
ApplyFile = Callable[[str, str], "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).parents[2]
NEWEST = len(assets.migrations())

ODD_NAMES = ["Odd-Name", "select", "wärter", "two words", "1st", "dots.in.it", "x" * 63, "{{ x }}"]
REFUSED_NAMES = {
    'quo"te': "contains '\"'",
    "quo'te": 'contains "\'"',
    "dollar$": "contains",
    "per%cent": "contains",
    "back\\slash": "contains",
    "line\nbreak": "contains",
    "nul\0": "contains",
    "": "empty",
    " x": "begins or ends",
    "pg_mine": "reserved",
    "information_schema": "reserved",
    "ä" * 32: "64 bytes",
}


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_a_rendered_file_installs_what_migrate_installs(
    name: str, connection: Connection, empty_database: str, apply_file: ApplyFile, dump: Dump
) -> None:
    done = apply_file(empty_database, render.render(name))
    assert (done.returncode, done.stderr) == (0, "")
    status = await migrate.status(connection, name)
    assert status.in_step
    assert status.installed
    await migrate.check_schema(connection, name)
    rendered = dump(empty_database, name)
    await migrate.rollback(connection, name, to=0)
    await migrate.apply(connection, name)
    assert dump(empty_database, name) == rendered


@pytest.mark.parametrize("name", REFUSED_NAMES)
def test_a_name_that_cannot_be_used_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(SchemaNameError) as refused:
        render.render(name)
    assert repr(name) in refused.value.message
    assert REFUSED_NAMES[name] in refused.value.message
    assert refused.value.hint


def test_a_name_leaves_room_for_its_roles() -> None:
    names.check_schema_name("x" * 54, roles=True)
    with pytest.raises(SchemaNameError, match="54 with room for role names"):
        names.check_schema_name("x" * 55, roles=True)


async def test_the_same_file_again_is_refused_and_does_no_harm(
    connection: Connection, empty_database: str, apply_file: ApplyFile, dump: Dump
) -> None:
    text = render.render("Odd-Name")
    assert apply_file(empty_database, text).returncode == 0
    before = dump(empty_database, "Odd-Name")
    again = apply_file(empty_database, text)
    assert again.returncode != 0
    assert 'schema "Odd-Name" is installed already' in again.stderr
    assert f"--from {NEWEST}" in again.stderr
    assert dump(empty_database, "Odd-Name") == before
    assert (await migrate.status(connection, "Odd-Name")).in_step


async def test_an_upgrade_file_brings_an_older_schema_into_step(
    connection: Connection, empty_database: str, apply_file: ApplyFile, dump: Dump
) -> None:
    await migrate.apply(connection, "app", to=NEWEST - 2)
    done = apply_file(empty_database, render.render("app", after=NEWEST - 2))
    assert (done.returncode, done.stderr) == (0, "")
    assert (await migrate.status(connection, "app")).in_step
    upgraded = dump(empty_database, "app")
    await migrate.rollback(connection, "app", to=0)
    await migrate.apply(connection, "app")
    assert dump(empty_database, "app") == upgraded


async def test_an_upgrade_file_refuses_another_starting_point(
    connection: Connection, empty_database: str, apply_file: ApplyFile
) -> None:
    text = render.render("app", after=NEWEST - 1)
    nothing = apply_file(empty_database, text)
    assert "schema app holds no installation" in nothing.stderr

    await migrate.apply(connection, "app", to=NEWEST - 2)
    older = apply_file(empty_database, text)
    assert "differs in: " + assets.migrations()[NEWEST - 2].name in older.stderr
    assert len((await migrate.status(connection, "app")).installed) == NEWEST - 2

    await migrate.apply(connection, "app")
    newer = apply_file(empty_database, text)
    assert "differs in: " + assets.migrations()[NEWEST - 1].name in newer.stderr
    assert (await migrate.status(connection, "app")).in_step


async def test_an_upgrade_file_from_the_newest_restores_what_was_changed_by_hand(
    connection: Connection, empty_database: str, apply_file: ApplyFile
) -> None:
    await migrate.apply(connection, "app")
    await connection.execute("drop function app.schema_version()")
    assert apply_file(empty_database, render.render("app", after=NEWEST)).returncode == 0
    assert (await migrate.status(connection, "app")).in_step


@pytest.mark.parametrize("after", [-1, NEWEST + 1])
def test_an_upgrade_from_nowhere_is_refused(after: int) -> None:
    with pytest.raises(AssetError, match=f"no migration {after}"):
        render.render("app", after=after)


def make(*words: str) -> subprocess.CompletedProcess[str]:
    """What make does with these words, in the virtual environment that runs the tests."""
    venv = Path(sys.prefix)
    # Not what a make above this test was told.
    told = ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS", "ARGS", "VENV", "SCHEMA")
    return subprocess.run(
        ["make", f"VENV={venv}", "-o", venv / ".run", *words],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in told},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("verb", "needs"), [("dev", False), ("psql", False), ("test", True)])
def test_make_installs_the_tests_packages_for_what_needs_them(
    tmp_path: Path, verb: str, needs: bool
) -> None:
    done = make("-n", verb, f"VENV={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert ".[embedded]" in done.stdout
    assert (".[dev]" in done.stdout) == needs


def test_make_render_prints_the_file_and_nothing_else() -> None:
    done = make("render", "SCHEMA=Odd-Name")
    assert done.returncode == 0, done.stderr
    render.checksums.cache_clear()
    assert done.stdout == render.render("Odd-Name")


def test_make_refuses_an_empty_schema_and_needs_none() -> None:
    refused = make("-n", "migrate", "SCHEMA=")
    assert refused.returncode != 0
    assert "SCHEMA is empty" in refused.stderr
    assert make("-n", "migrate").returncode == 0


async def test_every_key_word_is_quoted(connection: Connection) -> None:
    cursor = await connection.execute(
        "select word from pg_get_keywords() where quote_ident(word) <> word"
    )
    words = [row["word"] for row in await cursor.fetchall()]
    assert len(words) > 100
    assert [word for word in words if names.quote_ident(word) == word] == []


@pytest.mark.parametrize(
    ("name", "quoted"), [("app_jobs", "app_jobs"), ("App", '"App"'), ('a"b', '"a""b"')]
)
def test_an_identifier_is_quoted_only_where_it_must_be(name: str, quoted: str) -> None:
    assert names.quote_ident(name) == quoted


def test_install_sql_is_a_table_of_contents_only(sql_copy: Path) -> None:
    with (sql_copy / "install.sql").open("a") as file:
        file.write("select 1;\n")
    with pytest.raises(AssetError, match="neither a comment nor an include: 'select 1;'"):
        render.render("app")


def test_every_routine_file_is_in_install_sql() -> None:
    files = {
        path.relative_to(ROOT / "sql").as_posix()
        for room in ("functions", "views")
        for path in (ROOT / "sql" / room).rglob("*.sql")
    }
    assert files == set(assets.routines())


def test_a_gap_or_a_missing_half_among_the_migrations_is_named(sql_copy: Path) -> None:
    stray = sql_copy / "migrations" / f"{NEWEST + 2:04d}_add_gap.up.sql"
    stray.touch()
    with pytest.raises(AssetError, match=r"has no \d+_add_gap.down.sql"):
        assets.migrations()
    stray.with_name(stray.name.replace(".up.", ".down.")).touch()
    with pytest.raises(AssetError, match=f"should be number {NEWEST + 1:04d}"):
        assets.migrations()
    (sql_copy / "migrations" / "notes.sql").touch()
    with pytest.raises(AssetError, match=r"'notes\.sql' is not named"):
        assets.migrations()


def test_a_mistake_in_a_template_names_file_and_line(sql_copy: Path) -> None:
    first = sql_copy / assets.routines()[0]
    text = first.read_text()
    first.write_text(text + "{{ nosuchname }}\n")
    with pytest.raises(AssetError, match="nosuchname"):
        render.render("app")
    first.write_text("\n{% nosuchtag %}\n")
    with pytest.raises(AssetError, match=rf"{first.name} line 2"):
        render.render("app")
