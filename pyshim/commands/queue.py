"""`tidegate queue`: make queues, send to them, look into them, stop and empty them."""

from __future__ import annotations

import io
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import click

from pyshim import calls
from pyshim.client import Client, Sent
from pyshim.console import (
    Console,
    InputError,
    age,
    checked_json,
    coming,
    confirm,
    console_options,
    due,
    parsed_json,
    same_command,
)
from pyshim.errors import ChannelInUse
from pyshim.prepared import AsyncConnection

CHUNK = 1000  # lines in one call; all calls of a send are one transaction

console_of_queues = console_options("queue")


@click.group("queue")
def command() -> None:
    """Make queues, send to them, look into them, stop and empty them."""


@command.command("list")
@console_of_queues
def list_command(console: Console) -> None:
    """Show every queue: what stands where, and since when."""
    everything = {"queue": None}
    if console.as_json:
        click.echo(console.json(calls.QUEUE_LIST, everything))
        return
    rows = console.rows(calls.QUEUE_LIST_TEXT, everything)
    if not rows:
        click.echo("no queues: tidegate queue create NAME makes one")
        return
    console.table(
        ("queue", "ready", "scheduled", "blocked", "leased", "oldest", "next due", "state"),
        (
            (
                row.name,
                row.ready,
                row.scheduled,
                row.blocked,
                row.leased,
                age(row.oldest_ready_at),
                due(row.due_since),
                " ".join(["paused"] * row.is_paused + ["draining"] * row.is_draining),
            )
            for row in rows
        ),
    )


@command.command("create")
@click.argument("queue")
@click.argument("policy", nargs=-1, metavar="[KEY=VALUE]...")
@console_of_queues
def create_command(console: Console, queue: str, policy: tuple[str, ...]) -> None:
    """Make QUEUE, or change the policy of one that is there.

    tidegate queue create emails lease=2min max_attempts=8 max_in_flight=20
    """
    _configure(console, calls.QUEUE_CREATE, queue, policy)


@command.command("configure")
@click.argument("queue")
@click.argument("policy", nargs=-1, required=True, metavar="KEY=VALUE...")
@console_of_queues
def configure_command(console: Console, queue: str, policy: tuple[str, ...]) -> None:
    """Change the policy of QUEUE.

    Keys that are not named stay as they are. A value is JSON where it can be read as such
    (max_in_flight=null), else text (lease=2min).
    """
    _configure(console, calls.QUEUE_CONFIGURE, queue, policy)


def _configure(console: Console, statement: str, queue: str, policy: Iterable[str]) -> None:
    changes = _policy(policy)
    console.rows(statement, {"queue": queue, "policy": json.dumps(changes)})
    shown = ", ".join(f"{key} {json.dumps(value)}" for key, value in changes.items())
    console.say(f"queue {queue} is set up{': ' if shown else ''}{shown}", queue=queue, **changes)


def _policy(words: Iterable[str]) -> dict[str, Any]:
    policy: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (equals and key) or key in policy:
            why = "named twice" if key in policy else "no KEY=VALUE"
            raise InputError(
                f"{word!r} is {why}", hint="write a policy as lease=2min max_attempts=8"
            )
        try:
            policy[key] = parsed_json(value)
        except ValueError:
            policy[key] = value
    return policy


def _verb(name: str, statement: str, told: str, help_text: str) -> None:
    """A command that names a queue and does one thing to it."""

    @command.command(name, help=help_text)
    @click.argument("queue")
    @console_of_queues
    def verb(console: Console, queue: str) -> None:
        console.rows(statement, {"queue": queue})
        console.say(told.format(queue), queue=queue, did=name)


_verb(
    "pause",
    calls.QUEUE_PAUSE,
    "queue {} is paused: it takes messages and hands none out",
    "Hand out nothing of QUEUE. What comes in is kept, and leases run on.",
)
_verb(
    "resume",
    calls.QUEUE_RESUME,
    "queue {} runs: neither paused nor draining",
    "End a pause or a drain of QUEUE.",
)
_verb(
    "drain",
    calls.QUEUE_DRAIN,
    "queue {} drains: it hands out what is there and refuses sends",
    "Refuse sends to QUEUE, and let workers finish what is there.",
)


@command.command("purge")
@click.argument("queue")
@click.option(
    "--to",
    type=click.Choice(["dead_letter", "discard"]),
    default="dead_letter",
    show_default=True,
    help="Where the messages go: dead_letter keeps them, discard does not.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@console_of_queues
def purge_command(console: Console, queue: str, to: str, yes: bool) -> None:
    """Take everything that waits out of QUEUE. What workers hold stays with them."""
    where = "keep it as dead letters" if to == "dead_letter" else "throw it away"
    confirm(yes, lambda: f"Take {_waiting(console, queue)} out of queue {queue}, and {where}?")
    purged = console.rows(calls.QUEUE_PURGE, {"queue": queue, "to": to})[0].purged
    console.say(
        f"{purged} messages of queue {queue} "
        + ("are dead letters now" if to == "dead_letter" else "are gone"),
        queue=queue,
        purged=purged,
        to=to,
    )


@command.command("drop")
@click.argument("queue")
@click.option(
    "--to",
    type=click.Choice(["dead_letter", "discard"]),
    help="Purge it first, to there [default: refuse while anything is there].",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@console_of_queues
def drop_command(console: Console, queue: str, to: str | None, yes: bool) -> None:
    """Drop QUEUE. Dead letters and archived messages stay."""
    confirm(yes, lambda: f"Drop queue {queue}, with {_waiting(console, queue)} in it?")
    try:
        console.rows(calls.QUEUE_DROP, {"queue": queue, "to": to})
    except ChannelInUse as error:
        if to is None and error.hint and "p_to" in error.hint:
            error.hint = (
                "let workers finish them, or say where those that wait go:"
                f" {same_command(to='dead_letter')} keeps them, --to discard does not"
            )
        raise
    console.say(f"queue {queue} is dropped", queue=queue, did="drop")


def _waiting(console: Console, queue: str) -> str:
    """How much stands in the queue, for a question."""
    rows = console.rows(calls.QUEUE_LIST, {"queue": queue})
    count = sum(row.ready + row.scheduled + row.blocked for row in rows)
    return f"{count} messages"


@command.command("send")
@click.argument("queue")
@click.argument("payload", required=False)
@click.option("--lines", is_flag=True, help="Standard input holds a message a line (JSON Lines).")
@click.option("--header", multiple=True, metavar="NAME=TEXT", help="Travels along; repeatable.")
@click.option(
    "--run-at", metavar="WHEN", help="Not before then: 15min, 2h, 7d from now, or ISO 8601."
)
@click.option("--priority", type=int, help="0 goes first, 9 last [default: 0].")
@click.option("--group-key", help="One at a time and in order, within the group.")
@click.option("--job-key", help="At most one message of this key is alive.")
@click.option(
    "--key-mode",
    type=click.Choice(["replace", "preserve_run_at", "dedupe"]),
    help="What becomes of a message of the same job key [default: replace].",
)
@click.option("--idempotency-key", help="The same key again sends nothing; of a line, KEY:LINE.")
@click.option("--run-id", help="The business run that it belongs to.")
@click.option("--tenant", help="Whose message it is.")
@click.option("--max-attempts", type=int, help="Instead of the queue's; 0 is for ever.")
@console_of_queues
def send_command(
    console: Console,
    queue: str,
    payload: str | None,
    lines: bool,
    header: tuple[str, ...],
    run_at: str | None,
    **options: Any,
) -> None:
    """Send PAYLOAD, a JSON value, to QUEUE. Without it, or for -, standard input is read.

    \b
    tidegate queue send emails '{"to": "a@example.org"}'
    tidegate queue send emails --lines < messages.jsonl

    All lines are one transaction: a line that is no JSON is named, and nothing was sent.
    """
    if lines and options["job_key"] is not None:
        raise InputError(
            "--job-key with --lines would leave one message of them all",
            hint="send lines without it, or one message",
        )
    options |= {"headers": _headers(header), "run_at": coming("--run-at", run_at)}
    given = {name: value for name, value in options.items() if value is not None}
    texts = _texts(payload, lines)
    if not lines:
        sent = _send(console, queue, next(texts)[1], given)
        console.say(f"message {sent.message_id} {sent.outcome}", **sent._asdict())
        return
    counts = Counter(one.outcome for one in _send_lines(console, queue, texts, given))
    total = sum(counts.values())
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    console.say(f"{total} messages{': ' if told else ''}{told}", sent=total, **counts)


class Written(str):
    """JSON as somebody wrote it: it is sent like that, so that no number goes through Python."""


def _texts(payload: str | None, lines: bool) -> Iterator[tuple[int, Written]]:
    """The payloads, numbered by line."""
    if payload not in (None, "-"):
        if lines:
            raise InputError("--lines reads standard input", hint="leave PAYLOAD out")
        yield 1, _checked("PAYLOAD", str(payload))
        return
    if payload is None and sys.stdin.isatty():
        raise InputError(
            "there is no payload", hint="give it as an argument, or send it to standard input"
        )
    stdin = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig")
    try:
        if not lines:
            yield 1, _checked("standard input", stdin.read())
            return
        for number, line in enumerate(stdin, 1):
            if line.strip():
                yield number, _checked(f"line {number}", line)
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8: {error.reason}") from None


def _checked(name: str, text: str) -> Written:
    hint = """nothing was sent; in a shell write '{"to": "a@example.org"}', '"text"' or 7"""
    return Written(checked_json(name, text, hint))


def _headers(words: Iterable[str]) -> dict[str, str] | None:
    headers: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (equals and name):
            raise InputError(f"--header is {word!r}", hint="write --header NAME=TEXT")
        headers[name] = value
    return headers or None


def _client(console: Console) -> Client:
    return Client(
        console.runtime.schema,
        dumps=lambda value: value if isinstance(value, Written) else json.dumps(value),
    )


def _send(console: Console, queue: str, text: Written, options: dict[str, Any]) -> Sent:
    client = _client(console)
    return console.transaction(lambda connection: client.send(connection, queue, text, **options))


def _send_lines(
    console: Console, queue: str, texts: Iterator[tuple[int, Written]], options: dict[str, Any]
) -> list[Sent]:
    """Send all of them in one transaction."""
    client = _client(console)
    key = options.pop("idempotency_key", None)

    async def work(connection: AsyncConnection) -> list[Sent]:
        sent: list[Sent] = []
        while chunk := list(itertools.islice(texts, CHUNK)):
            if key is None:
                payloads = [text for _, text in chunk]
                sent += await client.send_many(connection, queue, payloads, **options)
            else:
                specs = [
                    {"payload": text, "idempotency_key": f"{key}:{number}", **options}
                    for number, text in chunk
                ]
                sent += await client.send_specs(connection, queue, specs)
        return sent

    return console.transaction(work)


@command.command("peek")
@click.argument("queue")
@click.option("--limit", default=10, show_default=True, help="How many messages.")
@click.option(
    "--place",
    type=click.Choice(["ready", "scheduled", "blocked", "lease"]),
    default="ready",
    show_default=True,
    help="ready is next; scheduled has a future; blocked waits for its group; lease is out.",
)
@console_of_queues
def peek_command(console: Console, queue: str, limit: int, place: str) -> None:
    """Look at messages of QUEUE without taking them."""
    arguments = {"queue": queue, "limit": limit, "place": place}
    if console.as_json:
        click.echo(console.json(calls.QUEUE_PEEK, arguments))
        return
    rows = console.rows(calls.QUEUE_PEEK_TEXT, arguments)
    if not rows:
        click.echo(f"nothing is {'leased' if place == 'lease' else place} in queue {queue}")
        return
    console.table(
        ("message", "priority", "attempts", "age", "group", "job key", "tenant", "payload"),
        (
            (
                row.message_id,
                row.priority,
                row.attempts,
                age(row.enqueued_at),
                row.group_key,
                row.job_key,
                row.tenant,
                row.payload,
            )
            for row in rows
        ),
    )


@command.command("cancel")
@click.argument("queue")
@click.argument("message_ids", nargs=-1, type=int, metavar="[MESSAGE_ID]...")
@click.option("--job-key", help="The message of this job key.")
@console_of_queues
def cancel_command(
    console: Console, queue: str, message_ids: tuple[int, ...], job_key: str | None
) -> None:
    """Cancel messages of QUEUE: by number, or by job key.

    A message that waits is taken out, and kept as a discarded dead letter; a worker that holds it
    is told at its next extension. Exits 1 if a message is unknown: done already, or never sent.
    """
    if bool(message_ids) == (job_key is not None):
        raise InputError(
            "nothing says what to cancel" if job_key is None else "two things say what to cancel",
            hint="name messages by number, or one by --job-key",
        )
    arguments = {"queue": queue, "message_ids": list(message_ids) or None, "job_key": job_key}
    console.outcomes(calls.QUEUE_CANCEL, arguments, good={"cancelled", "leased"})
