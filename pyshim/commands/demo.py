"""`tidegate demo`: the whole of it at work, on a database that is there for nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from uuid import uuid4

import click
import psycopg
from psycopg import sql

from pyshim import config, embedded
from pyshim.demo import Broker, Demo
from pyshim.errors import TidegateError
from pyshim.names import quote_ident
from pyshim.options import Options, shared_options
from pyshim.runtime import Runtime
from pyshim.session import DEFAULT_TIMEOUT

DEFAULT_REDIS = "redis://localhost:6379/0"


@click.command("demo")
@shared_options
def command(options: Options) -> None:
    """Watch a shop's events flow from its transactions into queues, a SQL handler and brokers.

    Starts a PostgreSQL of its own, or makes a database of its own on the server that is named, and
    removes it at the end. Relays to standard output, and to Redis where one answers at
    TIDEGATE_DEMO_REDIS or localhost. Exits 1 if the summary does not add up.
    """
    schema = options.schema()
    try:
        with _database(options) as database:
            adds_up = asyncio.run(_demo(Runtime(database, schema, DEFAULT_TIMEOUT, "demo")))
    except KeyboardInterrupt:
        adds_up = None
    if adds_up is None:
        click.echo("interrupted; everything removed")
        raise SystemExit(130)
    if not adds_up:
        raise SystemExit(1)


async def _demo(runtime: Runtime) -> bool | None:
    broker = await Broker.find(os.environ.get("TIDEGATE_DEMO_REDIS") or DEFAULT_REDIS)
    try:
        return await Demo(runtime, broker).run()
    finally:
        if broker:
            await broker.close()


@contextlib.contextmanager
def _database(options: Options) -> Iterator[config.Database]:
    """An empty database, gone afterwards."""
    named = config.database(options.database_url)
    if named is None:
        with embedded.running() as server:
            click.echo(f"PostgreSQL {server.version} started, for this demo only")
            yield config.Database(server.url, "the demo")
        return
    dbname = f"tidegate_demo_{uuid4().hex[:8]}"
    with psycopg.connect(named.url, autocommit=True) as admin:
        try:
            admin.execute(sql.SQL("create database {}").format(sql.Identifier(dbname)))
        except psycopg.errors.InsufficientPrivilege as error:
            raise TidegateError(
                f"the demo makes a database of its own: {error.diag.message_primary}",
                hint=f"have a DBA run: alter role {quote_ident(admin.info.user)} createdb",
            ) from None
        try:
            yield config.Database(config.with_database(named.url, dbname), named.source)
        finally:
            drop = sql.SQL("drop database {} with (force)").format(sql.Identifier(dbname))
            admin.execute(drop)
