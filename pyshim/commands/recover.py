"""`tidegate recover`: get back what was stranded, once."""

from __future__ import annotations

import json

import click

from pyshim import calls
from pyshim.console import Console, console_options, printable

WHAT = {
    "leases_expired": "leases taken back",
    "barriers": "barriers looked at",
    "resent": "members sent again",
    "refired": "callbacks sent again",
    "failed": "barriers failed, with their runs",
    "reclaimed": "barriers closed, as their runs had ended",
    "asked": "asked about in an expire queue",
    "kept": "barriers left as they are",
    "guards": "guards of ended runs put away",
    "stranded": "messages put back from below a floor",
}


@click.command("recover")
@click.option("--limit", default=100, show_default=True, help="At most so many of a kind.")
@console_options("recover")
def command(console: Console, limit: int) -> None:
    """Get back what was stranded: expired leases, overdue barriers, guards of ended runs.

    Exits 1 if something failed and nothing was recovered. It does what `maintain` does every five
    seconds, and needs no lead: rows that others hold are passed by.
    """
    if console.as_json:
        text = console.json(calls.RECOVERY_SWEEP, {"limit": limit})
        row = json.loads(text)[0]
        click.echo(json.dumps(row))
    else:
        row = console.rows(calls.RECOVERY_SWEEP, {"limit": limit})[0]._asdict()
        console.table(("recovered", "count"), [(WHAT[name], row[name]) for name in WHAT])
        for name, error in row["errors"].items():
            click.echo(printable(f"{name}: {error}"))
        if row["has_more"]:
            click.echo("there is more: call again")
    if row["systemic"]:
        raise SystemExit(1)
