"""What a worker runs: handlers by queue, what they are given, and what they may raise."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from pyshim import calls, config
from pyshim.errors import BadArgument, ConfigError, TidegateError
from pyshim.traces import trace
from pyshim.written import as_json

Function = Callable[["Delivery"], Any]
F = TypeVar("F", bound=Function)
Duration = timedelta | float | str

MOST_AT_ONCE = 10_000  # what a claim may ask for
MOST_RESULT_BYTES = 1 << 20  # of one member
_UNCHARGED_PAUSE = 5.0
_MOST_NAMED = 20


class Reject(Exception):
    """Raised by a handler: this message can never succeed. It becomes a dead letter at once."""


class Malformed(Reject):
    """Raised by a handler: the payload is not what it should be. A dead letter at once, with reason
    malformed."""


class Retry(Exception):
    """Raised by a handler: try this message again, after `in_` (a timedelta or seconds) or the
    queue's backoff. With `charge=False` no attempt is charged (for a rate limit, not for an error),
    and `in_` is 5 seconds unless given."""

    def __init__(
        self, error: str = "", *, in_: timedelta | float | None = None, charge: bool = True
    ) -> None:
        super().__init__(error or "the handler asked for a retry")
        in_ = _UNCHARGED_PAUSE if in_ is None and not charge else in_
        self.in_ = in_.total_seconds() if isinstance(in_, timedelta) else in_
        self.charge = charge
        if self.in_ is not None and not 0 <= self.in_ <= 86_400 * 36_500:
            raise ValueError(f"in_ is {in_!r}; allowed: from zero to 100 years")


class LeaseLost(TidegateError):
    """The message is no longer this worker's: whoever holds it now does the work."""


@dataclass(frozen=True)
class Delivery:
    """A message as its handler sees it. `attempt` counts from 1; `max_attempts` 0 is for ever;
    `topic` is where an outbox event came from; `barrier`, `epoch` and `member` say whose arrival
    its success is."""

    queue: str
    payload: Any
    headers: Mapping[str, Any]
    message_id: int
    event_id: UUID
    attempt: int
    max_attempts: int
    priority: int
    group_key: str | None
    job_key: str | None
    run_id: str | None
    tenant: str | None
    topic: str | None
    barrier: str | None
    epoch: int | None
    member: int | None
    enqueued_at: datetime
    lease_id: UUID
    schema: str
    _acked: list[int] = field(default_factory=list, repr=False, compare=False)
    _on_ack: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure now makes a dead letter."""
        return 0 < self.max_attempts <= self.attempt

    @property
    def was_acked(self) -> bool:
        """Whether the handler took the settlement into its own transaction."""
        return bool(self._acked)

    def ack_in(self, connection: psycopg.Connection[Any], result: Any = None) -> None:
        """Ack inside the transaction that is open on `connection`: its effects and the ack commit
        together, or not at all. Do it last, and commit at once. `result` is the member's, where the
        message belongs to a barrier. Raises `LeaseLost` when the message is somebody else's by now:
        let it roll the transaction back."""
        _require_transaction(connection)
        cursor = connection.cursor(row_factory=tuple_row)
        self._note(cursor.execute(*self._ack(result)).fetchone())

    async def ack_in_async(
        self, connection: psycopg.AsyncConnection[Any], result: Any = None
    ) -> None:
        """`ack_in` on an asynchronous connection."""
        _require_transaction(connection)
        cursor = connection.cursor(row_factory=tuple_row)
        await cursor.execute(*self._ack(result))
        self._note(await cursor.fetchone())

    def result_text(self, result: Any) -> str | None:
        """A result as it is stored: JSON; None where there is none, or where no member has it.
        Raises `Reject` for what cannot be stored."""
        if result is None or self.member is None:
            return None
        try:
            text = as_json("the result", result, hint="return what json.dumps can write")
        except BadArgument as error:
            raise Reject(str(error)) from error
        if (size := len(text.encode())) > MOST_RESULT_BYTES:
            raise Reject(
                f"the result has {size} bytes; allowed: {MOST_RESULT_BYTES}"
                " (store it elsewhere, and return where it is)"
            )
        return text

    def _ack(self, result: Any) -> tuple[sql.Composed, dict[str, Any]]:
        arguments = {
            "lease_id": self.lease_id,
            "message_ids": [self.message_id],
            "result": self.result_text(result),
        }
        return calls.bind(calls.QUEUE_ACK, self.schema), arguments

    def _note(self, answer: Any) -> None:
        acked, lost = answer
        if lost or acked != 1:
            raise LeaseLost(f"message {self.message_id} of queue {self.queue!r} is settled or lost")
        self._acked.append(self.message_id)
        if self._on_ack is not None:
            self._on_ack()


def _require_transaction(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
) -> None:
    idle = connection.pgconn.transaction_status == TransactionStatus.IDLE
    if connection.autocommit and idle:
        raise ValueError(
            "no transaction is open on this connection: work and ack inside"
            " `with connection.transaction():`"
        )


@dataclass(frozen=True)
class Handler:
    """One function, and how it is run."""

    queue: str
    task: str | None
    function: Function
    timeout: float | None
    retry_in: float | None
    reject: tuple[type[BaseException], ...]
    parse: Callable[[Any], Any] | None
    in_thread: bool

    @property
    def is_async(self) -> bool:
        """Whether it runs on the event loop."""
        call = getattr(self.function, "__call__", None)  # noqa: B004 - an object with async __call__
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(call)

    @property
    def in_process(self) -> bool:
        """Whether it runs in a process of its own, which can be ended."""
        return not (self.is_async or self.in_thread)

    def prepare(self, delivery: Delivery) -> Delivery:
        """The delivery with its payload parsed, or `Malformed`."""
        if self.parse is None:
            return delivery
        try:
            return replace(delivery, payload=self.parse(delivery.payload))
        except Exception as error:
            raise Malformed(f"{type(error).__name__}: {error}") from error


@dataclass
class Settings:
    """How one queue is worked on; None is the worker's default."""

    concurrency: int | None = None
    batch: int | None = None
    lease: timedelta | None = None


class Registry:
    """Handlers by queue and, where messages carry a header `task`, by task."""

    def __init__(self) -> None:
        self.reference: str | None = None  # module:name, where it was loaded from
        self._handlers: dict[tuple[str, str | None], Handler] = {}
        self._settings: dict[str, Settings] = {}

    def handler(
        self,
        queue: str,
        *,
        task: str | None = None,
        concurrency: int | None = None,
        batch: int | None = None,
        lease: Duration | None = None,
        timeout: Duration | None = None,
        retry_in: Duration | None = None,
        reject: type[BaseException] | tuple[type[BaseException], ...] = (),
        parse: Callable[[Any], Any] | None = None,
        in_thread: bool = False,
    ) -> Callable[[F], F]:
        """Register a function of one `Delivery`. Returning is success; raising is failing. What it
        returns is the result of the member of a barrier that the message belongs to; elsewhere it
        is ignored.

        `task`: only messages whose header `task` says so; without it, all that have no handler of
        their own. `timeout`: how long one call may take (never beyond the queue's max_runtime).
        `retry_in`: the pause after a failure, instead of the queue's backoff. `reject`: exceptions
        that no retry can help. `parse`: makes the payload into what the handler wants; what it
        raises means malformed. `in_thread`: run a sync function in a thread of the worker, which is
        cheap, and cannot be ended; without it, it runs in a process of its own.

        `concurrency` (messages at once), `batch` (messages a claim) and `lease` hold for the queue:
        say them in one of its handlers.
        """
        if callable(queue):
            raise ConfigError(
                "@registry.handler stands without the name of its queue",
                hint="write @registry.handler('emails')",
            )
        if not isinstance(queue, str) or not queue:
            raise ConfigError(f"the queue of a handler is {queue!r}; allowed: the name of a queue")
        where = f"handler of queue {queue!r}" + (f", task {task!r}" if task is not None else "")
        if task is not None and (not isinstance(task, str) or not task):
            raise ConfigError(
                f"the task of the {where} is {task!r}; allowed: a text, as in headers"
            )
        seconds = {
            name: _seconds(f"{name} of the {where}", value)
            for name, value in (("lease", lease), ("timeout", timeout), ("retry_in", retry_in))
        }
        for name in ("lease", "timeout"):
            if seconds[name] == 0:
                raise ConfigError(f"{name} of the {where} is 0; allowed: a positive duration")
        settings = {
            "concurrency": _count(f"concurrency of the {where}", concurrency),
            "batch": _count(f"batch of the {where}", batch),
            "lease": None if seconds["lease"] is None else timedelta(seconds=seconds["lease"]),
        }
        kinds = reject if isinstance(reject, tuple) else (reject,)
        for kind in kinds:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise ConfigError(
                    f"reject of the {where} holds {kind!r}; allowed: exception types",
                    hint="write reject=ValueError or reject=(ValueError, KeyError)",
                )
        if parse is not None:
            _takes_one(f"parse of the {where}", parse, "the payload")

        def register(function: F) -> F:
            _takes_one(f"the {where}", function, "a Delivery")
            if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                raise ConfigError(f"the {where} is a generator: calling it would do nothing")
            if (queue, task) in self._handlers:
                raise ConfigError(
                    f"there is a {where} already", hint="give each a task, or a queue, of its own"
                )
            handler = Handler(
                queue, task, function, seconds["timeout"], seconds["retry_in"], kinds, parse,
                in_thread,
            )  # fmt: skip
            if in_thread and handler.is_async:
                raise ConfigError(f"the {where} is async: in_thread is for sync functions")
            if in_thread and timeout is not None:
                raise ConfigError(
                    f"the {where} has a timeout, but a thread cannot be ended",
                    hint="leave out in_thread: it then runs in a process of its own",
                )
            self._configure(queue, settings)
            self._handlers[queue, task] = handler
            return function

        return register

    def queues(self) -> list[str]:
        """The queues that have a handler, in the order of their registration."""
        return list(self._settings)

    def settings(self, queue: str) -> Settings:
        """How the queue is worked on."""
        return self._settings[queue]

    def handlers(self, queue: str) -> list[Handler]:
        """The handlers of a queue."""
        return [each for each in self._handlers.values() if each.queue == queue]

    def find(self, queue: str, task: Any) -> Handler | None:
        """The handler of a message, by the task in its headers."""
        if isinstance(task, str) and (found := self._handlers.get((queue, task))):
            return found
        return self._handlers.get((queue, None))

    def told_missing(self, queue: str, task: Any) -> str:
        """What is said of a message that `find` has no handler for."""
        whose = "without a task" if task is None else f"for task {task!r}"
        tasks = [repr(each.task) for each in self.handlers(queue)]
        known = ", ".join(tasks[:_MOST_NAMED]) + (", …" if len(tasks) > _MOST_NAMED else "")
        return (
            f"queue {queue!r} has no handler {whose} in {self.reference or 'the registry'};"
            f" it has for {f'the tasks {known}' if tasks else 'none'}"
        )

    def _configure(self, queue: str, given: Mapping[str, Any]) -> None:
        settings = self._settings.setdefault(queue, Settings())
        for name, value in given.items():
            before = getattr(settings, name)
            if value is not None and before not in (None, value):
                raise ConfigError(
                    f"{name} of queue {queue!r} is {before} in one handler and {value} in another",
                    hint="it holds for the queue: say it once",
                )
            if value is not None:
                setattr(settings, name, value)


def _takes_one(name: str, function: object, what: str) -> None:
    """Refuse what cannot be called with one argument: every message would fail."""
    if not callable(function):
        raise ConfigError(f"{name} is {function!r}; allowed: a function of one argument, {what}")
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # some built-in functions tell nobody
        return
    try:
        signature.bind(None)
    except TypeError:
        called = getattr(function, "__qualname__", type(function).__name__)
        raise ConfigError(
            f"{name} is {called}{signature}; allowed: a function of one argument, {what}"
        ) from None


def _seconds(name: str, value: Duration | None) -> float | None:
    if isinstance(value, str):
        return config.duration(name, value)
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is not None and not (isinstance(seconds, int | float) and seconds >= 0):
        raise ConfigError(f"{name} is {value}; allowed: a duration such as 30, '5s' or '2min'")
    return seconds


def _count(name: str, value: int | None) -> int | None:
    if value is not None and not (isinstance(value, int) and 1 <= value <= MOST_AT_ONCE):
        raise ConfigError(f"{name} is {value!r}; allowed: 1 to {MOST_AT_ONCE}")
    return value


def load(reference: str) -> Registry:
    """The registry that `module:name` names (`:registry` when no name is given). The current
    directory is looked in first."""
    module_name, _, name = reference.partition(":")
    name = name or "registry"
    if not module_name:
        raise ConfigError(f"{reference!r} names no module", hint="write module:registry")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        place = trace(error)
        at = f", at {place}" if place else ""
        if isinstance(error, ConfigError):
            raise ConfigError(error.message + at, hint=error.hint) from error
        text = f"{type(error).__name__}: {error}".removesuffix(": ") + at
        missing = isinstance(error, ModuleNotFoundError) and error.name == module_name
        raise ConfigError(
            f"cannot import {module_name}: {text}",
            hint=f"looked in {here} and the Python path" if missing else None,
        ) from error
    registry = getattr(module, name, None)
    if not isinstance(registry, Registry):
        found = (
            "has no" if registry is None else f"has another thing ({type(registry).__name__}) as"
        )
        names = [key for key, value in vars(module).items() if isinstance(value, Registry)]
        raise ConfigError(
            f"{module_name} {found} {name!r}",
            hint=f"write {module_name}:{names[0]}"
            if names
            else "write registry = Registry(), from pyshim.registry",
        )
    if not registry.queues():
        raise ConfigError(
            f"{module_name}:{name} has no handlers",
            hint="register one with @registry.handler('queue')",
        )
    registry.reference = f"{module_name}:{name}"
    return registry


def delivery(
    row: Mapping[str, Any],
    queue: str,
    schema: str,
    *,
    on_ack: Callable[[], None] | None = None,
) -> Delivery:
    """A delivery from a row of a claim, whose payload and headers are text; or `Malformed`, where
    this Python cannot hold what the database can. `on_ack` is called when the handler acks in a
    transaction of its own."""
    try:
        payload = json.loads(row["payload"] or "null")
        headers = json.loads(row["headers"]) if row["headers"] else {}
    except (ValueError, RecursionError) as error:
        raise Malformed(f"payload or headers cannot be read: {error}") from None
    return Delivery(
        queue=queue,
        payload=payload,
        headers=headers if isinstance(headers, dict) else {"value": headers},
        schema=schema,
        _on_ack=on_ack,
        **{name: row[name] for name in _PLAIN},
    )


_PLAIN = (
    "message_id", "event_id", "attempt", "max_attempts", "priority", "group_key", "job_key",
    "run_id", "tenant", "topic", "barrier", "epoch", "member", "enqueued_at", "lease_id",
)  # fmt: skip
