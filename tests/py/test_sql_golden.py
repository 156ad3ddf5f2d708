"""Golden copies of what a release installs. `make golden` writes them, `make verify` compares.

A difference is no mistake in itself: it is there to be read in the review of a change.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg

from pyshim import __version__, render

GOLDEN = Path(__file__).parents[1] / "sql" / "golden"


def compare(name: str, text: str) -> None:
    """Compare `text` with the golden file, or write it where TIDEGATE_GOLDEN says so."""
    path = GOLDEN / name
    if os.environ.get("TIDEGATE_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"{path} is missing: make golden"
    assert text.splitlines() == path.read_text(encoding="utf-8").splitlines(), "make golden?"


def test_golden_install() -> None:
    compare("install.sql", render.render("tidegate").replace(__version__, "VERSION"))


def test_golden_schema(postgresql: psycopg.Connection[Any]) -> None:
    query = (GOLDEN / "schema.sql").read_bytes()
    postgresql.execute("set search_path = pg_catalog")
    compare("schema.txt", "".join(f"{line}\n" for (line,) in postgresql.execute(query)))
