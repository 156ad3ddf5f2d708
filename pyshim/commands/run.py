"""`tidegate run`: all loops of an installation in one process; and open, end, cancel and look at
runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

import click
from click.core import ParameterSource

from pyshim import calls, configfile, effective, lint, logs, sidecar
from pyshim.console import Console, confirm, console_options, when
from pyshim.options import Options, shared_options
from pyshim.runtime import Runtime, listening, seconds
from pyshim.serve import Address, label

console_of_runs = console_options("run")

_STATES = ("open", "completed", "error", "stopped")


@click.group("run", invoke_without_command=True)
@click.option(
    "--config", "file", metavar="FILE", envvar="TIDEGATE_CONFIG", show_envvar=True,
    help=f"The sidecar's settings [default: {configfile.DEFAULT_FILE}].",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Print the settings in force, and connect to nothing.")
@click.option(
    "--listen", metavar="HOST:PORT", callback=listening, envvar="TIDEGATE_LISTEN",
    show_envvar=True, help="Answer /metrics, /healthz and /readyz there.",
)  # fmt: skip
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=VALUE",
    callback=lambda _, option, values: dict(label(option.opts[0], v) for v in values),
    help="A label on every sample; may be repeated.",
)  # fmt: skip
@click.option(
    "--timeout", metavar="DURATION", callback=seconds, envvar="TIDEGATE_TIMEOUT",
    show_envvar=True, help="Longest that one call may take; 0 is without limit.",
)  # fmt: skip
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), envvar="TIDEGATE_LOG_FORMAT",
    show_envvar=True, help="Log lines as key=value or as JSON, on standard error.",
)  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Log every batch, not only failures.")
@click.option(
    "--doorbell/--no-doorbell", default=None, envvar="TIDEGATE_DOORBELL", show_envvar=True,
    help="Let channels with a doorbell end pauses early.",
)  # fmt: skip
@click.option(
    "--doorbell-url", metavar="URL", envvar="TIDEGATE_DOORBELL_URL", show_envvar=True,
    help="Where to listen for the doorbell, past a transaction pooler.",
)  # fmt: skip
@shared_options
@click.pass_context
def command(
    context: click.Context,
    options: Options,
    file: str | None,
    check: bool,
    listen: Address | None,
    labels: Mapping[str, str],
    timeout: float | None,
    log_format: logs.Format | None,
    verbose: bool,
    doorbell: bool | None,
    doorbell_url: str | None,
) -> None:
    """Run all loops of an installation in one process: the sidecar. Its file says which.

    With a command, look after runs instead: executions whose messages can be stopped together.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    given = configfile.Given(
        options.database_url, options.schema_name, timeout, log_format, verbose, listen, labels,
        doorbell, doorbell_url,
    )  # fmt: skip
    found = configfile.read(configfile.find(file), given, os.environ)
    if check:
        click.echo(effective.effective(found), nl=False)
        for place, told in lint.warnings(found):
            click.echo(f"tidegate: warning: {found.file}: {place}: {told}", err=True)
        return
    logs.configure(found.log_format, logging.DEBUG if found.verbose else logging.INFO)
    runtime = Runtime(
        found.database, found.schema, found.timeout, "run", found.listen, found.labels,
        found.doorbell,
    )  # fmt: skip
    runtime.run(lambda stop: sidecar.run(found, runtime, stop))


def _refuse_options(context: click.Context) -> None:
    """What is said before the name of a command would be for the sidecar."""
    for parameter in context.command.params:
        if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} stands before {context.invoked_subcommand}:"
                " write it behind, or leave the command out to start the sidecar"
            )


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


@command.command("list")
@click.option(
    "--state",
    type=click.Choice([*_STATES, "any"]),
    default="open",
    show_default=True,
    help="Only these.",
)
@click.option("--after", metavar="RUN_ID", help="The page that follows this run.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="At most so many.",
)
@console_of_runs
def list_command(console: Console, state: str, after: str | None, limit: int) -> None:
    """List runs, what was opened last on top. What waits of one, status tells."""
    arguments = {"state": None if state == "any" else state, "limit": limit, "after": after}
    if console.as_json:
        click.echo(console.json(calls.RUN_LIST, arguments))
        return
    console.table(
        ("run", "state", "opened", "ended", "parent", "tenant", "reason"),
        (
            (
                row.run_id, row.state, when(row.opened_at), when(row.finished_at), row.parent_id,
                row.tenant, row.reason,
            )
            for row in console.rows(calls.RUN_LIST, arguments)
        ),
    )  # fmt: skip


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
