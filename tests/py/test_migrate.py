"""Installing, upgrading, rolling back, and telling what is not as it should be."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pyshim import assets, migrate, render
from pyshim.config import Database
from pyshim.connect import Connection, connect
from pyshim.errors import LedgerRefuses, MigrationError, SchemaMismatch
from tests.server import TestServer

Dump = Callable[[str, str], str]
ApplyFile = Callable[[str, str], "subprocess.CompletedProcess[str]"]
NEWEST = len(assets.migrations())


async def one(connection: Connection, query: str) -> dict[str, object]:
    """The only row of a query."""
    [row] = await (await connection.execute(query.encode())).fetchall()
    return row


async def test_a_fresh_install_is_in_step(connection: Connection) -> None:
    report = await migrate.apply(connection, "app")
    assert report.migrations == [m.name for m in assets.migrations()]
    assert report.routines == len(assets.routines()) > 0
    assert (await migrate.status(connection, "app")).in_step
    await migrate.check_schema(connection, "app")


async def test_migrating_again_changes_nothing(
    connection: Connection, empty_database: str, dump: Dump
) -> None:
    await migrate.apply(connection, "app")
    ledger = "select array_agg(t::text order by t::text) as rows from (select migration, applied_at"
    ledger += " from app.migration union all select routine, applied_at from app.routine) as t"
    before = await one(connection, ledger), dump(empty_database, "app")
    report = await migrate.apply(connection, "app")
    assert (report.migrations, report.changed) == ([], [])
    assert (await one(connection, ledger), dump(empty_database, "app")) == before


async def test_a_dry_run_changes_nothing(connection: Connection) -> None:
    report = await migrate.apply(connection, "app", dry_run=True)
    assert report.migrations == [m.name for m in assets.migrations()]
    assert await one(connection, "select to_regnamespace('app') is null as gone") == {"gone": True}

    await migrate.apply(connection, "app")
    await migrate.rollback(connection, "app", to=0, dry_run=True)
    assert (await migrate.status(connection, "app")).in_step


async def test_two_migrates_at_once_wait_for_each_other(empty_database: str) -> None:
    connections = [await connect(Database(empty_database, "the test")) for _ in range(3)]
    reports = await asyncio.gather(*(migrate.apply(each, "app") for each in connections))
    assert sorted(len(report.migrations) for report in reports) == [0, 0, NEWEST]
    for each in connections:
        await each.close()


async def test_two_installations_in_one_database_do_not_see_each_other(
    connection: Connection, empty_database: str, dump: Dump
) -> None:
    await migrate.apply(connection, "app_one")
    alone = dump(empty_database, "app_one")
    await migrate.apply(connection, "app_two")
    assert dump(empty_database, "app_two").replace("app_two", "app_one") == alone
    await migrate.rollback(connection, "app_two", to=0)
    assert dump(empty_database, "app_one") == alone
    assert (await migrate.status(connection, "app_one")).in_step


async def test_step_by_step_up_and_down_ends_in_the_shape_of_a_fresh_install(
    connection: Connection, empty_database: str, dump: Dump
) -> None:
    await migrate.apply(connection, "app")
    fresh = dump(empty_database, "app")
    assert fresh.count("CREATE FUNCTION") + fresh.count("CREATE VIEW") >= len(assets.routines())
    await migrate.rollback(connection, "app", to=0)
    assert (await one(connection, "select to_regnamespace('app') as left"))["left"] is None

    for number in range(1, NEWEST + 1):
        before = dump(empty_database, "app") if number > 1 else None
        await migrate.apply(connection, "app", to=number)
        await migrate.rollback(connection, "app")
        if before is not None:
            assert dump(empty_database, "app") == before, f"down {number} leaves something behind"
        await migrate.apply(connection, "app", to=number)
    assert dump(empty_database, "app") == fresh


async def test_a_rollback_refuses_while_rows_would_be_lost(connection: Connection) -> None:
    await migrate.apply(connection, "app")
    await connection.execute("select app.queue_create('mail')")
    await connection.execute("select app.queue_send('mail', '{}') from generate_series(1, 3)")
    with pytest.raises(LedgerRefuses, match=r"\b3 row") as refused:
        await migrate.rollback(connection, "app", to=0)
    assert refused.value.sqlstate == "TG060"
    assert (await migrate.status(connection, "app")).in_step
    claimed = await connection.execute("select from app.queue_claim('mail', p_limit => 10)")
    assert len(await claimed.fetchall()) == 3


async def test_counters_of_what_is_leased_stand_in_no_way(connection: Connection) -> None:
    """They are read from the leases, and the next upkeep makes them again."""
    await migrate.apply(connection, "app")
    await connection.execute("select app.queue_create('mail')")
    send = "select app.queue_send('mail', '{}', p_run_id => 'r', p_tenant => 't')"
    await connection.execute(send)
    claimed = await one(connection, "select lease_id from app.queue_claim('mail')")
    await connection.execute("select app.counter_reconcile()")
    await connection.execute("select app.queue_ack(%s)", (claimed["lease_id"],))
    await connection.execute("select app.counter_reconcile(p_by => '{channel,run}')")
    await connection.execute("select app.queue_drop('mail')")
    await connection.execute('select app.counter_sync(\'{"leased": 0, "leased.by.me": 2}\')')
    left = "select string_agg(key || ' ' || value, ', ' order by key) as left from app.counter"
    assert (await one(connection, left))["left"] == (
        "leased.by.me 2, leased.channel.queue.mail 0, leased.run.r 0, leased.tenant.t 1"
    )
    with pytest.raises(LedgerRefuses, match=r"counter still holds 1 row"):
        await migrate.rollback(connection, "app", to=2)
    await connection.execute("delete from app.counter where key = 'leased.by.me'")
    await migrate.rollback(connection, "app", to=2)


async def test_a_row_that_arrives_during_the_rollback_is_not_lost(
    connection: Connection, empty_database: str
) -> None:
    """The down migration waits for the sender, and then counts its row too."""
    await migrate.apply(connection, "app")
    await connection.execute("select app.queue_create('mail')")
    async with await connect(Database(empty_database, "the test")) as sender:
        await sender.execute("begin")
        await sender.execute("select app.queue_send('mail', '{}')")
        rollback = asyncio.create_task(migrate.rollback(connection, "app", to=0))
        for _ in range(100):
            waiting = await one(sender, "select exists (select from pg_locks where not granted)")
            if waiting["exists"]:
                break
            await asyncio.sleep(0.05)
        await sender.execute("commit")
        with pytest.raises(LedgerRefuses, match=r"\b1 row"):
            await rollback


async def test_a_rollback_stops_at_what_depends_on_a_routine(connection: Connection) -> None:
    await migrate.apply(connection, "app")
    await connection.execute("create view public.mine as select app.clock_now()")
    with pytest.raises(LedgerRefuses, match="clock_now") as refused:
        await migrate.rollback(connection, "app", to=0)
    assert "view public.mine" in (refused.value.detail or "")
    assert (await migrate.status(connection, "app")).in_step


async def test_a_migration_changed_after_it_was_applied_is_named(
    connection: Connection, sql_copy: Path
) -> None:
    await migrate.apply(connection, "app")
    changed = assets.migrations()[1]
    with (sql_copy / changed.up).open("a") as file:
        file.write("\ncreate table {{ schema }}.late ();\n")
    render.checksums.cache_clear()
    with pytest.raises(MigrationError, match=f"{changed.name} was changed"):
        await migrate.apply(connection, "app")
    assert (await migrate.status(connection, "app")).changed == [changed.name]


async def test_a_failing_migration_leaves_nothing_half_done(
    connection: Connection, sql_copy: Path, empty_database: str, dump: Dump
) -> None:
    await migrate.apply(connection, "app")
    before = dump(empty_database, "app")
    fine = sql_copy / "migrations" / f"{NEWEST + 1:04d}_add_fine"
    fine.with_suffix(".up.sql").write_text("create table {{ schema }}.fine ();\n")
    fine.with_suffix(".down.sql").write_text("drop table {{ schema }}.fine;\n")
    stem = sql_copy / "migrations" / f"{NEWEST + 2:04d}_add_fault"
    stem.with_suffix(".up.sql").write_text(
        "create schema elsewhere;\n\ncreate table {{ schema }}.fault (x nosuchtype);\n"
    )
    stem.with_suffix(".down.sql").write_text("drop table {{ schema }}.fault;\n")
    render.checksums.cache_clear()
    with pytest.raises(MigrationError, match=r"add_fault.up.sql line 3: .*nosuchtype"):
        await migrate.apply(connection, "app")
    assert dump(empty_database, "app") == before

    stem.with_suffix(".up.sql").write_text("create table {{ schema }}.fault ();\n")
    render.checksums.cache_clear()
    assert (await migrate.apply(connection, "app")).migrations == [fine.name, stem.name]
    await migrate.rollback(connection, "app")
    assert (await migrate.status(connection, "app")).pending == [stem.name]


async def test_what_was_changed_by_hand_is_named(connection: Connection) -> None:
    await migrate.apply(connection, "app")
    await connection.execute(
        "create or replace function app.clock_now() returns timestamptz language sql stable"
        " as $$ select 'epoch'::timestamptz $$"
    )
    await connection.execute("drop function app.schema_version()")
    await connection.execute("create function app.mine() returns int language sql return 1")
    status = await migrate.status(connection, "app")
    assert status.drift == [
        ("clock_now()", "changed by hand"),
        ("mine()", "not part of Tidegate"),
        ("schema_version()", "missing"),
    ]
    assert not status.in_step

    report = await migrate.apply(connection, "app")
    assert report.changed == ["clock_now()", "schema_version()"]
    await connection.execute("drop function app.mine()")
    assert (await migrate.status(connection, "app")).in_step


async def test_a_routine_of_another_release_is_named(
    connection: Connection, sql_copy: Path
) -> None:
    await migrate.apply(connection, "app")
    path = next(path for path in assets.routines() if path.endswith("/clock_now.sql"))
    with (sql_copy / path).open("a") as file:
        file.write("\n-- another text\n")
    render.checksums.cache_clear()
    assert (await migrate.status(connection, "app")).drift == [
        ("clock_now()", "of another release")
    ]


async def test_a_table_that_is_not_ours_is_not_touched(connection: Connection) -> None:
    await connection.execute("create schema app")
    await connection.execute("create table app.migration (id int)")
    with pytest.raises(MigrationError, match="not Tidegate's"):
        await migrate.apply(connection, "app")


async def test_an_old_schema_under_a_new_driver_is_told_what_to_run(
    connection: Connection, sql_copy: Path
) -> None:
    with pytest.raises(SchemaMismatch, match="holds no Tidegate"):
        await migrate.check_schema(connection, "app")
    await migrate.apply(connection, "app")
    await connection.execute(f"delete from app.migration where migration like '{NEWEST:04d}%'")
    with pytest.raises(
        SchemaMismatch, match=rf"is at migration {NEWEST - 1}, .* needs {NEWEST}"
    ) as e:
        await migrate.check_schema(connection, "app")
    assert e.value.sqlstate == "TG050"
    assert "tidegate migrate --schema app" in (e.value.hint or "")


async def test_a_new_schema_under_an_old_driver(connection: Connection) -> None:
    """One minor release ahead is fine, so that schemas go first; further ahead is refused."""
    await migrate.apply(connection, "app")
    await connection.execute(
        "insert into app.migration (migration, checksum, version)"
        " values ('0999_add_wonders', repeat('0', 64), '0.2.0')"
    )
    await connection.execute("update app.routine set version = '0.2.0'")
    await migrate.check_schema(connection, "app")
    with pytest.raises(SchemaMismatch, match="0999_add_wonders"):
        await migrate.apply(connection, "app")
    with pytest.raises(SchemaMismatch, match="0999_add_wonders"):
        await migrate.rollback(connection, "app")
    await connection.execute("update app.routine set version = '0.3.0'")
    with pytest.raises(SchemaMismatch, match="too new"):
        await migrate.check_schema(connection, "app")


@pytest.fixture
def plain_owner(server: TestServer, empty_database: str) -> Iterator[str]:
    """The connection string of a role that may CREATE in the empty database, and nothing else."""
    name, password = f"plain_{secrets.token_hex(4)}", secrets.token_hex(8)
    role = sql.Identifier(name)
    with psycopg.connect(empty_database, autocommit=True) as admin:
        database = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("create role {} login password {}").format(role, password))
        admin.execute(sql.SQL("grant create on database {} to {}").format(database, role))
        yield make_conninfo(empty_database, user=name, password=password)
        admin.execute(sql.SQL("drop owned by {}").format(role))
        admin.execute(sql.SQL("drop role {}").format(role))


async def test_a_plain_owner_installs_works_and_removes(plain_owner: str) -> None:
    async with await connect(Database(plain_owner, "the test")) as owner:
        await migrate.apply(owner, "app")
        assert (await migrate.status(owner, "app")).in_step
        await owner.execute("select app.queue_create('mail')")
        with pytest.raises(LedgerRefuses, match="channel still holds 1 row"):
            await migrate.rollback(owner, "app", to=0)
        await owner.execute("select app.queue_drop('mail')")
        await migrate.rollback(owner, "app", to=0)


async def test_an_owner_of_a_prepared_schema_needs_no_right_on_the_database(
    plain_owner: str, connection: Connection
) -> None:
    async with await connect(Database(plain_owner, "the test")) as owner:
        role, database = sql.Identifier(owner.info.user), sql.Identifier(owner.info.dbname)
        await connection.execute(sql.SQL("create schema app authorization {}").format(role))
        revoke = sql.SQL("revoke create on database {} from {}").format(database, role)
        await connection.execute(revoke)
        await migrate.apply(owner, "app")
        assert (await migrate.status(owner, "app")).in_step


async def test_a_stranger_is_told_what_is_missing(plain_owner: str, connection: Connection) -> None:
    await migrate.apply(connection, "app")
    async with await connect(Database(plain_owner, "the test")) as stranger:
        with pytest.raises(LedgerRefuses, match=r"schema app belongs to .*, and this is plain_"):
            await migrate.status(stranger, "app")
        with pytest.raises(SchemaMismatch, match="may not use"):
            await migrate.check_schema(stranger, "app")


async def test_a_schema_of_somebody_else_is_refused_until_it_is_given(
    plain_owner: str, connection: Connection, apply_file: ApplyFile
) -> None:
    owner = conninfo_to_dict(plain_owner)["user"]
    me = connection.info.user
    ident = sql.Identifier(str(owner))
    await connection.execute(sql.SQL('create schema "My App" authorization {}').format(ident))
    refused = await refusal(connection, apply_file, "My App")
    assert refused.message == f'schema "My App" belongs to {owner}, and this is {me}'
    await follow(connection, refused, f'alter schema "My App" owner to {me};')
    assert (await migrate.apply(connection, "My App")).newest == NEWEST


async def test_a_schema_in_which_others_may_create_is_refused_until_they_may_not(
    plain_owner: str, connection: Connection, apply_file: ApplyFile
) -> None:
    other = conninfo_to_dict(plain_owner)["user"]
    await connection.execute("create schema app")
    await connection.execute(f"grant all on schema app to {other} with grant option".encode())
    async with await connect(Database(plain_owner, "the test")) as stranger:
        await stranger.execute("grant create on schema app to public")
    refused = await refusal(connection, apply_file, "app")
    assert refused.message == f"others may create in schema app: {other}, public"
    await follow(connection, refused, f"revoke create on schema app from {other}, public cascade;")
    assert (await migrate.apply(connection, "app")).newest == NEWEST


async def test_what_others_left_in_the_schema_is_refused_until_it_is_gone(
    plain_owner: str, connection: Connection, apply_file: ApplyFile
) -> None:
    """They may have put it there while they were allowed to."""
    other = conninfo_to_dict(plain_owner)["user"]
    await connection.execute("create schema app")
    await connection.execute(f"grant all on schema app to {other}".encode())
    trap = "app._lease_settle(uuid, bigint[], text)"
    async with await connect(Database(plain_owner, "the test")) as stranger:
        await stranger.execute(f"create function {trap} returns int return 1".encode())
        await stranger.execute("create view app.mine as select 1 as one")
    await connection.execute(f"revoke create on schema app from {other}".encode())
    refused = await refusal(connection, apply_file, "app")
    assert (
        f"function app._lease_settle(pg_catalog.uuid,bigint[],pg_catalog.text) of {other}, view"
        in (refused.message)
    )
    assert f"view app.mine of {other}" in refused.message
    drops = (refused.hint or "").partition(": ")[2]
    await follow(connection, refused, drops)
    assert (await migrate.apply(connection, "app")).newest == NEWEST


async def test_a_right_that_was_given_later_stops_the_next_migrate_rollback_and_status(
    connection: Connection, apply_file: ApplyFile
) -> None:
    await migrate.apply(connection, "app")
    await connection.execute("grant create on schema app to public")
    await refusal(connection, apply_file, "app", after=NEWEST)
    for step in (migrate.apply, migrate.rollback, migrate.status):
        with pytest.raises(LedgerRefuses, match="others may create in schema app: public"):
            await step(connection, "app")
    with pytest.raises(LedgerRefuses):
        await migrate.apply(connection, "app", dry_run=True)


async def test_the_schema_public_is_nobodys(connection: Connection) -> None:
    """PUBLIC may create in it up to PostgreSQL 14; from 15 on it is pg_database_owner's."""
    with pytest.raises(LedgerRefuses, match="public"):
        await migrate.apply(connection, "public")


async def test_default_privileges_open_no_new_schema(
    connection: Connection, apply_file: ApplyFile
) -> None:
    await connection.execute("alter default privileges grant create on schemas to public")
    refused = await refusal(connection, apply_file, "app")
    assert refused.message == "others may create in schema app: public"
    assert await one(connection, "select to_regnamespace('app') is null as gone") == {"gone": True}


async def refusal(
    connection: Connection, apply_file: ApplyFile, schema: str, *, after: int = 0
) -> LedgerRefuses:
    """What migrate says, which must be what a rendered file says."""
    with pytest.raises(LedgerRefuses) as refused:
        await migrate.apply(connection, schema)
    info = connection.info
    url = make_conninfo(
        host=info.host, port=info.port, user=info.user, password=info.password, dbname=info.dbname
    )
    file = apply_file(url, render.render(schema, after=after))
    assert file.returncode != 0
    assert refused.value.message in file.stderr
    assert (refused.value.hint or "no hint") in file.stderr
    return refused.value


async def follow(connection: Connection, refused: LedgerRefuses, statement: str) -> None:
    """Run the statement that the hint names, as it stands there."""
    assert (refused.hint or "").endswith(statement)
    await connection.execute(statement.encode())
