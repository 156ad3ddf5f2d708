"""The command `tidegate`: what installs and looks; errors as one clear line; exit codes.

The commands that run loops stand in `pyshim.commands`.
"""

from __future__ import annotations

import json
import sys

import click
import psycopg

from pyshim import __version__, assets, config, errors, migrate, render
from pyshim.commands import (
    barrier,
    dead_letter,
    demo,
    doctor,
    guard,
    maintain,
    queue,
    recover,
    relay,
    run,
    sweep,
    top,
    work,
)
from pyshim.options import Options, shared_options

EXIT_CODES = """Exit codes: 0 done, also for a loop that was told to stop; 1 failed, or (status) not
in step, or (demo) it does not add up, or one of the messages named came to nothing; 2 called
wrongly: unknown option, unusable setting or input, no database named, nobody there to say yes; 3
(guard) answered, but not won or not yours; 130 interrupted."""

SECTIONS = {
    "Schema": ("migrate", "rollback", "render", "status"),
    "Loops": ("run", "sweep", "relay", "work", "maintain"),
    "Health": ("doctor", "top"),
    "By hand": ("queue", "dead-letter", "barrier", "guard", "recover"),
    "To begin with": ("demo",),
}


class Sections(click.Group):
    """Commands listed by what they are for."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a table for each section."""
        widest = max(map(len, self.commands))
        for title, names in SECTIONS.items():
            with formatter.section(title):
                room = formatter.width - widest - 6
                helps = [self.commands[name].get_short_help_str(room) for name in names]
                padded = [name.ljust(widest) for name in names]
                formatter.write_dl(list(zip(padded, helps, strict=True)))


@click.group(
    cls=Sections,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="tidegate")
def cli() -> None:
    """Reliable work in PostgreSQL: install the schema, run the loops, look after the queues."""


@cli.command("migrate")
@click.option("--to", type=click.IntRange(min=1), metavar="N", help="Stop at migration N.")
@click.option(
    "--roles",
    is_flag=True,
    help="Also create and grant <schema>_producer, _worker, _operator, _monitor. Said once, kept.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@shared_options
def migrate_command(options: Options, to: int | None, roles: bool, dry_run: bool) -> None:
    """Install or upgrade the schema, in one transaction. May be repeated at any time."""
    schema = options.schema(roles=roles)
    report = options.with_connection(
        lambda connection: migrate.apply(connection, schema, to=to, roles=roles, dry_run=dry_run)
    )
    for name in report.migrations:
        click.echo(f"{'would apply' if dry_run else 'applied'} {name}")
    would = "would install" if dry_run else "installed"
    if report.added and len(report.added) == report.routines:
        click.echo(f"{would} {report.routines} routines")
    else:
        for name in report.added:
            click.echo(f"{would} {name}")
    for name in report.changed:
        click.echo(f"{'would replace' if dry_run else 'replaced'} {name}")
    would = "would be" if dry_run else "is"
    click.echo(
        f"schema {report.schema} {would} at migration {report.newest:04d}"
        + (f" with {report.routines} routines of {__version__}" if report.routines else "")
    )


@cli.command("rollback")
@click.option("--to", type=click.IntRange(min=0), metavar="N", help="Go back to migration N.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@shared_options
def rollback_command(options: Options, to: int | None, dry_run: bool) -> None:
    """Undo the newest migration, or all above N. Refuses while rows would be lost."""
    schema = options.schema()
    report = options.with_connection(
        lambda connection: migrate.rollback(connection, schema, to=to, dry_run=dry_run)
    )
    for name in report.migrations:
        click.echo(f"{'would undo' if dry_run else 'undid'} {name}")
    would = "would be" if dry_run else "is"
    if report.newest == 0:
        click.echo(f"schema {schema} {would} without Tidegate")
    elif report.migrations:
        click.echo(
            f"schema {schema} {would} at migration {report.newest:04d}, without routines:"
            " run the migrate of the release that you go back to"
        )
    else:
        click.echo(f"schema {schema} is at migration {report.newest:04d} already")


@cli.command("render")
@click.option("--from", "after", default=0, metavar="N", help="Upgrade from migration N.")
@click.option("--roles", is_flag=True, help="With the roles and their grants.")
@shared_options
def render_command(options: Options, after: int, roles: bool) -> None:
    """Print one self-contained SQL file. Apply it with psql -1 -f; it needs no Python."""
    click.echo(render.render(options.schema(roles=roles), after=after, roles=roles), nl=False)


@cli.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@shared_options
def status_command(options: Options, as_json: bool) -> None:
    """Show what is installed, and name what differs from this release. Exits 1 if anything does."""
    schema = options.schema()
    status = options.with_connection(lambda connection: migrate.status(connection, schema))
    if as_json:
        click.echo(
            json.dumps(
                {
                    "schema": status.schema,
                    "driver": __version__,
                    "installed": [
                        {
                            "migration": entry.name,
                            "version": entry.version,
                            "applied_at": entry.applied_at.isoformat(),
                        }
                        for entry in status.installed
                    ],
                    "pending": status.pending,
                    "unknown": status.unknown,
                    "changed": status.changed,
                    "drift": [{"routine": name, "drift": why} for name, why in status.drift],
                }
            )
        )
    else:
        click.echo(f"schema {status.schema}, tidegate {__version__}")
        for entry in status.installed:
            remark = ""
            if entry.name in status.changed:
                remark = "  CHANGED since it was applied"
            elif entry.name in status.unknown:
                remark = "  UNKNOWN to this release"
            when = entry.applied_at.isoformat(sep=" ", timespec="seconds")
            click.echo(f"  {entry.name}  {entry.version}  {when}{remark}")
        for name in status.pending:
            click.echo(f"  {name}  PENDING")
        for line in _drift_lines(status):
            click.echo(f"  {line}")
        if status.in_step:
            click.echo("in step")
        elif status.only_foreign:
            click.echo("not in step: migrate leaves alone what is not part of Tidegate")
        else:
            click.echo("not in step: see tidegate migrate --dry-run")
    if not status.in_step:
        raise SystemExit(1)


def _drift_lines(status: migrate.Status) -> list[str]:
    """A line for each routine that differs; one for all where none is installed."""
    missing = sum(why == migrate.NOT_INSTALLED for _, why in status.drift)
    fold = missing == len(assets.routines())
    lines = [f"{missing} routines not installed"] if fold else []
    for name, why in status.drift:
        if why == migrate.FOREIGN:
            lines.append(f"{name}: {why}: drop it, or move it to another schema")
        elif why != migrate.NOT_INSTALLED or not fold:
            lines.append(f"{name}: {why}")
    return lines


for module in (
    barrier,
    dead_letter,
    demo,
    doctor,
    guard,
    maintain,
    queue,
    recover,
    relay,
    run,
    sweep,
    top,
    work,
):
    cli.add_command(module.command)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: expected errors become one line on standard error with the next step."""
    try:
        cli(args=arguments, prog_name="tidegate")
    except errors.Mistakes as several:
        for error in several.mistakes:
            _complain(error)
        raise SystemExit(2) from None
    except errors.ConfigError as error:
        _complain(error)
        raise SystemExit(2) from None
    except errors.TidegateError as error:
        _complain(error)
        raise SystemExit(1) from None
    except psycopg.Error as error:
        _complain(errors.from_database(error) or _foreign(error))
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _foreign(error: psycopg.Error) -> errors.TidegateError:
    """A database error that is not ours, as one line."""
    message = config.redact(error.diag.message_primary or " ".join(str(error).split()))
    state = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
    return errors.TidegateError(f"database: {message}{state}", hint=error.diag.message_hint)


def _complain(error: errors.TidegateError) -> None:
    state = f" [{error.sqlstate}]" if error.sqlstate else ""
    click.echo(f"tidegate: {error.message}{state}", err=True)
    if error.detail:
        click.echo(f"  detail: {error.detail}", err=True)
    if error.hint:
        click.echo(f"  hint: {error.hint}", err=True)


if __name__ == "__main__":
    main(sys.argv[1:])
