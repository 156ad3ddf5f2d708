"""`tidegate guard`: let one of many scripts do a thing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from pyshim import calls
from pyshim.console import Console, InputError, console_options

console_of_guards = console_options("guard")


def _of_a_guard(command: Callable[..., None]) -> Callable[..., None]:
    """SCOPE, KEY and --owner."""
    command = click.option("--owner", required=True, help="Who you are: the same in every call.")(
        command
    )
    command = click.argument("key")(command)
    return click.argument("scope")(command)


lease_option = click.option(
    "--lease",
    metavar="INTERVAL",
    default="5 minutes",
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
    """Win the right to do KEY of SCOPE. Exits 1 if it is held, done, or not to be done.

    tidegate guard claim invoice 4711 --owner "$HOSTNAME" && make-invoice 4711
    """
    console.outcomes(calls.GUARD_CLAIM, arguments, good={"won"})


@command.command("renew")
@_of_a_guard
@lease_option
@console_of_guards
def renew_command(console: Console, **arguments: Any) -> None:
    """Keep KEY of SCOPE. Exits 1 if it is not yours any more."""
    console.outcomes(calls.GUARD_RENEW, arguments, good={"renewed"})


@command.command("finish")
@_of_a_guard
@click.option("--result", metavar="JSON", help="Told to whoever comes later.")
@console_of_guards
def finish_command(console: Console, result: str | None, **arguments: Any) -> None:
    """Say that KEY of SCOPE is done. Exits 1 if it was not yours."""
    try:
        json.loads(result or "null")
    except ValueError:
        raise InputError(
            f"--result {result!r} is no JSON", hint="""for a text, write '"text"'"""
        ) from None
    console.outcomes(calls.GUARD_FINISH, {**arguments, "result": result}, good={"done"})


@command.command("release")
@_of_a_guard
@console_of_guards
def release_command(console: Console, **arguments: Any) -> None:
    """Give KEY of SCOPE back undone, so that the next claim wins. Exits 1 if it was not yours."""
    console.outcomes(calls.GUARD_RELEASE, arguments, good={"released"})
