"""Every routine is called by some .sql test: the server counts (track_functions), we compare."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.pgtap import TapFailure, run_file, sql_files
from tests.server import TestServer

# Simple SQL functions are inlined into their callers and never counted.
NEVER_CALLED = """
select p.oid::regprocedure::text
from pg_proc as p
inner join pg_language as l on l.oid = p.prolang
where p.pronamespace = 'tidegate'::regnamespace
    and not (l.lanname = 'sql' and p.proconfig is null and not p.prosecdef)
    and p.proname <> all(%s)
order by 1
"""
CALLED = "select distinct funcname from pg_stat_user_functions where schemaname = 'tidegate'"


@pytest.mark.heavy
def test_every_routine_is_called_by_a_sql_test(
    server: TestServer, template: Any, psql: str
) -> None:
    name = f"{template.dbname}_coverage"
    called: set[str] = set()
    with psycopg.connect(server.conninfo(server.maintenance_dbname), autocommit=True) as admin:
        for path in sql_files():
            clone = sql.SQL("create database {} template {}")
            admin.execute(
                clone.format(sql.Identifier(name), sql.Identifier(template.template_dbname))
            )
            try:
                admin.execute(
                    sql.SQL("alter database {} set track_functions = 'all'").format(
                        sql.Identifier(name)
                    )
                )
                with contextlib.suppress(TapFailure):  # which is its own item's to report
                    run_file(path, psql, server.conninfo(name))
                if admin.info.server_version < 150000:
                    time.sleep(1)  # its collector learns of a call half a second later
                with psycopg.connect(server.conninfo(name)) as conn:
                    called |= {row[0] for row in conn.execute(CALLED.encode())}
            finally:
                drop = sql.SQL("drop database {} with (force)")
                admin.execute(drop.format(sql.Identifier(name)))
    with psycopg.connect(server.conninfo(template.template_dbname)) as conn:
        never = [row[0] for row in conn.execute(NEVER_CALLED, (sorted(called),))]
    assert never == []
