"""`tidegate guard`: let one of many scripts do a thing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click

from pyshim import calls
from pyshim.console import Console, InputError, checked_json, console_options
from pyshim.runtime import seconds

NOT_YOURS = 3  # the exit code of an answer that is no; 1 is none at all

console_of_guards = console_options("guard")


def _named(_: click.Context, parameter: click.Parameter, value: str) -> str:
    """Callback: empty would be a guard, or an owner, that all scripts share."""
    if not value:
        raise InputError(f"{parameter.opts[0]} is empty", hint="is a variable unset?")
    return value


def _lease(context: click.Context, option: click.Parameter, value: str) -> timedelta:
    """Callback: a duration as an interval; how long it may be is the server's to say."""
    try:
        return timedelta(seconds=seconds(context, option, value) or 0)
    except OverflowError:
        raise InputError(f"{option.opts[0]} is {value!r}", hint="write less, such as 12h") from None


def _of_a_guard(command: Callable[..., None]) -> Callable[..., None]:
    """SCOPE, KEY and --owner."""
    command = click.option(
        "--owner", required=True, callback=_named, help="Who you are: the same in every call."
    )(command)
    command = click.argument("key", callback=_named)(command)
    return click.argument("scope", callback=_named)(command)


lease_option = click.option(
    "--lease",
    metavar="DURATION",
    callback=_lease,
    default="5min",
    show_default=True,
    help="How long it is held, unless renewed.",
)


@click.group("guard")
def command() -> None:
    """Let one of many scripts do a thing, and tell the others that it was done."""


@command.command("claim")
@_of_a_guard
@lease_option
@click.option("--run-id", help="Nothing is done for a run that has ended.")
@console_of_guards
def claim_command(console: Console, **arguments: Any) -> None:
    """Win the right to do KEY of SCOPE. Exits 3 if it is held, done, or not to be done.

    \b
    tidegate guard claim invoice 4711 --owner "$(hostname):$$" || exit
    if make-invoice 4711
    then tidegate guard finish invoice 4711 --owner "$(hostname):$$"
    else tidegate guard release invoice 4711 --owner "$(hostname):$$"; exit 1
    fi

    The same owner wins again, so an owner is one process, not a host. Work that outlasts the lease
    renews it, or another may win.
    """
    statement = calls.GUARD_CLAIM if console.as_json else calls.GUARD_CLAIM_TEXT
    console.outcomes(statement, arguments, good={"won"}, code=NOT_YOURS)


@command.command("renew")
@_of_a_guard
@lease_option
@console_of_guards
def renew_command(console: Console, **arguments: Any) -> None:
    """Keep KEY of SCOPE. Exits 3 if it is not yours any more."""
    console.outcomes(calls.GUARD_RENEW, arguments, good={"renewed"}, code=NOT_YOURS)


@command.command("finish")
@_of_a_guard
@click.option("--result", metavar="JSON", help="Told to whoever comes later.")
@console_of_guards
def finish_command(console: Console, result: str | None, **arguments: Any) -> None:
    """Say that KEY of SCOPE is done. Exits 3 if it was not yours."""
    if result is not None:
        checked_json(f"--result {result!r}", result, """for a text, write '"text"'""")
    arguments["result"] = result
    console.outcomes(calls.GUARD_FINISH, arguments, good={"done"}, code=NOT_YOURS)


@command.command("release")
@_of_a_guard
@console_of_guards
def release_command(console: Console, **arguments: Any) -> None:
    """Give KEY of SCOPE back undone, so that the next claim wins. Exits 3 if it was not yours."""
    console.outcomes(calls.GUARD_RELEASE, arguments, good={"released"}, code=NOT_YOURS)
