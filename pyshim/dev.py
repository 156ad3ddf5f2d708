"""For people who work on Tidegate: `python -m pyshim.dev serve | psql | run COMMAND…`.

`serve` keeps a migrated scratch server up until Ctrl-C. `psql` opens DATABASE_URL, or a scratch
server. `run` runs a command with DATABASE_URL naming a scratch server that holds nothing yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from pyshim import config, embedded, migrate
from pyshim.config import Database
from pyshim.connect import connect
from pyshim.errors import TidegateError
from pyshim.names import quote_ident

_PSQLRC = Path(__file__).resolve().parents[1] / "tests" / "psqlrc"


@contextlib.contextmanager
def _scratch(schema: str) -> Iterator[embedded.Server]:
    """A scratch server with the schema in it."""

    async def install(url: str) -> None:
        async with await connect(Database(url, "the scratch server")) as connection:
            await migrate.apply(connection, schema)

    with embedded.running() as server:
        asyncio.run(install(server.url))
        yield server


@click.group()
def main() -> None:
    """Scratch servers for development."""


@main.command()
def serve() -> None:
    """Keep a migrated server up until Ctrl-C."""
    schema = config.schema()
    with _scratch(schema) as server:
        click.echo(f"PostgreSQL {server.version} with schema {quote_ident(schema)}, until Ctrl-C:")
        click.echo(f"  export DATABASE_URL='{server.url}'")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql with search_path, timing and the shortcuts of tests/psqlrc."""
    schema = config.schema()
    with contextlib.ExitStack() as stack:
        named = config.database()
        if named:
            url, program = named.url, shutil.which("psql")
        else:
            server = stack.enter_context(_scratch(schema))
            url, program = server.url, str(server.bin / "psql")
        path = quote_ident(schema).replace(" ", "\\ ")
        environment = {
            **os.environ,
            "PSQLRC": str(_PSQLRC),
            "PGOPTIONS": f"{os.environ.get('PGOPTIONS', '')} -c search_path={path},public",
        }
        program = program or str(embedded.installation(18) / "bin" / "psql")
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for psql
        done = subprocess.run([program, "-d", url, *arguments], env=environment, check=False)
    raise SystemExit(done.returncode)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True)
def run(command: tuple[str, ...]) -> None:
    """Run COMMAND with DATABASE_URL naming an empty scratch server."""
    with embedded.running(in_memory=True) as server:
        environment = {**os.environ, "DATABASE_URL": server.url}
        done = subprocess.run(command, env=environment, check=False)
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    try:
        main()
    except TidegateError as error:
        print(f"tidegate: {error}", file=sys.stderr)
        raise SystemExit(1) from None
