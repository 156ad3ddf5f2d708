"""The options that every command has: which database, which schema."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import click

from pyshim import config
from pyshim.connect import Connection, connect

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What was said before the command's name; resolved only when a command asks."""

    database_url: str | None = None
    schema_name: str | None = None

    def database(self) -> config.Database:
        """The database that is named, or `ConfigError`."""
        return config.require_database(self.database_url)

    def schema(self, *, roles: bool = False) -> str:
        """The raw schema name, checked."""
        return config.schema(self.schema_name, roles=roles)

    def with_connection(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` on one connection of its own."""

        async def run() -> T:
            connection = await connect(self.database())
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(run())


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--schema` and `--database-url`, passed to the command as `options: Options`."""

    @click.option("--schema", metavar="NAME", help="Schema [TIDEGATE_SCHEMA; default: tidegate].")
    @click.option(
        "--database-url",
        metavar="URL",
        help="Database [TIDEGATE_DATABASE_URL, DATABASE_URL, PG*].",
    )
    @functools.wraps(command)  # carries over the options that the command declared itself
    def wrapper(schema: str | None, database_url: str | None, **rest: object) -> None:
        command(options=Options(database_url, schema), **rest)

    return wrapper
