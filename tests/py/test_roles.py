"""`--roles`: who may call what, walked role by role."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pyshim import migrate, render
from pyshim.connect import Connection
from pyshim.names import ROLES, quote_ident

MAY = {
    "producer": {"outbox_put", "queue_send_many", "counter_add", "schema_version"},
    "worker": {"queue_claim", "outbox_sweep", "cleanup_sweep", "counter_sync", "schema_version"},
    "operator": {
        "outbox_put",
        "queue_claim",
        "queue_work",
        "outbox_route",
        "topic_drop",
        "dead_letter_requeue",
    },
    "monitor": {"dead_letter_count", "doctor", "metrics", "schema_version"},
}
MAY_NOT = {
    "producer": {"queue_claim", "outbox_route", "dead_letter_list", "_tick"},
    "worker": {"outbox_put", "outbox_route", "queue_work", "topic_create", "_tick"},
    "operator": {"_tick", "_lease_settle", "clock_now"},
    "monitor": {"queue_claim", "dead_letter_requeue", "counter_add", "clock_now"},
}
VIEWS = {"worker", "operator", "monitor"}


@pytest.fixture
async def schema(connection: Connection) -> AsyncIterator[str]:
    """An installation with roles; roles belong to the server, so its name is its own."""
    name = f"Role-{secrets.token_hex(4)}"
    await migrate.apply(connection, name, roles=True)
    yield name
    for role in ROLES:
        ident = sql.Identifier(f"{name}_{role}")
        await connection.execute(sql.SQL("drop owned by {}").format(ident))
        await connection.execute(sql.SQL("drop role {}").format(ident))


async def callable_by(connection: Connection, schema: str, role: str) -> set[str]:
    """The routines that the role may execute."""
    cursor = await connection.execute(
        "select p.proname from pg_proc as p where p.pronamespace = to_regnamespace(%s)"
        " and has_function_privilege(%s, p.oid, 'execute')",
        (quote_ident(schema), f"{schema}_{role}"),
    )
    return {row["proname"] for row in await cursor.fetchall()}


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_call_what_it_needs_and_no_more(
    role: str, connection: Connection, schema: str
) -> None:
    may = await callable_by(connection, schema, role)
    assert MAY[role] <= may
    assert not MAY_NOT[role] & may
    assert not {name for name in may if name.startswith("_")}


async def test_every_public_routine_is_somebodys(connection: Connection, schema: str) -> None:
    names = {name for name, _ in render.sources(render.templates(schema).root)}
    names = {name for name in names if not name.startswith("_") and name != "clock_now"}
    everybody = await callable_by(connection, schema, "operator")
    everybody |= await callable_by(connection, schema, "monitor")
    views = {"backlog", "in_flight", "dead_letter_summary", "outcomes", "archived"}
    views |= {"barrier_progress", "counters", "policy", "upkeep"}
    assert names - views == everybody


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_is_let_in_where_it_may_and_nowhere_else(
    role: str, connection: Connection, schema: str
) -> None:
    """Each routine is called by each role, with nothing but nulls: what it makes of them is another
    matter, but it must get as far as that, or not begin."""
    cursor = await connection.execute(
        "select p.proname as name, p.oid::regprocedure::text as called, coalesce((select"
        " string_agg(format('null::%%s', a.type::regtype), ', ' order by a.place)"
        " from unnest(p.proargtypes) with ordinality as a (type, place)), '') as nulls"
        " from pg_proc as p where p.pronamespace = to_regnamespace(%s)",
        (quote_ident(schema),),
    )
    routines = await cursor.fetchall()
    assert len(routines) > 150
    may = await callable_by(connection, schema, role)
    wrong = []
    for routine in routines:
        called = f"select {quote_ident(schema)}.{routine['name']}({routine['nulls']})"
        state = None
        try:
            async with connection.transaction(force_rollback=True):
                await connection.execute("set local statement_timeout = '5s'")
                await connection.execute(
                    sql.SQL("set local role {}").format(sql.Identifier(f"{schema}_{role}"))
                )
                await connection.execute(called.encode())
        except psycopg.Error as error:
            state = error.sqlstate
        if (state != "42501") != (routine["name"] in may):
            wrong.append((routine["called"], state))
    assert wrong == []


@pytest.mark.parametrize("role", ROLES)
async def test_tables_are_nobodys_and_views_are_for_those_who_look(
    role: str, connection: Connection, schema: str
) -> None:
    cursor = await connection.execute(
        "select c.relkind::text as kind, c.relname as name from pg_class as c"
        " where c.relnamespace = to_regnamespace(%s) and c.relkind in ('r', 'v', 'p', 'S')"
        " and case c.relkind"
        " when 'S' then has_sequence_privilege(%s, c.oid, 'usage, select, update')"
        " else has_table_privilege(%s, c.oid, 'select, insert, update, delete, truncate') end",
        (quote_ident(schema), *[f"{schema}_{role}"] * 2),
    )
    seen = await cursor.fetchall()
    assert {row["kind"] for row in seen} == ({"v"} if role in VIEWS else set())
    if role == "worker":  # who checks at its start what its channels are told to do
        assert [row["name"] for row in seen] == ["policy"]


async def as_role(connection: Connection, role: str, query: str) -> list[dict[str, Any]]:
    """Run a query as a role, in a transaction."""
    async with connection.transaction():
        await connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
        return await (await connection.execute(query.encode())).fetchall()


async def test_roles_work_together(connection: Connection, schema: str) -> None:
    name = quote_ident(schema)
    await as_role(connection, f"{schema}_operator", f"select {name}.queue_create('mail')")
    await as_role(connection, f"{schema}_producer", f"select {name}.queue_send('mail', '{{}}')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await as_role(connection, f"{schema}_producer", f"select {name}.queue_claim('mail')")
    got = await as_role(connection, f"{schema}_worker", f"select from {name}.queue_claim('mail')")
    assert len(got) == 1
    seen = await as_role(connection, f"{schema}_monitor", f"select leased from {name}.backlog")
    assert seen == [{"leased": 1}]


async def test_an_installation_with_roles_keeps_them(connection: Connection, schema: str) -> None:
    before = await callable_by(connection, schema, "worker")
    name = quote_ident(schema)
    await connection.execute(f"drop function {name}.cleanup_sweep".encode())
    await migrate.apply(connection, schema)
    assert await callable_by(connection, schema, "worker") == before
    assert (await migrate.status(connection, schema)).in_step
