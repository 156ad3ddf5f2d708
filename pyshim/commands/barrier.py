"""`tidegate barrier`: look at barriers, and decide what becomes of those that are stranded."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import click

from pyshim import calls
from pyshim.console import Console, confirm, console_options, when

console_of_barriers = console_options("barrier")

_STATES = ("open", "fired", "fire_failed", "aborted", "resolved")

epoch_option = click.option("--epoch", type=int, help="Which opening (default: the latest).")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group("barrier")
def command() -> None:
    """Look at barriers, end them, and decide about those that are stranded."""


@command.command("list")
@click.option("--state", type=click.Choice(_STATES), help="Only these.")
@click.option("--stranded", is_flag=True, help="Only open ones that have expired or stand still.")
@click.option("--run-id", help="Only those of a run.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="At most so many.",
)
@console_of_barriers
def list_command(console: Console, **arguments: Any) -> None:
    """List barriers, what was opened last on top."""
    if console.as_json:
        click.echo(console.json(calls.BARRIER_LIST, arguments))
        return
    _show(console, console.rows(calls.BARRIER_LIST, arguments))


@command.command("show")
@click.argument("name")
@console_of_barriers
def show_command(console: Console, name: str) -> None:
    """Show how NAME stands. Exits 1 if there is no such barrier."""
    if console.as_json:
        text = console.json(calls.BARRIER_STATUS, {"name": name})
        click.echo(text)
        if text == "[]":
            raise SystemExit(1)
        return
    _show(console, [_status(console, name)])


@command.command("results")
@click.argument("name")
@epoch_option
@click.option("--after", type=int, default=0, help="Only members above this one: the next page.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="At most so many.",
)
@console_of_barriers
def results_command(console: Console, name: str, epoch: int | None, after: int, limit: int) -> None:
    """Show what members of NAME arrived with, in their order."""
    epoch = _status(console, name).epoch if epoch is None else epoch
    arguments = {"name": name, "epoch": epoch, "after": after, "limit": limit}
    if console.as_json:
        click.echo(console.json(calls.BARRIER_RESULTS, arguments))
        return
    console.table(
        ("member", "at", "result", "error"),
        (
            (row.member, when(row.at), row.result, row.error)
            for row in console.rows(calls.BARRIER_RESULTS_TEXT, arguments)
        ),
    )


@command.command("abort")
@click.argument("name")
@epoch_option
@click.option("--reason", help="Why; its failure queue hears it.")
@yes_option
@console_of_barriers
def abort_command(
    console: Console, name: str, epoch: int | None, reason: str | None, yes: bool
) -> None:
    """End NAME: it will not fire. Exits 1 if it was not open any more."""
    epoch = _status(console, name).epoch if epoch is None else epoch
    confirm(yes, lambda: f"End barrier {name}? It will not fire, and its members count no more.")
    arguments = {"name": name, "epoch": epoch, "reason": reason}
    _decide(console, calls.BARRIER_ABORT, arguments, good={"aborted"})


@command.command("resolve")
@click.argument("name")
@click.argument("outcome", type=click.Choice(["failed", "completed", "keep", "fire"]))
@epoch_option
@yes_option
@console_of_barriers
def resolve_command(
    console: Console, name: str, outcome: str, epoch: int | None, yes: bool
) -> None:
    """Decide what becomes of NAME, which is stranded or could not fire.

    failed: it is aborted, and its failure queue hears what was outstanding. completed: it is closed
    without a callback, as its work was finished elsewhere. keep: it lives. fire: the callback that
    became a dead letter is sent once more. Exits 1 if nothing was changed.
    """
    epoch = _status(console, name).epoch if epoch is None else epoch
    if outcome in ("failed", "completed"):
        confirm(yes, lambda: f"Close barrier {name} as {outcome}? Its callback will not come.")
    arguments = {"name": name, "epoch": epoch, "outcome": outcome}
    good = {"failed", "completed", "kept", "fired"}
    _decide(console, calls.BARRIER_RESOLVE, arguments, good=good)


def _decide(console: Console, statement: str, arguments: dict[str, Any], *, good: Set[str]) -> None:
    """Say what was decided; or why nothing was changed, and exit 1."""
    if console.as_json:
        console.outcomes(statement, arguments, good=good)
        return
    name, epoch, wanted = arguments["name"], arguments["epoch"], arguments.get("outcome", "abort")
    outcome = console.rows(statement, arguments)[0].outcome
    if outcome in good:
        click.echo(f"barrier {name} is {outcome}")
        return
    now = _status(console, name)
    if now.epoch != epoch:
        why = f"nothing was changed in {name}: its epoch is {now.epoch}, not {epoch}"
    elif outcome == "fire_failed":
        why = f"{name} could not fire again: {now.reason}"
    elif wanted == "fire":
        why = f"{name} is {now.state}: fire is for fire_failed"
    else:
        why = f"{name} is {now.state}: nothing to {'abort' if wanted == 'abort' else 'resolve'}"
    click.echo(why, err=True)
    raise SystemExit(1)


def _status(console: Console, name: str) -> Any:
    rows = console.rows(calls.BARRIER_STATUS, {"name": name})
    if not rows:
        click.echo(f"there is no barrier {name}", err=True)
        raise SystemExit(1)
    return rows[0]


def _show(console: Console, rows: list[Any]) -> None:
    console.table(
        (
            "barrier", "epoch", "state", "outcome", "members", "arrived", "failed", "outstanding",
            "opened", "progress", "expires", "stalls", "run", "reason",
        ),
        (
            (
                row.name, row.epoch, row.state, row.outcome, row.members, row.arrived, row.failed,
                row.outstanding, when(row.opened_at), when(row.progress_at),
                when(row.expires_at) if row.state == "open" else "",
                when(row.stalls_at) if row.state == "open" else "",
                row.run_id, row.reason,
            )
            for row in rows
        ),
    )  # fmt: skip
