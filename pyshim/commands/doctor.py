"""`tidegate doctor`: what is wrong, and what to do next."""

from __future__ import annotations

import json
import textwrap

import click

from pyshim import calls
from pyshim.console import Console, console_options, printable

_WIDTH = 100


@click.command("doctor")
@click.option("-v", "--verbose", is_flag=True, help="Also what is well.")
@console_options("doctor")
def command(console: Console, verbose: bool) -> None:
    """Look for what is wrong, and say what to do next. Exits 1 when a check fails."""
    if console.as_json:
        text = console.json(calls.DOCTOR, {})
        click.echo(text)
        failed = any(row["status"] == "fail" for row in json.loads(text))
    else:
        rows = console.rows(calls.DOCTOR, {})
        failed = any(row.status == "fail" for row in rows)
        well = [row for row in rows if row.status == "ok"]
        for row in rows:
            if verbose or row.status != "ok":
                _show(row.status, row.check_name, row.seen, row.advice)
        click.echo(f"{len(well)} of {len(rows)} checks are ok")
    if failed:
        raise SystemExit(1)


def _show(status: str, name: str, seen: str, advice: str | None) -> None:
    """A finding in its lines: `FAIL  queues: …`, and below it what to do."""
    for first, text in ((f"{status.upper():<4}  ", f"{name}: {seen}"), ("      → ", advice)):
        if text:
            rest = " " * len(first)
            lines = textwrap.wrap(
                printable(text), _WIDTH, initial_indent=first, subsequent_indent=rest
            )
            click.echo("\n".join(lines))
