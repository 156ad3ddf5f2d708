"""`tidegate run`: open, end, cancel and look at runs."""

from __future__ import annotations

import click

from pyshim import calls
from pyshim.console import Console, confirm, console_options, when

console_of_runs = console_options("run")


@click.group("run")
def command() -> None:
    """Open, end, cancel and look at runs: executions whose messages can be stopped together."""


@command.command("open")
@click.argument("run_id")
@click.option("--parent", metavar="RUN_ID", help="Fail and stop together with this run.")
@click.option("--tenant", help="Whose run it is.")
@click.option("--fail-on-dead-letter", is_flag=True, help="Fail as soon as a message of it dies.")
@console_of_runs
def open_command(
    console: Console,
    run_id: str,
    parent: str | None,
    tenant: str | None,
    fail_on_dead_letter: bool,
) -> None:
    """Open RUN_ID. Exits 1 if it has ended already, or goes with a parent that has."""
    arguments = {
        "run_id": run_id,
        "parent": parent,
        "tenant": tenant,
        "fail_on_dead_letter": fail_on_dead_letter,
    }
    state = console.rows(calls.RUN_OPEN, arguments)[0].state
    console.say(f"run {run_id} is {state}", run_id=run_id, state=state)
    if state != "open":
        raise SystemExit(1)


@command.command("finish")
@click.argument("run_id")
@click.argument("state", type=click.Choice(["completed", "error", "stopped"]))
@click.option("--reason", help="Why.")
@console_of_runs
def finish_command(console: Console, run_id: str, state: str, reason: str | None) -> None:
    """End RUN_ID as completed, error or stopped.

    An error takes open children along, and may still become completed. Exits 1 if the run is
    unknown, or has ended otherwise.
    """
    arguments = {"run_id": run_id, "state": state, "reason": reason}
    console.outcomes(calls.RUN_FINISH, arguments, good={"changed", "unchanged"})


@command.command("cancel")
@click.argument("run_id")
@click.option("--reason", help="Why; shown by status.")
@click.option("--yes", is_flag=True, help="Do not ask about a run that was never opened.")
@console_of_runs
def cancel_command(console: Console, run_id: str, reason: str | None, yes: bool) -> None:
    """Stop RUN_ID and its children, and all that waits of them.

    By name, also before it was opened: then you are asked, as it could be a slip. What workers hold
    is not delivered again; the rest is kept as discarded dead letters. A run that has completed is
    not cancelled any more.
    """
    is_known = bool(console.rows(calls.RUN_STATUS, {"run_id": run_id}))
    confirm(
        yes or is_known,
        lambda: f"Run {run_id} was never opened. Stop it before it begins, for good?",
        hint=f"run {run_id} was never opened: if you mean it, say --yes",
    )
    done = console.rows(calls.RUN_CANCEL, {"run_id": run_id, "reason": reason})[0]
    console.say(
        f"run {run_id} is cancelled: {done.runs} stopped, {done.removed} messages removed"
        if is_known
        else f"run {run_id} was never opened: it is stopped before it begins, and stays so"
        + (f"; {done.removed} messages removed" if done.removed else ""),
        run_id=run_id,
        outcome=done.outcome,
        runs=done.runs,
        removed=done.removed,
    )


@command.command("status")
@click.argument("run_id")
@console_of_runs
def status_command(console: Console, run_id: str) -> None:
    """Show what became of RUN_ID. Exits 1 if it is unknown."""
    arguments = {"run_id": run_id}
    if console.as_json:
        text = console.json(calls.RUN_STATUS, arguments)
        click.echo(text)
        if text == "[]":
            raise SystemExit(1)
        return
    rows = console.rows(calls.RUN_STATUS, arguments)
    if not rows:
        click.echo(f"run {run_id} was neither opened nor cancelled")
        raise SystemExit(1)
    console.table(
        ("run", "state", "opened", "ended", "open children", "waiting", "dead", "parent", "reason"),
        (
            (
                row.run_id,
                row.state,
                when(row.opened_at),
                when(row.finished_at),
                row.open_children,
                row.waiting,
                row.dead_letters,
                row.parent_id,
                row.reason,
            )
            for row in rows
        ),
    )
