"""What a query costs, counted in pages, which no other load on the machine changes."""

from __future__ import annotations

from typing import Any

import psycopg


def pages(conn: psycopg.Connection[Any], *queries: str) -> int:
    """Pages that the last of these queries touches; all are undone.

    The least of three: whoever makes plans, or has lost its caches to much DDL elsewhere, reads
    catalogs, too.
    """
    touched = []
    for _ in range(3):
        with conn.transaction(force_rollback=True):
            for query in queries[:-1]:
                conn.execute(query.encode())
            row = conn.execute("select buffers(%s)", (queries[-1],)).fetchone()
        assert row
        touched.append(int(row[0]))
    return min(touched)
