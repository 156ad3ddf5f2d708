"""What the commands share that look or act once, for people and for scripts: a session, tables,
JSON, questions."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import math
import re
import shlex
import shutil
import sys
import unicodedata
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence, Set
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

import click
import psycopg
from click.core import ParameterSource

from pyshim import calls, config, written
from pyshim.errors import BadArgument, ConfigError, TidegateError
from pyshim.options import Options, shared_options
from pyshim.retry import DeadlineExceeded
from pyshim.runtime import Runtime, seconds
from pyshim.session import Session

T = TypeVar("T")

DEFAULT_TIMEOUT = "30s"
LONGEST_CELL = 200  # of a table; --json has all of it

_NUMBER = re.compile(r"\d+(\.\d)?")
_SPAN = re.compile(r"(\d+)\s*(s|min|h|d)")
_SPAN_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class InputError(ConfigError):
    """What was written on the command line or sent to standard input cannot be read."""


class Console:
    """Calls functions of the installation, and shows what they answer.

    Tables are for people; on a terminal they are cut to its width. With `--json` there is one JSON
    document instead, made of the same rows by the server, so that no number in it has been through
    Python.
    """

    def __init__(self, runtime: Runtime, as_json: bool) -> None:
        self.runtime = runtime
        self.as_json = as_json

    def run(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """What `work` makes of a session, which is closed afterwards."""

        async def main() -> T:
            session = self.runtime.session()
            try:
                return await work(session)
            finally:
                await session.close()

        return self._run(main)

    def _run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            return asyncio.run(main())
        except psycopg.errors.QueryCanceled as error:
            raise TidegateError(
                f"not done within {self.runtime.timeout:g} s, and nothing was changed:"
                f" {error.diag.message_primary}",
                hint="give it longer, such as --timeout 10min; 0 is without limit",
            ) from None
        except DeadlineExceeded as error:
            raise TidegateError(
                str(error), hint="look before you repeat it: the commit may have arrived"
            ) from None

    def transaction(self, work: Callable[[psycopg.AsyncConnection[Any]], Awaitable[T]]) -> T:
        """What `work` makes of a connection, in one transaction."""

        async def main() -> T:
            connection = await self.runtime.connection()
            try:
                async with connection.transaction():
                    await connection.execute(
                        "select set_config('statement_timeout', %s, true)",
                        (str(int(self.runtime.timeout * 1000)),),
                    )
                    return await work(connection)
            finally:
                await connection.close()

        return self._run(main)

    def rows(self, statement: str, arguments: Mapping[str, Any]) -> list[Any]:
        """The rows of one call."""
        return self.run(lambda session: session.call(statement, arguments))

    def json(self, statement: str, arguments: Mapping[str, Any]) -> str:
        """The same rows as a JSON array."""
        return str(self.rows(calls.as_json(statement), arguments)[0].json)

    def outcomes(
        self, statement: str, arguments: Mapping[str, Any], *, good: Set[str], code: int = 1
    ) -> None:
        """Show what became of each thing that was named; exit `code` if any outcome is not good."""
        seen: set[str]
        if self.as_json:
            text = self.json(statement, arguments)
            seen = {row["outcome"] for row in json.loads(text)}
            click.echo(text)
        else:
            rows = self.rows(statement, arguments)
            seen = {row.outcome for row in rows}
            if rows:
                self.table([name.replace("_", " ") for name in rows[0]._fields], rows)
        if not good >= seen:
            raise SystemExit(code)

    def say(self, line: str, **facts: object) -> None:
        """One line for people; with `--json`, the facts."""
        click.echo(json.dumps(facts) if self.as_json else line)

    def table(self, titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Rows as psql shows them, the last column cut where the terminal ends."""
        most = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in columns(titles, rows):
            self._line(line, most)

    @staticmethod
    def _line(text: str, most: int | None) -> None:
        click.echo(text if most is None else _cut(text, most))


def columns(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table: titles, a rule, and the rows; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = [
        all(not cell or _NUMBER.fullmatch(cell) for cell in column)
        for column in zip(*cells, strict=True)
    ]
    widths = [max(map(_width, column)) for column in zip(titles, *cells, strict=True)]
    pairs = zip(titles, widths, strict=True)
    lines = [" | ".join(_pad(title, width, "^") for title, width in pairs)]
    lines.append("-+-".join("-" * width for width in widths))
    for row in cells:
        lines.append(
            " | ".join(
                _pad(cell, width, ">" if is_right else "<")
                for cell, width, is_right in zip(row, widths, right, strict=True)
            )
        )
    return [line.rstrip() for line in lines]


def console_options(role: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds `--json`, `--timeout` and the shared options; the command gets `console: Console`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
        @click.option(
            "--timeout",
            metavar="DURATION",
            callback=seconds,
            default=DEFAULT_TIMEOUT,
            show_default=True,
            help="Longest that one call may take; 0 is without limit.",
        )
        @shared_options
        @functools.wraps(command)
        def wrapper(options: Options, timeout: float, as_json: bool, **rest: object) -> None:
            runtime = Runtime(options.database(), options.schema(), timeout, role)
            if isinstance(sys.stdout, io.TextIOWrapper):  # whatever the locale
                if as_json:
                    sys.stdout.reconfigure(encoding="utf-8")
                else:
                    sys.stdout.reconfigure(errors="backslashreplace")
            command(console=Console(runtime, as_json), **rest)

        return wrapper

    return decorate


def checked_json(name: str, text: str, hint: str) -> str:
    """`text`, if it is JSON that a jsonb can hold."""
    try:
        parsed_json(text)
        return written.as_json(name, text, str)
    except BadArgument as error:
        raise InputError(error.message, hint=error.hint) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} is not JSON: {error}", hint=hint) from None


def parsed_json(text: str) -> Any:
    """The value of a JSON text, without the NaN and Infinity that Python would let pass."""

    def refuse(name: str) -> None:
        raise ValueError(f"JSON has no {name}")

    return json.loads(text, parse_constant=refuse)


def confirm(yes: bool, question: Callable[[], str], *, hint: str = "say --yes") -> None:
    """Ask before something that cannot be taken back, unless `--yes` was said."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(
            f"{click.get_current_context().command_path} cannot be taken back, and nobody is here"
            " to be asked",
            hint=hint,
        )
    click.confirm(question(), abort=True, err=True)


def same_command(**changed: object) -> str:
    """The running command as it would be typed, options changed; no password in it."""
    context = click.get_current_context()
    words = context.command_path.split()
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params.get(name)
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if name in changed or not given:
            continue
        if isinstance(parameter, click.Argument):
            words += map(str, value if isinstance(value, tuple) else [value])
        elif value is True:
            words.append(parameter.opts[0])
        else:
            words += [parameter.opts[0], config.redact(str(value))]
    for name, value in changed.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def instant(option: str, text: str | None) -> datetime | None:
    """A past instant from ISO 8601, or from an age such as 90s, 15min, 2h, 7d: so long ago."""
    if text is None:
        return None
    at = _instant(option, text, "an age", -1)
    return at.astimezone() if at.tzinfo is None else at


def coming(option: str, text: str | None) -> datetime | None:
    """A future instant from ISO 8601 with a time zone, or from a delay such as 90s, 15min, 2h, 7d:
    so long from now."""
    if text is None:
        return None
    at = _instant(option, text, "a delay", 1)
    if at.tzinfo is None:
        raise InputError(
            f"{option} is {text!r}, without a time zone",
            hint=f"write {at.isoformat()}Z for UTC, or {at.astimezone().isoformat()} for this"
            " machine's zone",
        )
    return at


def _instant(option: str, text: str, kind: str, sign: int) -> datetime:
    try:
        if match := _SPAN.fullmatch(text.strip()):
            span = timedelta(**{_SPAN_UNITS[match[2]]: int(match[1])})
            return datetime.now(timezone.utc) + sign * span
        at = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except (ValueError, OverflowError):
        raise InputError(
            f"{option} is {text!r}; allowed: {kind} such as 15min, 2h or 7d,"
            " or an instant such as 2030-01-31T12:00:00Z"
        ) from None
    return at


def age(at: datetime | None) -> str:
    """How long ago an instant was (or, with "in", is still to come): 42s, 5min, 3h, 2d."""
    return "" if at is None else _span((datetime.now(timezone.utc) - at).total_seconds())


def when(at: datetime | None) -> str:
    """When an instant was or is to come: `8s ago`, `in 2h`."""
    return "" if at is None else due((datetime.now(timezone.utc) - at).total_seconds())


def due(since: float | None) -> str:
    """When something is due that was due so many seconds ago: `in 5min`, or `4s ago` if late."""
    if since is None:
        return ""
    return _span(since) if since < 0 else f"{_span(since)} ago"


def _span(since: float) -> str:
    if math.isinf(since):
        return "never"
    passed = max(0, round(abs(since)))
    size, unit = next((each for each in _UNITS if passed >= 2 * each[0]), _UNITS[-1])
    return f"{'' if since >= 0 else 'in '}{passed // size}{unit}"


def printable(text: str) -> str:
    """`text` on one line, with what a terminal would obey written as escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _cell(value: object) -> str:
    if isinstance(value, bool | dict | list):
        value = json.dumps(value, ensure_ascii=False)
    text = "" if value is None else str(value)
    return printable(text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…")


def _cut(text: str, most: int) -> str:
    """`text`, or as much of it as fits into `most` columns."""
    if _width(text) <= most:
        return text
    text = text[: most - 1]
    while _width(text) > most - 1:
        text = text[:-1]
    return text + "…"


def _width(text: str) -> int:
    """Columns that a terminal gives `text`."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def _pad(text: str, width: int, side: str) -> str:
    missing = width - _width(text)
    left = missing if side == ">" else missing // 2 if side == "^" else 0
    return " " * left + text + " " * (missing - left)
