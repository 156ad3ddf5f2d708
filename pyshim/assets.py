"""Where the SQL lives: `pyshim/sql` in an installed wheel, `sql/` in a checkout."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pyshim.errors import AssetError

_MIGRATION = re.compile(r"^(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.(?P<way>up|down)\.sql$")
_INCLUDE = re.compile(r"^\s*\{%-?\s*include\s+\"(?P<path>[^\"]+)\"\s*-?%\}\s*$")


@dataclass(frozen=True)
class Migration:
    """One numbered change of shape. `up` and `down` are template paths relative to the SQL root."""

    name: str
    up: str
    down: str


def sql_root() -> Path:
    """The folder of the SQL templates."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "sql", package.parent / "sql"):
        if (candidate / "migrations").is_dir():
            return candidate
    raise AssetError(
        f"no SQL found in {package / 'sql'} or {package.parent / 'sql'}",
        hint="the installation is incomplete: reinstall tidegate",
    )


def migrations(root: Path | None = None) -> list[Migration]:
    """All migrations in order. A gap, a repeated number or a missing half is an error naming it."""
    folder = (root or sql_root()) / "migrations"
    halves: dict[tuple[int, str], set[str]] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _MIGRATION.match(path.name)
        if match is None:
            raise AssetError(
                f"migration file {path.name!r} is not named NNNN_verb_object.up.sql or .down.sql"
            )
        halves.setdefault((int(match["number"]), match["name"]), set()).add(match["way"])
    found: list[Migration] = []
    for (number, name), ways in sorted(halves.items()):
        stem = f"{number:04d}_{name}"
        if ways != {"up", "down"}:
            missing = ({"up", "down"} - ways).pop()
            raise AssetError(f"migration {stem} has no {stem}.{missing}.sql")
        if number != len(found) + 1:
            raise AssetError(f"migration {stem} should be number {len(found) + 1:04d}")
        found.append(Migration(stem, f"migrations/{stem}.up.sql", f"migrations/{stem}.down.sql"))
    return found


def routines(root: Path | None = None) -> list[str]:
    """The template paths of routines and views, in the load order that `install.sql` states.

    `install.sql` is a table of contents: comments and include lines, nothing else.
    """
    text = ((root or sql_root()) / "install.sql").read_text(encoding="utf-8")
    found: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = _INCLUDE.match(line)
        if match is not None:
            found.append(match["path"])
        elif line.strip() and not line.lstrip().startswith("--"):
            raise AssetError(
                f"install.sql line {number} is neither a comment nor an include: {line.strip()!r}"
            )
    repeated = sorted({path for path in found if found.count(path) > 1})
    if repeated:
        raise AssetError(f"install.sql includes {repeated[0]!r} more than once")
    return found
