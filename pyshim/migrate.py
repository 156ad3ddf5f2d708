"""Install, upgrade, roll back, compare: the steps of `render`, in one transaction under a lock.

The ledger's SQL lives in `sql/ledger/`; this module runs it and reports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from pyshim import __version__, assets, render
from pyshim.connect import Connection
from pyshim.errors import MigrationError, SchemaMismatch, TidegateError, from_database
from pyshim.names import check_schema_name, quote_ident

FOREIGN = "not part of Tidegate"
NOT_INSTALLED = "not yet installed"
_UPGRADE_DRIVER = "upgrade this driver: pip install . in a checkout of the newer release"


@dataclass(frozen=True)
class Applied:
    """One line of the ledger."""

    name: str
    checksum: str
    version: str
    applied_at: datetime


@dataclass(frozen=True)
class Report:
    """What a migrate or rollback did, or with a dry run would do."""

    schema: str
    migrations: list[str]
    routines: int
    added: list[str]
    changed: list[str]
    newest: int


@dataclass(frozen=True)
class Status:
    """What is installed, against what this release brings."""

    schema: str
    installed: list[Applied]
    pending: list[str]
    unknown: list[str]
    changed: list[str]
    drift: list[tuple[str, str]]

    @property
    def in_step(self) -> bool:
        """True when all is as this release has it, and nothing else is there."""
        return not (self.pending or self.unknown or self.changed or self.drift)

    @property
    def only_foreign(self) -> bool:
        """True when nothing differs but by routines that are not ours: no migrate touches them."""
        ours = any(why != FOREIGN for _, why in self.drift)
        return not (self.in_step or self.pending or self.unknown or self.changed or ours)


async def apply(
    connection: Connection,
    schema: str,
    *,
    to: int | None = None,
    roles: bool = False,
    dry_run: bool = False,
) -> Report:
    """Bring `schema` to the newest migration (or to `to`), then all routines and grants.

    An installation that has roles keeps them. One transaction: all or nothing. Repeatable.
    Refuses (TG060) a schema that is not wholly the current role's.
    """
    check_schema_name(schema, roles=roles)
    known = assets.migrations()
    _check_target(to, known)
    async with _installer(connection, schema) as files:
        ledger, has_roles = await _read_ledger(connection, files)
        _check_frozen(schema, ledger, known)
        target = len(known) if to is None else to
        if target < len(ledger):
            raise MigrationError(
                f"schema {schema!r} is at migration {len(ledger)}, above {target}",
                hint=f"to go back: tidegate rollback --to {target}",
            )
        steps = render.bundle(schema, after=len(ledger), to=to, roles=roles or has_roles)
        at_head = target == len(known)
        drift = await _read_drift(connection, files) if ledger and at_head else []
        if not dry_run:
            await _run(connection, steps)
        return Report(
            schema=schema,
            migrations=[migration.name for migration in known[len(ledger) : target]],
            routines=len(assets.routines()) if at_head else 0,
            added=[name for name, why in drift if why == NOT_INSTALLED],
            changed=[name for name, why in drift if why not in (FOREIGN, NOT_INSTALLED)],
            newest=target,
        )


async def rollback(
    connection: Connection, schema: str, *, to: int | None = None, dry_run: bool = False
) -> Report:
    """Run down migrations to `to` (None: undo the newest one; 0: remove everything).

    Routines and views go first, for they fit the newest tables only. A down migration refuses
    (TG060, with the count) while rows would be lost; then nothing has happened.
    """
    check_schema_name(schema)
    known = assets.migrations()
    async with _installer(connection, schema) as files:
        ledger, _ = await _read_ledger(connection, files)
        if not ledger:
            raise MigrationError(
                f"nothing is installed in schema {schema!r}",
                hint="--schema or TIDEGATE_SCHEMA names another schema",
            )
        _check_frozen(schema, ledger, known)
        target = len(ledger) - 1 if to is None else to
        if not 0 <= target <= len(ledger):
            raise MigrationError(
                f"schema {schema!r} is at migration {len(ledger)}; cannot roll back to {target}",
                hint=f"--to takes 0 to {len(ledger)}",
            )
        undone = known[target : len(ledger)][::-1]
        steps = [files.step("ledger/drop_routines.sql")] if undone else []
        for migration in undone:
            steps.append(files.step("ledger/forget_migration.sql", migration=migration.name))
            steps.append(files.step(migration.down))
        if not dry_run:
            await _run(connection, steps)
        return Report(schema, [migration.name for migration in undone], 0, [], [], target)


async def status(connection: Connection, schema: str) -> Status:
    """Compare what is installed with this release. Reads only; takes no lock."""
    check_schema_name(schema)
    known = assets.migrations()
    files = render.templates(schema)
    async with connection.transaction():
        await _run(connection, [_check(files)])
        ledger, _ = await _read_ledger(connection, files)
        drift = await _read_drift(connection, files) if ledger else []
    names = {migration.name for migration in known}
    sums = render.checksums(files.root)
    return Status(
        schema=schema,
        installed=ledger,
        pending=[m.name for m in known if m.name not in {entry.name for entry in ledger}],
        unknown=[entry.name for entry in ledger if entry.name not in names],
        changed=[e.name for e in ledger if e.name in names and e.checksum != sums[e.name]],
        drift=drift,
    )


async def check_schema(connection: psycopg.AsyncConnection[Any], schema: str) -> None:
    """Raise `SchemaMismatch` (TG050) unless this driver can work with what is installed.

    A newer schema is fine up to the next minor release: drivers are replaced after the schema.
    Needs no right beyond USAGE on the schema.
    """
    newest = len(assets.migrations())
    name = quote_ident(check_schema_name(schema))
    query = f"select migration, version from {name}.schema_version()"
    upgrade = f"run: tidegate migrate --schema {name}"
    try:
        async with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
            await cursor.execute(query.encode())
            migration, version = await cursor.fetchone() or (0, None)
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName):
        raise SchemaMismatch(
            f"schema {schema!r} holds no Tidegate installation, or an unfinished one", hint=upgrade
        ) from None
    except psycopg.errors.InsufficientPrivilege:
        raise SchemaMismatch(
            f"this database role may not use schema {schema!r}",
            hint=f"grant it one of the roles of the installation, such as {schema}_worker",
        ) from None
    if (migration or 0) < newest:
        raise SchemaMismatch(
            f"schema {schema!r} is at migration {migration or 0}, and tidegate {__version__}"
            f" needs {newest}",
            hint=upgrade,
        )
    if migration > newest and _minor(version) > _minor(__version__) + 1:
        raise SchemaMismatch(
            f"schema {schema!r} was made by tidegate {version}, too new for tidegate {__version__}",
            hint=_UPGRADE_DRIVER,
        )


def _minor(version: str | None) -> int:
    """One number that grows by one with each minor release."""
    major, minor = ((version or "0.0") + ".0").split(".")[:2]
    return int(major) * 1000 + int(minor)


def _check_target(to: int | None, known: list[assets.Migration]) -> None:
    if to is not None and not 1 <= to <= len(known):
        raise MigrationError(f"there is no migration {to}", hint=f"--to takes 1 to {len(known)}")


def _check_frozen(schema: str, ledger: list[Applied], known: list[assets.Migration]) -> None:
    """What is applied must be what this release knows, in the same order, unchanged."""
    sums = render.checksums(assets.sql_root())
    for entry, migration in zip(ledger, known, strict=False):
        if entry.name != migration.name:
            raise MigrationError(
                f"schema {schema!r} has {entry.name} where this release has {migration.name}",
                hint="use the release that made the schema, or one that follows it",
            )
        if entry.checksum != sums[entry.name]:
            raise MigrationError(
                f"migration {entry.name} was changed after it was applied to schema {schema!r}"
                f" (by {entry.version})",
                hint="restore the file, and write the change as a new migration",
            )
    if len(ledger) > len(known):
        names = ", ".join(entry.name for entry in ledger[len(known) :])
        raise SchemaMismatch(
            f"schema {schema!r} has migrations unknown to tidegate {__version__}: {names}",
            hint=_UPGRADE_DRIVER,
        )


@asynccontextmanager
async def _installer(connection: Connection, schema: str) -> AsyncIterator[render.Templates]:
    """One transaction under the advisory lock of this schema, which is ours alone (else TG060)."""
    files = render.templates(schema)
    async with connection.transaction():
        await _run(connection, [files.step("ledger/lock.sql"), _check(files)])
        yield files


def _check(files: render.Templates) -> render.Step:
    """Nothing is looked at in a schema where others could have put something in our way."""
    return files.step("ledger/check_schema.sql")


async def _read_ledger(
    connection: Connection, files: render.Templates
) -> tuple[list[Applied], bool]:
    """The applied migrations in order, and whether the installation's roles exist."""
    [found] = await _fetch(connection, files.render("ledger/exists.sql"))
    if not found["has_ledger"]:
        return [], False
    try:
        rows = await _fetch(connection, files.render("ledger/list_migrations.sql"))
    except psycopg.errors.UndefinedColumn:
        raise MigrationError(
            "the schema holds a table named migration that is not Tidegate's",
            hint="choose another schema with --schema",
        ) from None
    ledger = [
        Applied(row["migration"], row["checksum"], row["version"], row["applied_at"])
        for row in rows
    ]
    return ledger, found["has_roles"]


async def _read_drift(connection: Connection, files: render.Templates) -> list[tuple[str, str]]:
    """(routine, what is the matter) of every routine that is not as this release has it."""
    sql = files.render("ledger/list_drift.sql", sources=render.sources(files.root))
    path = f"{files.values['schema']}, pg_temp"
    async with connection.transaction(force_rollback=True):
        await connection.execute("select set_config('search_path', %s, true)", (path,))
        rows = await _fetch(connection, sql)
    return [(row["routine"], row["drift"]) for row in rows]


async def _fetch(connection: Connection, sql: str) -> list[dict[str, Any]]:
    cursor = await connection.execute(sql.encode())
    return await cursor.fetchall()


async def _run(connection: Connection, steps: list[render.Step]) -> None:
    """Execute the steps. A failure names its file and line; our own SQLSTATEs pass as they are."""
    for step in steps:
        try:
            await connection.execute(step.sql.encode())
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            raise from_database(error) or _step_error(connection, step, error) from error


def _step_error(connection: Connection, step: render.Step, error: psycopg.Error) -> TidegateError:
    diag = error.diag
    line = ""
    if diag.statement_position:
        line = f" line {step.sql[: int(diag.statement_position)].count(chr(10)) + 1}"
    return MigrationError(
        f"{step.name}{line}: {diag.message_primary or error} (SQLSTATE {error.sqlstate})",
        hint=diag.message_hint or _missing_right(connection, step, error),
        detail=diag.message_detail,
    )


def _missing_right(connection: Connection, step: render.Step, error: psycopg.Error) -> str | None:
    """What a DBA has to run, where a right of the installing role is what is missing."""
    if not isinstance(error, psycopg.errors.InsufficientPrivilege):
        return None
    user = quote_ident(connection.info.user)
    if step.name == "grants.sql":
        return f"--roles needs CREATEROLE; have a DBA run: alter role {user} createrole"
    if "permission denied for database" in str(error):
        name = quote_ident(connection.info.dbname)
        return f"have a DBA run: grant create on database {name} to {user}"
    return None
