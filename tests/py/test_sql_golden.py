"""Golden copies of what a release installs. `make golden` writes them, `make verify` compares.

A difference is no mistake in itself: it is there to be read in the review of a change.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg

from pyshim import __version__, render
from tests.reference import reference

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "sql" / "golden"


def compare(path: Path, text: str) -> None:
    """Compare `text` with the golden file, or write it where TIDEGATE_GOLDEN says so."""
    if os.environ.get("TIDEGATE_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"{path} is missing: make golden"
    assert text.splitlines() == path.read_text(encoding="utf-8").splitlines(), "make golden?"


def test_golden_install() -> None:
    compare(GOLDEN / "install.sql", render.render("tidegate").replace(__version__, "VERSION"))


def test_golden_schema(postgresql: psycopg.Connection[Any]) -> None:
    query = (GOLDEN / "schema.sql").read_bytes()
    postgresql.execute("set search_path = pg_catalog")
    compare(GOLDEN / "schema.txt", "".join(f"{line}\n" for (line,) in postgresql.execute(query)))


def test_golden_reference(empty_database: str) -> None:
    with psycopg.connect(empty_database) as connection:
        connection.execute(render.render("tidegate", roles=True).encode())
        text = reference(connection, "tidegate")
        connection.rollback()  # roles would outlive the database
    compare(ROOT / "docs" / "reference.md", text)
