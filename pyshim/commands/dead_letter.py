"""`tidegate dead-letter`: see what failed for good, send it back, or give it up."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import click

from pyshim import calls
from pyshim.console import (
    Console,
    InputError,
    age,
    confirm,
    console_options,
    instant,
    printable,
    same_command,
)
from pyshim.errors import TidegateError
from pyshim.session import Session

BATCH = 10_000

console_of_dead_letters = console_options("dead-letter")


def filters(command: Callable[..., None]) -> Callable[..., None]:
    """The filters of a list, passed on as `filters: dict`; None where one was not given."""

    @click.option("--channel", metavar="NAME", help="Of this queue or topic.")
    @click.option("--reason", help="Died of this: exhausted, not_retryable, malformed, …")
    @click.option("--tenant", help="Of this tenant.")
    @click.option("--run-id", help="Of this run.")
    @click.option("--since", metavar="WHEN", help="Died then or later: 15min, 2h, 7d, or ISO 8601.")
    @click.option("--until", metavar="WHEN", help="Died before then.")
    @functools.wraps(command)
    def wrapper(
        channel: str | None,
        reason: str | None,
        tenant: str | None,
        run_id: str | None,
        since: str | None,
        until: str | None,
        **rest: Any,
    ) -> None:
        chosen = {
            "channel": channel,
            "reason": reason,
            "tenant": tenant,
            "run_id": run_id,
            "since": instant("--since", since),
            "until": instant("--until", until),
        }
        command(filters=chosen, **rest)

    return wrapper


@click.group("dead-letter")
def command() -> None:
    """See what failed for good, send it back, or give it up."""


@command.command("list")
@filters
@click.option(
    "--state",
    type=click.Choice(["dead", "requeued", "resolved", "discarded", "any"]),
    default="dead",
    show_default=True,
    help="dead waits for somebody; requeued is on its way; resolved went well; discarded was given"
    " up.",
)
@click.option(
    "--limit", type=click.IntRange(1, 9999), default=50, show_default=True, help="Of one page."
)
@click.option("--after", type=int, metavar="ID", help="The page after this entry.")
@click.option("--after-at", metavar="WHEN", help="When that entry died, should it be gone.")
@console_of_dead_letters
def list_command(
    console: Console,
    filters: dict[str, Any],
    state: str,
    limit: int,
    after: int | None,
    after_at: str | None,
) -> None:
    """Show dead letters, newest death first, and how many there are."""
    arguments = {
        **filters,
        "state": None if state == "any" else state,
        "after": after,
        "after_at": instant("--after-at", after_at),
        "limit": limit + 1,  # one more, to know whether there is a next page
    }

    async def look(session: Session) -> tuple[list[Any], int]:
        if console.as_json:
            written = await session.one(calls.as_json(calls.DEAD_LETTER_LIST), arguments)
            rows = json.loads(written.json)
        else:
            rows = await session.call(calls.DEAD_LETTER_LIST, arguments)
        return rows, (await session.one(calls.DEAD_LETTER_COUNT, arguments)).total

    rows, total = console.run(look)
    has_more, rows = len(rows) > limit, rows[:limit]
    if console.as_json:
        last = rows[-1] if has_more else None
        following = last and {"after": last["dead_letter_id"], "after_at": last["dead_at"]}
        click.echo(json.dumps({"total": total, "next": following, "entries": rows}))
        return
    if not rows:
        what = "dead letters" if state in ("any", "dead") else f"{state} dead letters"
        click.echo(f"no {what}" if not total else f"no more of the {total} {what}")
        return
    states = ["state"] if state == "any" else []
    console.table(
        (
            "id",
            "died",
            *states,
            "of",
            "reason",
            "attempts",
            "landed",
            "tenant",
            "error",
        ),
        (
            (
                row.dead_letter_id,
                age(row.dead_at),
                *[row.state for _ in states],
                f"{row.kind} {row.channel}",
                row.reason,
                row.attempts,
                row.failure_count,
                row.tenant,
                row.last_error,
            )
            for row in rows
        ),
    )
    click.echo(f"{len(rows)} of {total}")
    if has_more:
        last = rows[-1]
        following = same_command(after=last.dead_letter_id, after_at=last.dead_at.isoformat())
        click.echo(f"next page: {following}")


@command.command("show")
@click.argument("dead_letter_id", type=int)
@console_of_dead_letters
def show_command(console: Console, dead_letter_id: int) -> None:
    """Show one dead letter: its payload, what each attempt met, who did what."""
    wanted = {"id": dead_letter_id}

    async def look(session: Session) -> tuple[Any, list[Any]]:
        if console.as_json:
            written = await session.one(calls.as_json(calls.DEAD_LETTER_PEEK), wanted)
            return written.json, []
        rows = await session.call(calls.DEAD_LETTER_PEEK_TEXT, wanted)
        return rows, await session.call(calls.DEAD_LETTER_HISTORY, wanted) if rows else []

    found, history = console.run(look)
    if found in ("[]", []):
        raise TidegateError(
            f"there is no dead letter {dead_letter_id}",
            hint="tidegate dead-letter list --state any shows those there are",
        )
    if console.as_json:
        click.echo(found.strip()[1:-1])
        return
    entry = found[0]
    facts = {
        "state": entry.state,
        "died": f"{entry.dead_at} ({age(entry.dead_at)} ago)",
        "of": f"{entry.kind} {entry.channel}",
        "reason": entry.reason,
        "error": entry.last_error,
        "attempts": entry.attempts,
        "landed": f"{entry.failure_count} times" if entry.failure_count > 1 else None,
        "requeued": f"{entry.requeued_count} times" if entry.requeued_count else None,
        "message": entry.message_id,
        "event": entry.event_id,
        "sent": entry.enqueued_at,
        "topic": entry.topic,
        "priority": entry.priority or None,
        "group": entry.group_key,
        "job key": entry.job_key,
        "run": entry.run_id,
        "tenant": entry.tenant,
        "headers": None if entry.headers is None else json.dumps(entry.headers, ensure_ascii=False),
        "payload": entry.payload_text,
    }
    click.echo(f"dead letter {entry.dead_letter_id}")
    for name, value in facts.items():
        if value is not None:
            click.echo(f"  {name:<9} {printable(str(value))}")
    for attempt in history:
        click.echo(f"  attempt {attempt.attempt} at {attempt.at}: {printable(attempt.error or '')}")
    for note in entry.notes:
        said = f": {note['note']}" if note.get("note") else ""
        click.echo(f"  {note.get('did')} at {note.get('at')} by {note.get('by')}{printable(said)}")


@command.command("requeue")
@click.argument("dead_letter_ids", nargs=-1, type=int, metavar="[ID]...")
@filters
@click.option("--all", "everything", is_flag=True, help="All that are dead.")
@click.option("--limit", default=BATCH, show_default=True, help="At most so many of those found.")
@click.option("--per-second", type=float, metavar="N", help="Spread those found at this pace.")
@click.option("--dry-run", is_flag=True, help="Say how many would go back, and change nothing.")
@click.option("--keep-attempts", is_flag=True, help="Do not start again at 0 attempts.")
@click.option("--note", metavar="TEXT", help="Kept with the entry.")
@console_of_dead_letters
def requeue_command(
    console: Console,
    dead_letter_ids: tuple[int, ...],
    filters: dict[str, Any],
    everything: bool,
    limit: int,
    per_second: float | None,
    dry_run: bool,
    keep_attempts: bool,
    note: str | None,
) -> None:
    """Send dead letters back to where they died.

    \b
    tidegate dead-letter requeue 17 18 --note "smtp is back"
    tidegate dead-letter requeue --channel emails --since 2h --dry-run
    tidegate dead-letter requeue --all --per-second 50

    Name them by ID, by filters, or all. By ID it prints what became of each, and exits 1 if one is
    not on its way: unknown, discarded, its channel dropped, or its job key in use.
    """
    by_id = _by_id(dead_letter_ids, filters, everything)
    how: dict[str, Any] = {"reset_attempts": not keep_attempts, "note": note}
    if by_id:
        if dry_run or per_second is not None:
            raise InputError("--dry-run and --per-second are for what filters find")
        good = {"requeued", "already_requeued", "already_resolved"}
        arguments = {"ids": list(dead_letter_ids), **how}
        console.outcomes(calls.DEAD_LETTER_REQUEUE, arguments, good=good)
        return
    arguments = {**filters, **how, "limit": limit, "per_second": per_second, "dry_run": dry_run}
    if console.as_json:
        click.echo(console.json(calls.DEAD_LETTER_REQUEUE_MATCHING, arguments).strip()[1:-1])
        return
    done = console.rows(calls.DEAD_LETTER_REQUEUE_MATCHING, arguments)[0]
    told = f"{done.requeued} {'would be ' if dry_run else ''}requeued"
    if per_second is not None and done.requeued:
        told += f", the last of them due at {done.last_due_at:%Y-%m-%d %H:%M:%S%z}"
    click.echo(told)
    for count, why in (
        (done.key_in_use, "a message with their job key is alive"),
        (done.no_channel, "their queue or topic was dropped"),
        (done.busy, "somebody else is at them"),
    ):
        if count:
            click.echo(f"{count} stay: {why}")
    _say_more(done.requeued, limit)


@command.command("discard")
@click.argument("dead_letter_ids", nargs=-1, type=int, metavar="[ID]...")
@filters
@click.option("--all", "everything", is_flag=True, help="All that are dead.")
@click.option("--limit", default=BATCH, show_default=True, help="At most so many of those found.")
@click.option("--dry-run", is_flag=True, help="Say how many would be discarded; change nothing.")
@click.option("--note", metavar="TEXT", required=True, help="Why; kept with the entry.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@console_of_dead_letters
def discard_command(
    console: Console,
    dead_letter_ids: tuple[int, ...],
    filters: dict[str, Any],
    everything: bool,
    limit: int,
    dry_run: bool,
    note: str,
    yes: bool,
) -> None:
    """Give up dead letters; cleanup removes them after their retention.

    Name them by ID, by filters, or all. By ID it prints what became of each, and exits 1 if one was
    not dead.
    """
    if _by_id(dead_letter_ids, filters, everything):
        if dry_run:
            raise InputError("--dry-run is for what filters find")
        confirm(yes, lambda: f"Discard {len(dead_letter_ids)} dead letters?")
        good = {"discarded", "already_discarded"}
        arguments: dict[str, Any] = {"ids": list(dead_letter_ids), "note": note}
        console.outcomes(calls.DEAD_LETTER_DISCARD, arguments, good=good)
        return

    def discard(dry_run: bool) -> int:
        arguments = {**filters, "note": note, "limit": limit, "dry_run": dry_run}
        return int(console.rows(calls.DEAD_LETTER_DISCARD_MATCHING, arguments)[0].discarded)

    if not dry_run:
        confirm(yes, lambda: f"Discard {discard(True)} dead letters?")
    count = discard(dry_run)
    console.say(f"{count} {'would be ' if dry_run else ''}discarded", discarded=count)
    if not console.as_json:
        _say_more(count, limit)


@command.command("stats")
@console_of_dead_letters
def stats_command(console: Console) -> None:
    """Count dead letters: by reason, by channel, by error."""
    if console.as_json:
        click.echo(console.json(calls.DEAD_LETTER_STATS, {}))
        return
    console.table(
        ("by", "name", "dead", "since", "requeued", "resolved", "discarded", "requeues"),
        (
            (
                row.facet,
                row.name,
                row.dead,
                age(row.dead_since),
                row.requeued,
                row.resolved,
                row.discarded,
                row.requeues,
            )
            for row in console.rows(calls.DEAD_LETTER_STATS, {})
        ),
    )


def _by_id(ids: tuple[int, ...], filters: dict[str, Any], everything: bool) -> bool:
    """Whether ids were named; exactly one way must be: ids, filters or --all."""
    filtered = any(value is not None for value in filters.values())
    ways = [bool(ids), filtered, everything]
    if sum(ways) != 1:
        raise InputError(
            "nothing says which dead letters" if not any(ways) else "too much says which",
            hint="name them by ID, or by filters, or say --all",
        )
    return bool(ids)


def _say_more(count: int, limit: int) -> None:
    if count == limit:
        click.echo(f"there may be more than the {limit} of --limit: run it again")
