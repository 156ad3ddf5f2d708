"""Send and put from an application, on its own psycopg connection and inside its transaction.

`Client(schema).send(connection, queue, payload)` is one `select` on the connection given: nothing
is committed, closed or repeated here. With a `psycopg.Connection` it returns the answer; with a
`psycopg.AsyncConnection` it returns something to await.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar, overload
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pyshim import calls, config, telemetry
from pyshim.errors import BadArgument, SchemaMismatch, from_database
from pyshim.names import quote_ident
from pyshim.prepared import AsyncConnection, Connection, Prepared, Rows, method
from pyshim.written import DUMPS, as_json, no_character

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class Sent(NamedTuple):
    """The answer to a send or a put.

    `outcome` is inserted, or says what became of the payload instead: deduplicated (the message_id
    is then the first one), replaced or follow_up (see the table of job keys in docs/concepts.md).
    cancelled: its run was stopped, nothing was sent, and there is no message_id.
    """

    message_id: int | None
    outcome: str


class Opened(NamedTuple):
    """The answer to the opening of a barrier: opened, or fired when it was sealed without members;
    or cancelled, without an epoch, when its run was stopped: then nothing was opened or sent. What
    is said about its members names the epoch."""

    epoch: int | None
    outcome: str


class BarrierState(NamedTuple):
    """How a barrier stands. members = arrived + failed + outstanding."""

    name: str
    epoch: int
    state: str  # open, fired, fire_failed, aborted or resolved
    outcome: str | None
    reason: str | None
    policy: str
    is_sealed: bool
    members: int
    arrived: int
    failed: int
    outstanding: int
    opened_at: datetime
    progress_at: datetime | None
    expires_at: datetime
    stalls_at: datetime
    closed_at: datetime | None
    run_id: str | None
    tenant: str | None


class RunFinished(NamedTuple):
    """changed, unchanged, refused or unknown; and the state that the run is in now."""

    outcome: str
    state: str | None


class RunCancelled(NamedTuple):
    """cancelled, how many runs were stopped now, and how many messages were removed."""

    outcome: str
    runs: int
    removed: int


class Guarded(NamedTuple):
    """won, held, done (`result` is the one it was finished with) or terminal. `is_repeat`: this
    owner had it, or finished it, before."""

    outcome: str
    result: Any
    is_repeat: bool


class PutOptions(TypedDict, total=False):
    """What a put may say besides its payload; None is as if not said."""

    headers: Mapping[str, Any] | None  # traceparent, tracestate, baggage and what else travels
    run_at: datetime | str | None  # with a time zone
    priority: int | None  # 0 goes first, 9 last
    group_key: str | None
    idempotency_key: str | None
    event_id: UUID | str | None
    run_id: str | None
    tenant: str | None


class SendOptions(PutOptions, total=False):
    """What a send may say besides its payload; None is as if not said."""

    job_key: str | None
    key_mode: str | None  # replace, preserve_run_at or dedupe
    max_attempts: int | None  # 1 is one delivery, 0 is for ever
    backoff: Mapping[str, Any] | None  # base, cap, factor, jitter


class BarrierOptions(TypedDict, total=False):
    """What an opening may say besides its members; None is as if not said."""

    callback_queue: str | None
    callback_payload: Any
    callback_headers: Mapping[str, Any] | None
    callback_priority: int | None
    policy: str | None  # abort (default), collect or quorum
    quorum: int | None
    failure_queue: str | None
    failure_payload: Any
    expire_queue: str | None
    expires_in: timedelta | str | None
    stall_after: timedelta | str | None
    run_id: str | None
    tenant: str | None
    sealed: bool | None  # False: barrier_add and barrier_seal follow
    inline_limit: int | None
    key: str | None  # the same again answers the first epoch


_LONGEST_SHOWN = 80  # of a wrong value
_JSON_OPTIONS = frozenset({"headers", "backoff", "callback_headers"})
_ANY_JSON_OPTIONS = frozenset({"callback_payload", "failure_payload"})
_INT_OPTIONS = frozenset(
    {"priority", "max_attempts", "callback_priority", "quorum", "inline_limit"}
)
_TEXT_OPTIONS = frozenset(
    {
        "group_key",
        "idempotency_key",
        "run_id",
        "tenant",
        "job_key",
        "key_mode",
        "policy",
        "key",
        "callback_queue",
        "failure_queue",
        "expire_queue",
    }
)
_SPAN_OPTIONS = frozenset({"expires_in", "stall_after"})
_SINGLE_ONLY = frozenset({"event_id", "job_key", "key_mode"})


class Client:
    """Sends to the queues and puts into the topics of one installation.

    `schema` is TIDEGATE_SCHEMA, else tidegate, when not given. `dumps` writes payloads, headers and
    policies as JSON: `json.dumps` without NaN unless given. A client holds no connection and no
    state: make one at import, and use it from any thread or task.

    What the database refuses with a TG code is raised as the `TidegateError` of that code, a
    missing function as `SchemaMismatch`, everything else as psycopg raised it; as with any failed
    statement, the transaction is over then. What cannot be written as JSON, and options of a wrong
    type, are a `BadArgument` before anything is sent, which leaves the transaction as it was.
    """

    def __init__(
        self, schema: str | None = None, *, dumps: Callable[[Any], str | bytes] | None = None
    ) -> None:
        self.schema = config.schema(schema)
        self._dumps = dumps or DUMPS

    @overload
    def send(
        self, connection: Connection, queue: str, payload: Any, **options: Unpack[SendOptions]
    ) -> Sent: ...

    @overload
    def send(
        self, connection: AsyncConnection, queue: str, payload: Any, **options: Unpack[SendOptions]
    ) -> Coroutine[Any, Any, Sent]: ...

    def send(
        self,
        connection: Connection | AsyncConnection,
        queue: str,
        payload: Any,
        **options: Unpack[SendOptions],
    ) -> Sent | Coroutine[Any, Any, Sent]:
        """Send a message to a queue: it exists if the transaction commits."""
        arguments = {"queue": _text("queue", queue), "payload": self._json("payload", payload)}

        def call(carrier: Mapping[str, str]) -> Sent | Coroutine[Any, Any, Sent]:
            given = self._given("send", SendOptions, options, carrier=carrier)
            return self._call(connection, calls.QUEUE_SEND, arguments, given, _first)

        return telemetry.sending("send", queue, call)

    @overload
    def send_many(
        self,
        connection: Connection,
        queue: str,
        payloads: Iterable[Any],
        **options: Unpack[SendOptions],
    ) -> list[Sent]: ...

    @overload
    def send_many(
        self,
        connection: AsyncConnection,
        queue: str,
        payloads: Iterable[Any],
        **options: Unpack[SendOptions],
    ) -> Coroutine[Any, Any, list[Sent]]: ...

    def send_many(
        self,
        connection: Connection | AsyncConnection,
        queue: str,
        payloads: Iterable[Any],
        **options: Unpack[SendOptions],
    ) -> list[Sent] | Coroutine[Any, Any, list[Sent]]:
        """Send many messages in one call: an answer for each, in order.

        The options hold for all. An idempotency key becomes one for each: the key, a colon and the
        message's place, from 1. Not for event_id and job keys: see `send_specs`.
        """
        arguments = {"queue": _text("queue", queue), "payloads": self._jsons(payloads)}

        def call(carrier: Mapping[str, str]) -> list[Sent] | Coroutine[Any, Any, list[Sent]]:
            given = self._given(
                "send_many", SendOptions, options, without=_SINGLE_ONLY, carrier=carrier
            )
            return self._call(connection, calls.QUEUE_SEND_MANY, arguments, given, _each)

        return telemetry.sending("send", queue, call)

    @overload
    def send_specs(
        self, connection: Connection, queue: str, specs: Iterable[Mapping[str, Any]]
    ) -> list[Sent]: ...

    @overload
    def send_specs(
        self, connection: AsyncConnection, queue: str, specs: Iterable[Mapping[str, Any]]
    ) -> Coroutine[Any, Any, list[Sent]]: ...

    def send_specs(
        self,
        connection: Connection | AsyncConnection,
        queue: str,
        specs: Iterable[Mapping[str, Any]],
    ) -> list[Sent] | Coroutine[Any, Any, list[Sent]]:
        """Send many messages with options of their own: `{"payload": …, "run_at": …, …}` each."""

        def call(carrier: Mapping[str, str]) -> list[Sent] | Coroutine[Any, Any, list[Sent]]:
            arguments = {"queue": _text("queue", queue), "specs": self._specs(specs, carrier)}
            return self._call(connection, calls.QUEUE_SEND_SPECS, arguments, {}, _each)

        return telemetry.sending("send", queue, call)

    @overload
    def put(
        self, connection: Connection, topic: str, payload: Any, **options: Unpack[PutOptions]
    ) -> Sent: ...

    @overload
    def put(
        self, connection: AsyncConnection, topic: str, payload: Any, **options: Unpack[PutOptions]
    ) -> Coroutine[Any, Any, Sent]: ...

    def put(
        self,
        connection: Connection | AsyncConnection,
        topic: str,
        payload: Any,
        **options: Unpack[PutOptions],
    ) -> Sent | Coroutine[Any, Any, Sent]:
        """Put an event into a topic: it exists if the transaction commits."""
        arguments = {"topic": _text("topic", topic), "payload": self._json("payload", payload)}

        def call(carrier: Mapping[str, str]) -> Sent | Coroutine[Any, Any, Sent]:
            given = self._given("put", PutOptions, options, carrier=carrier)
            return self._call(connection, calls.OUTBOX_PUT, arguments, given, _first)

        return telemetry.sending("create", topic, call)

    @overload
    def put_many(
        self,
        connection: Connection,
        topic: str,
        payloads: Iterable[Any],
        **options: Unpack[PutOptions],
    ) -> list[Sent]: ...

    @overload
    def put_many(
        self,
        connection: AsyncConnection,
        topic: str,
        payloads: Iterable[Any],
        **options: Unpack[PutOptions],
    ) -> Coroutine[Any, Any, list[Sent]]: ...

    def put_many(
        self,
        connection: Connection | AsyncConnection,
        topic: str,
        payloads: Iterable[Any],
        **options: Unpack[PutOptions],
    ) -> list[Sent] | Coroutine[Any, Any, list[Sent]]:
        """Put many events in one call: an answer for each, in order. Options as in `send_many`."""
        arguments = {"topic": _text("topic", topic), "payloads": self._jsons(payloads)}

        def call(carrier: Mapping[str, str]) -> list[Sent] | Coroutine[Any, Any, list[Sent]]:
            given = self._given(
                "put_many", PutOptions, options, without=_SINGLE_ONLY, carrier=carrier
            )
            return self._call(connection, calls.OUTBOX_PUT_MANY, arguments, given, _each)

        return telemetry.sending("create", topic, call)

    @overload
    def put_specs(
        self, connection: Connection, topic: str, specs: Iterable[Mapping[str, Any]]
    ) -> list[Sent]: ...

    @overload
    def put_specs(
        self, connection: AsyncConnection, topic: str, specs: Iterable[Mapping[str, Any]]
    ) -> Coroutine[Any, Any, list[Sent]]: ...

    def put_specs(
        self,
        connection: Connection | AsyncConnection,
        topic: str,
        specs: Iterable[Mapping[str, Any]],
    ) -> list[Sent] | Coroutine[Any, Any, list[Sent]]:
        """Put many events with options of their own: `{"payload": …, "group_key": …, …}` each."""

        def call(carrier: Mapping[str, str]) -> list[Sent] | Coroutine[Any, Any, list[Sent]]:
            arguments = {"topic": _text("topic", topic), "specs": self._specs(specs, carrier)}
            return self._call(connection, calls.OUTBOX_PUT_SPECS, arguments, {}, _each)

        return telemetry.sending("create", topic, call)

    @method
    def barrier_open(
        self, name: str, members: int, **options: Unpack[BarrierOptions]
    ) -> Prepared[Opened]:
        """Open a barrier for so many members, who are told apart by number, from 1."""
        arguments = {"name": _text("name", name), "members": _whole("members", members)}
        return Prepared(
            calls.BARRIER_OPEN, arguments, self._barrier("barrier_open", options), _opened
        )

    @method
    def barrier_send(
        self, name: str, queue: str, payloads: Iterable[Any], **options: Unpack[BarrierOptions]
    ) -> Prepared[Opened]:
        """Open a barrier and send a message for each member: payload n is member n's. A member
        arrives when its message is done, with what its handler returned, and fails when it dies."""
        arguments = {
            "name": _text("name", name),
            "queue": _text("queue", queue),
            "payloads": self._jsons(payloads),
        }
        given = self._barrier("barrier_send", options)
        if carrier := telemetry.carrier():
            given["headers"] = self._json("headers", carrier)
        return Prepared(calls.BARRIER_SEND, arguments, given, _opened)

    @method
    def barrier_add(
        self, name: str, epoch: int, count: int = 1, *, key: str | None = None
    ) -> Prepared[int | None]:
        """Add members to a barrier that was opened with `sealed=False`: the number of the first
        new one, or None when it is closed. With a `key` the call may be repeated."""
        arguments = {**_epoch(name, epoch), "count": _whole("count", count)}
        given = {} if key is None else {"key": _text("key", key)}
        return Prepared(calls.BARRIER_ADD, arguments, given, _value)

    @method
    def barrier_seal(self, name: str, epoch: int) -> Prepared[str]:
        """No member will be added: sealed, or fired when all have arrived."""
        return Prepared(calls.BARRIER_SEAL, _epoch(name, epoch), {}, _value)

    @method
    def barrier_arrive(
        self, name: str, epoch: int, member: int, result: Any = None
    ) -> Prepared[str]:
        """A member is done: arrived, fired for the last one, duplicate, stale, closed or unknown.
        None is no result. Its slot is locked until the transaction ends."""
        arguments = {
            **_epoch(name, epoch),
            "member": _whole("member", member),
            "result": None if result is None else self._json("result", result),
        }
        return Prepared(calls.BARRIER_ARRIVE, arguments, {}, _value)

    @method
    def barrier_fail(self, name: str, epoch: int, member: int, error: str) -> Prepared[str]:
        """A member has failed for good: failed, aborted when that ended the barrier, or as for
        `barrier_arrive`."""
        arguments = {
            **_epoch(name, epoch),
            "member": _whole("member", member),
            "error": _text("error", error),
        }
        return Prepared(calls.BARRIER_FAIL, arguments, {}, _value)

    @method
    def barrier_abort(self, name: str, epoch: int, reason: str | None = None) -> Prepared[str]:
        """End an open barrier: aborted for the one that did it, else closed, stale or unknown."""
        arguments = {**_epoch(name, epoch), "reason": _text_or_none("reason", reason)}
        return Prepared(calls.BARRIER_ABORT, arguments, {}, _value)

    @method
    def barrier_status(self, name: str) -> Prepared[BarrierState | None]:
        """How the latest epoch of a barrier stands; None when there is none of that name."""
        return Prepared(calls.BARRIER_STATUS, {"name": _text("name", name)}, {}, _barrier_state)

    @method
    def run_open(
        self,
        run_id: str,
        *,
        parent: str | None = None,
        tenant: str | None = None,
        fail_on_dead_letter: bool = False,
    ) -> Prepared[str]:
        """Open a run: open, or else the state it has ended in, and nothing should be begun."""
        arguments = {
            "run_id": _text("run_id", run_id),
            "parent": _text_or_none("parent", parent),
            "tenant": _text_or_none("tenant", tenant),
            "fail_on_dead_letter": fail_on_dead_letter,
        }
        return Prepared(calls.RUN_OPEN, arguments, {}, _value)

    @method
    def run_finish(
        self, run_id: str, state: str, reason: str | None = None
    ) -> Prepared[RunFinished]:
        """End a run as completed, error or stopped, by compare-and-set."""
        arguments = {
            "run_id": _text("run_id", run_id),
            "state": _text("state", state),
            "reason": _text_or_none("reason", reason),
        }
        return Prepared(calls.RUN_FINISH, arguments, {}, _finished)

    @method
    def run_cancel(self, run_id: str, reason: str | None = None) -> Prepared[RunCancelled]:
        """Stop a run, its children, and all that waits of them; also before it was opened."""
        arguments = {
            "run_id": _text("run_id", run_id),
            "reason": _text_or_none("reason", reason),
        }
        return Prepared(calls.RUN_CANCEL, arguments, {}, _cancelled)

    @method
    def guard_claim(
        self,
        scope: str,
        key: str,
        owner: str,
        *,
        lease: timedelta | str = "5 minutes",
        run_id: str | None = None,
    ) -> Prepared[Guarded]:
        """Win the right to do something: go on when the outcome is won."""
        arguments = {
            **_guard(scope, key, owner),
            "lease": lease,
            "run_id": _text_or_none("run_id", run_id),
        }
        return Prepared(calls.GUARD_CLAIM, arguments, {}, _guarded)

    @method
    def guard_finish(self, scope: str, key: str, owner: str, result: Any = None) -> Prepared[str]:
        """It is done: whoever claims later is told so, with the result. done, or lost."""
        arguments = {
            **_guard(scope, key, owner),
            "result": None if result is None else self._json("result", result),
        }
        return Prepared(calls.GUARD_FINISH, arguments, {}, _value)

    @method
    def guard_release(self, scope: str, key: str, owner: str) -> Prepared[str]:
        """Give it back undone, so that the next claim wins: released, done or lost."""
        return Prepared(calls.GUARD_RELEASE, _guard(scope, key, owner), {}, _value)

    @method
    def counter_add(self, key: str, amount: int = 1) -> Prepared[None]:
        """Add to a counter, with the commit; no two callers wait for each other."""
        arguments = {"key": _text("key", key), "amount": _whole("amount", amount, 64)}
        return Prepared(calls.COUNTER_ADD, arguments, {}, _nothing)

    def _call(
        self,
        connection: Connection | AsyncConnection,
        statement: str,
        arguments: Mapping[str, Any],
        options: Mapping[str, Any],
        shape: Callable[[Rows], T],
    ) -> T | Coroutine[Any, Any, T]:
        """One statement, in whatever state the connection is. Options that were not given are not
        passed: their defaults stand in SQL, once."""
        query = _query(statement, self.schema, tuple(options))
        everything = {**arguments, **options}
        # The cursors are ours: the connection's may number its placeholders, or keep no rows. A
        # prepared name would outlive the transaction, which a transaction pooler cannot have.
        if isinstance(connection, psycopg.AsyncConnection):
            return self._call_async(connection, query, everything, shape)
        if not isinstance(connection, psycopg.Connection):
            raise TypeError(
                f"the connection is of type {type(connection).__name__};"
                " give a psycopg.Connection or a psycopg.AsyncConnection"
            )
        with self._typed_errors(), psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
            cursor.execute(query, everything, prepare=False)
            return shape(cursor.fetchall())

    async def _call_async(
        self,
        connection: AsyncConnection,
        query: sql.SQL,
        arguments: Mapping[str, Any],
        shape: Callable[[Rows], T],
    ) -> T:
        with self._typed_errors():
            async with psycopg.AsyncCursor(connection, row_factory=tuple_row) as cursor:
                await cursor.execute(query, arguments, prepare=False)
                return shape(await cursor.fetchall())

    @contextlib.contextmanager
    def _typed_errors(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName) as error:
            if error.diag.context is not None:  # something that our function, or a trigger, calls
                raise
            raise SchemaMismatch(
                f"schema {self.schema!r} holds no Tidegate installation that can do this:"
                f" {error.diag.message_primary}",
                hint=f"run: tidegate migrate --schema {quote_ident(self.schema)}",
            ) from error
        except psycopg.Error as error:
            ours = from_database(error)
            if ours is None:
                raise
            raise ours from error

    def _given(
        self,
        method: str,
        known: type[PutOptions] | type[SendOptions] | type[BarrierOptions],
        options: Mapping[str, Any],
        *,
        without: frozenset[str] = frozenset(),
        carrier: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The options that were given, as the statement takes them; the carrier's headers, too."""
        allowed = sorted(known.__annotations__.keys() - without)
        for name in options:
            if name not in allowed:
                raise TypeError(f"{method}() has no option {name!r}; it has {', '.join(allowed)}")
        if carrier:
            options = {**options, "headers": _traced(options.get("headers"), carrier)}
        return {
            name: self._json(name, plain) if name in _JSON_OPTIONS | _ANY_JSON_OPTIONS else plain
            for name, value in options.items()
            if value is not None
            for plain in [_plain(name, name, value)]
        }

    def _barrier(self, method: str, options: Mapping[str, Any]) -> dict[str, Any]:
        if carrier := telemetry.carrier():
            headers = _traced(options.get("callback_headers"), carrier)
            options = {**options, "callback_headers": headers}
        return self._given(method, BarrierOptions, options)

    def _jsons(self, payloads: Iterable[Any]) -> list[str]:
        _check_list("payloads", payloads)
        return [self._json(f"payloads[{at}]", payload) for at, payload in enumerate(payloads)]

    def _specs(
        self, specs: Iterable[Mapping[str, Any]], carrier: Mapping[str, str] | None = None
    ) -> str:
        """A JSON array; each payload as `dumps` writes it. Which keys there are, SQL knows."""
        _check_list("specs", specs)
        written = []
        for at, spec in enumerate(specs):
            if not isinstance(spec, Mapping):
                raise _wrong(f"specs[{at}]", spec, "a dict with a payload")
            for name in spec:
                _text(f"a key of specs[{at}]", name)
            if carrier:
                spec = {**spec, "headers": _traced(spec.get("headers"), carrier)}
            items = (
                f"{json.dumps(name)}:"
                f"{self._json(f'specs[{at}].{name}', _plain(f'specs[{at}].{name}', name, value))}"
                for name, value in spec.items()
                if value is not None or name == "payload"
            )
            written.append("{" + ",".join(items) + "}")
        return "[" + ",".join(written) + "]"

    def _json(self, name: str, value: Any) -> str:
        return as_json(name, value, self._dumps)


@functools.lru_cache(maxsize=256)
def _query(statement: str, schema: str, options: tuple[str, ...]) -> sql.SQL:
    """The statement, put together once: that would cost a tenth of a send."""
    return sql.SQL(calls.bind(statement, schema, options).as_string(None))


def _each(rows: Rows) -> list[Sent]:
    return [Sent._make(row) for row in rows]


def _first(rows: Rows) -> Sent:
    return Sent._make(_row(rows))


def _row(rows: Rows) -> tuple[Any, ...]:
    return next(iter(rows))


def _value(rows: Rows) -> Any:
    return _row(rows)[0]


def _nothing(rows: Rows) -> None:
    pass


def _opened(rows: Rows) -> Opened:
    return Opened._make(_row(rows))


def _barrier_state(rows: Rows) -> BarrierState | None:
    return next(map(BarrierState._make, rows), None)


def _finished(rows: Rows) -> RunFinished:
    return RunFinished._make(_row(rows))


def _cancelled(rows: Rows) -> RunCancelled:
    return RunCancelled._make(_row(rows))


def _guarded(rows: Rows) -> Guarded:
    return Guarded._make(_row(rows))


def _traced(headers: Any, carrier: Mapping[str, str]) -> Any:
    """Headers with the carrier's, unless they name a trace of their own. What are none is left to
    whoever refuses it."""
    if not isinstance(headers, Mapping | None) or (headers and "traceparent" in headers):
        return headers
    return {**carrier, **(headers or {})}


def _epoch(name: str, epoch: int) -> dict[str, Any]:
    return {"name": _text("name", name), "epoch": _whole("epoch", epoch, 64)}


def _guard(scope: str, key: str, owner: str) -> dict[str, Any]:
    named = {"scope": scope, "key": key, "owner": owner}
    return {name: _text(name, value) for name, value in named.items()}


def _wrong(where: str, value: Any, allowed: str, hint: str | None = None) -> BadArgument:
    shown = repr(value)
    shown = shown if len(shown) <= _LONGEST_SHOWN else shown[: _LONGEST_SHOWN - 1] + "…"
    return BadArgument(
        f"{where} is {shown}, of type {type(value).__name__}; allowed: {allowed}", hint=hint
    )


def _check_list(name: str, value: Any) -> None:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise _wrong(name, value, "a list, an item each")


def _text(where: str, value: Any) -> str:
    """`value` if the server can read it as text: its refusal would end the caller's transaction."""
    if not isinstance(value, str):
        raise _wrong(where, value, "a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise no_character(where, ascii(error.object[error.start])[1:-1]) from None
    if "\0" in value:
        raise no_character(where, "\\u0000")
    return value


def _text_or_none(where: str, value: Any) -> str | None:
    return None if value is None else _text(where, value)


def _whole(where: str, value: Any, bits: int = 32) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2 ** (bits - 1):
        raise _wrong(where, value, "a whole number")
    return value


def _plain(where: str, name: str, value: Any) -> Any:
    """The value of an option as the server takes it, or `BadArgument`; as text where Python's own
    form would mean something else to the server."""
    if value is None:
        return None
    if name in _TEXT_OPTIONS:
        return _text(where, value)
    if name in _INT_OPTIONS:
        return _whole(where, value)
    if name in _SPAN_OPTIONS:
        if not isinstance(value, timedelta):
            return _text(where, value)
        return value
    if name == "sealed" and not isinstance(value, bool):
        raise _wrong(where, value, "True or False")
    if name in _JSON_OPTIONS and not isinstance(value, Mapping):
        raise _wrong(where, value, "a dict")
    if name == "event_id":
        try:
            return str(value if isinstance(value, UUID) else UUID(_text(where, value)))
        except ValueError:
            raise _wrong(where, value, "a UUID") from None
    if name == "run_at":
        if not isinstance(value, datetime):
            if not isinstance(value, str):
                hint = "write datetime.now(timezone.utc) + timedelta(minutes=15)"
                raise _wrong(where, value, "a datetime with a time zone, or a text", hint)
            return _text(where, value)
        if value.tzinfo is None:
            raise BadArgument(
                f"{where} is {value}, without a time zone",
                hint="the session's zone would be taken; datetime.now(timezone.utc) has one",
            )
        return value.isoformat()
    return value
