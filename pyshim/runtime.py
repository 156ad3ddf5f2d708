"""What the commands that run loops share: options, sessions, and how such a process ends."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import logging
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import click
from click.core import ParameterSource

from pyshim import config, logs, loops, telemetry
from pyshim.aside import FarBell
from pyshim.connect import ATTEMPTS, Connection, connect
from pyshim.doorbell import Doorbell
from pyshim.meter import Meter
from pyshim.migrate import check_schema
from pyshim.options import Options, shared_options
from pyshim.serve import Address, Endpoint, address, label, serving
from pyshim.session import DEFAULT_TIMEOUT, Session

log = logging.getLogger("tidegate")


def seconds(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    """Callback of an option: `500ms`, `5s`, `2min`, `1h` or a bare number, as seconds."""
    return None if value is None else config.duration(_said_by(context, option), value)


def listening(context: click.Context, option: click.Parameter, value: str | None) -> Address | None:
    """Callback of an option: where to listen."""
    return address(_said_by(context, option), value) if value else None


def _said_by(context: click.Context, option: click.Parameter) -> str:
    """The option, or the variable that speaks for it."""
    is_variable = context.get_parameter_source(option.name or "") is ParameterSource.ENVIRONMENT
    return str(option.envvar) if is_variable else option.opts[0]


class Runtime:
    """Where the database is, how long a call may take, and sessions to it."""

    def __init__(
        self,
        database: config.Database,
        schema: str,
        timeout: float,
        role: str,
        listen: Address | None = None,
        labels: Mapping[str, str] | None = None,
        doorbell: config.Database | None = None,
    ) -> None:
        self.database = database
        self.schema = schema
        self.timeout = timeout
        self.meter = Meter()
        self.listen = listen
        self._labels = labels
        self._name = f"tidegate {role}"
        self._doorbell_at = doorbell
        self._doorbell: Doorbell | None = None
        self._stuck: list[int] = []
        self.in_company = False
        self._home: asyncio.AbstractEventLoop | None = None

    def of(self, role: str, timeout: float | None) -> Runtime:
        """The same for one of several roles in this process, on whatever thread: its name, and
        perhaps a timeout of its own. The process listens, on the event loop that this is called on,
        not the role."""
        other = copy.copy(self)
        other.in_company = True
        other._home = asyncio.get_running_loop()
        other.timeout = self.timeout if timeout is None else timeout
        other._name = f"tidegate {role}"
        if self._doorbell_at is not None:
            self._doorbell = other._doorbell = self._at_the_door()
        return other

    def session(self, loop: str | None = None, *, attempts: int = ATTEMPTS) -> Session:
        """A session with a connection of its own, opened when first used, for the loop of this
        name."""
        opener = functools.partial(self.connection, attempts)
        return Session(opener, self.schema, timeout=self.timeout, loop=loop)

    def bell(self, kind: str, name: str | None = None) -> loops.Bell | None:
        """What wakes a loop that takes from a queue or topic, or from all of them; None with
        --no-doorbell. To be asked for on the event loop, and before `listening`."""
        if self._doorbell_at is None:
            return None
        self._doorbell = self._at_the_door()
        home = self._home
        if home is None or home is asyncio.get_running_loop():
            return self._doorbell.bell(kind, name)
        return self._doorbell.bell(kind, name, lambda wanted: FarBell(home, wanted))

    def _at_the_door(self) -> Doorbell:
        assert self._doorbell_at is not None
        return self._doorbell or Doorbell.at(self._doorbell_at, self.schema)

    def listening(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Listen meanwhile, if a loop has a bell."""
        if self._doorbell is None or self.in_company:
            return contextlib.nullcontext()
        return self._doorbell.listening()

    def loop(
        self,
        name: str,
        step: loops.Step,
        pace: loops.Pace,
        stop: loops.Stop,
        bell: loops.Bell | None = None,
    ) -> Coroutine[Any, Any, None]:
        """A loop of this process."""
        return loops.run(name, step, pace, stop, self.meter, bell, in_company=self.in_company)

    def left_running(self, handlers: int) -> None:
        """So many handlers go on although they were told to end: they would keep the process for
        ever, so it is ended as soon as all else is done."""
        self._stuck.append(handlers)

    def announce(self, loop: str, **fields: Any) -> None:
        """Log that a loop starts, and where."""
        place = self.database.place()
        logs.event(
            log, logging.INFO, "started", loop=loop, schema=self.schema, database=place, **fields
        )

    def once(self) -> None:
        """For what runs once: nobody could scrape it."""
        if self.listen is not None:
            raise click.UsageError("--listen is for a loop")

    def run(self, work: Callable[[loops.Stop], Coroutine[Any, Any, None]]) -> None:
        """Run `work` with a stop that signals set; meanwhile answer on `--listen`."""

        async def main() -> None:
            telemetry.configure()
            stop = loops.Stop()
            stop.on_signals()
            try:
                if self.listen is None:
                    await work(stop)
                else:
                    endpoint = Endpoint(
                        self._connection_once, self.schema, self.meter, self._labels
                    )
                    await serving(endpoint, self.listen, lambda: work(stop))
            finally:
                # Not after asyncio.run, which waits for whoever ignores its cancellation.
                _leave(sum(self._stuck))

        asyncio.run(main())

    async def _connection_once(self) -> Connection:
        return await self.connection(attempts=1)

    async def connection(self, attempts: int = ATTEMPTS) -> Connection:
        """A new connection, to a schema that this driver fits."""
        connection = await connect(self.database, application_name=self._name, attempts=attempts)
        try:
            await check_schema(connection, self.schema)
        except BaseException:
            await connection.close()
            raise
        return connection


def _leave(stuck: int) -> None:
    if stuck:
        logs.event(log, logging.ERROR, "left running handlers", handlers=stuck)
        logging.shutdown()
        sys.stdout.flush()
        os._exit(1)


def doorbell_options(command: Callable[..., None]) -> Callable[..., None]:
    """Whether, and where, to listen for the doorbell. Stands above `runtime_options`, which takes
    it from here."""
    url = click.option(
        "--doorbell-url",
        metavar="URL",
        envvar="TIDEGATE_DOORBELL_URL",
        show_envvar=True,
        help="Where to listen for the doorbell, past a transaction pooler [default: the database].",
    )
    switch = click.option(
        "--doorbell/--no-doorbell",
        default=True,
        envvar="TIDEGATE_DOORBELL",
        show_envvar=True,
        help="Let channels with a doorbell end pauses early [default: doorbell].",
    )
    return switch(url(command))


def runtime_options(role: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds the options of a loop, and passes the command `runtime: Runtime` in their place."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @click.option(
            "--timeout",
            metavar="DURATION",
            callback=seconds,
            default=f"{DEFAULT_TIMEOUT:g}s",
            show_default=True,
            envvar="TIDEGATE_TIMEOUT",
            show_envvar=True,
            help="Longest that one call may take; 0 is without limit.",
        )
        @click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            envvar="TIDEGATE_LOG_FORMAT",
            show_envvar=True,
            help="Log lines as key=value or as JSON, on standard error.",
        )
        @click.option("-v", "--verbose", is_flag=True, help="Log every batch, not only failures.")
        @click.option(
            "--listen",
            metavar="HOST:PORT",
            callback=listening,
            envvar="TIDEGATE_LISTEN",
            show_envvar=True,
            help="Answer /metrics, /healthz and /readyz there.",
        )
        @click.option(
            "--label",
            "labels",
            multiple=True,
            metavar="NAME=VALUE",
            callback=lambda _, option, values: dict(label(option.opts[0], v) for v in values),
            help="A label on every sample; may be repeated.",
        )
        @shared_options
        @functools.wraps(command)
        def wrapper(
            options: Options,
            timeout: float,
            log_format: logs.Format,
            verbose: bool,
            listen: Address | None,
            labels: dict[str, str],
            doorbell: bool = False,
            doorbell_url: str | None = None,
            **rest: object,
        ) -> None:
            logs.configure(log_format, logging.DEBUG if verbose else logging.INFO)
            database = options.database()
            bell_at = config.doorbell_database(doorbell_url, database) if doorbell else None
            runtime = Runtime(database, options.schema(), timeout, role, listen, labels, bell_at)
            command(runtime=runtime, **rest)

        return wrapper

    return decorate


def worker_name() -> str:
    """How a lease names its holder: host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"
