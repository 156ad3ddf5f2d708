"""Templates → SQL. `bundle` lists the steps of an installation; `render` joins them into one file.

`tidegate migrate` executes the very same steps, so a rendered file and a migrated schema agree.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import jinja2

from pyshim import __version__, assets
from pyshim.errors import AssetError
from pyshim.names import ROLES, check_schema_name, quote_ident

_HEADER = """\
-- Tidegate {version}, schema {schema}: {what}.
-- One self-contained file; apply it in one transaction:  psql -1 -v ON_ERROR_STOP=1 -f FILE
-- It refuses a schema that it does not fit. Made by: tidegate render
"""


@dataclass(frozen=True)
class Step:
    """One piece of SQL with the name of the file it came from."""

    name: str
    sql: str


def context(schema: str, *, roles: bool = False) -> dict[str, Any]:
    """What templates may use: the rendering contract of CONTRIBUTING.md."""
    check_schema_name(schema, roles=roles)
    return {
        "schema": quote_ident(schema),
        "schema_literal": f"'{schema}'",  # the check refuses quotes and backslashes
        "version": __version__,
        "roles": roles,
        **{f"role_{role}": quote_ident(f"{schema}_{role}") for role in ROLES},
    }


class _Compiled(jinja2.BytecodeCache):
    """Templates compiled by this process. Their code is the same for every schema."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], CodeType | None] = {}

    def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        bucket.code = self._code.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        self._code[bucket.key, bucket.checksum] = bucket.code


_COMPILED = _Compiled()


class Templates:
    """The SQL files under `root`, rendered for one schema."""

    def __init__(self, root: Path, values: dict[str, Any]) -> None:
        self.root = root
        self.values = values
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(root),
            undefined=jinja2.StrictUndefined,
            keep_trailing_newline=True,
            autoescape=False,
            bytecode_cache=_COMPILED,
        )
        # Globals, so that imported macros see the context too.
        self._environment.globals.update(values)

    def render(self, path: str, **more: Any) -> str:
        """The file at `path` (relative to the root). `AssetError` names the file and the line."""
        try:
            return self._environment.get_template(path).render(more)
        except jinja2.TemplateNotFound as error:
            raise AssetError(f"{path}: no such SQL file: {error.name}") from None
        except jinja2.TemplateSyntaxError as error:
            where = f"{error.name or path} line {error.lineno}"
            raise AssetError(f"{where}: {error.message}") from None
        except jinja2.UndefinedError as error:
            raise AssetError(f"{path}: {error.message}") from None

    def step(self, path: str, **more: Any) -> Step:
        """The same as one step of an installation."""
        return Step(path, self.render(path, **more))


def templates(schema: str, *, roles: bool = False, root: Path | None = None) -> Templates:
    """The SQL files, rendered for `schema`."""
    return Templates(root or assets.sql_root(), context(schema, roles=roles))


@functools.cache
def checksums(root: Path) -> dict[str, str]:
    """SHA-256 of every migration (by name) and routine file (by routine name), macros expanded.

    The same for every schema, release and option: rendered under one fixed context.
    """
    plain = Templates(root, context("tidegate") | {"version": "0"})
    files = {migration.name: migration.up for migration in assets.migrations(root)}
    files |= {Path(path).stem: path for path in assets.routines(root)}
    return {
        name: hashlib.sha256(plain.render(path).encode("utf-8")).hexdigest()
        for name, path in files.items()
    }


def sources(root: Path) -> list[tuple[str, str]]:
    """(name, checksum) of every routine and view of this release."""
    names = sorted(Path(path).stem for path in assets.routines(root))
    return [(name, checksums(root)[name]) for name in names]


def bundle(
    schema: str,
    *,
    after: int = 0,
    to: int | None = None,
    roles: bool = False,
    root: Path | None = None,
) -> list[Step]:
    """The steps from migration `after` (0: nothing installed) to `to` (None: the newest).

    Routines, views and grants follow only at the newest migration: they fit no older tables.
    """
    files = templates(schema, roles=roles, root=root)
    known = assets.migrations(files.root)
    last = len(known) if to is None else to
    steps: list[Step] = []
    for migration in known[after:last]:
        entry = {"migration": migration.name, "checksum": checksums(files.root)[migration.name]}
        steps.append(files.step(migration.up))
        steps.append(files.step("ledger/record_migration.sql", **entry))
    if last == len(known):
        if after == 0:  # a schema made just now may have got default privileges
            steps.append(files.step("ledger/check_schema.sql"))
        steps += [files.step(path) for path in assets.routines(files.root)]
        steps.append(files.step("grants.sql"))
        steps.append(files.step("ledger/record_routines.sql", sources=sources(files.root)))
    return steps


def render(schema: str, *, after: int = 0, roles: bool = False, root: Path | None = None) -> str:
    """One self-contained SQL file that installs, or upgrades from migration `after`."""
    files = templates(schema, roles=roles, root=root)
    known = assets.migrations(files.root)
    if not 0 <= after <= len(known):
        raise AssetError(
            f"there is no migration {after}",
            hint=f"--from takes 0 (a fresh schema) to {len(known)}",
        )
    expected = [(m.name, checksums(files.root)[m.name]) for m in known[:after]]
    what = f"upgrade from migration {after:04d}" if after else "installation"
    parts = [_HEADER.format(version=__version__, schema=quote_ident(schema), what=what)]
    steps = [files.step("ledger/guard.sql", after=after, expected=expected)]
    steps += bundle(schema, after=after, roles=roles, root=root)
    parts += [f"\n-- {step.name}\n{step.sql.strip()}\n" for step in steps]
    return "".join(parts)
