"""Redis: an entry in a stream, a member of a sorted set, or both.

    redis://user:password@host:6379/0?stream=events
    redis://host/0?zset=due:{topic}&stream={topic}:{group_key}&maxlen=100000

`stream`: XADD with the fields event_id, envelope, and each trace header that the event has.
`zset`: ZADD of the envelope without `attempt`, scored by when it may be worked on, in milliseconds
since 1970: the header run_at where it has one (ISO 8601 or that number), else enqueued_at. The
member of an event is always the same text, so that a redelivery adds nothing as long as the first
is still there. A name may hold {topic}, {group_key}, {tenant}, {run_id}, {event_id} and
{header.NAME}. `maxlen`: about how many entries a stream keeps; without it, all.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from pyshim.config import redact
from pyshim.errors import ConfigError
from pyshim.publishers.base import PUBLISHED, Message, Outcome, TransportDown
from pyshim.publishers.target import Name, Unfit, said

_CLIENT_OPTIONS = re.compile(r"ssl_\w+|socket_\w+|client_name|protocol|health_check_interval")
_OTHER_CODE = re.compile(r"[A-Z]{2,} ")
_LOST = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    OSError,
    asyncio.TimeoutError,
)
_TIMEOUT = 10.0


@dataclass(frozen=True)
class _Command:
    index: int
    key: Name
    words: tuple[Any, ...]


class RedisPublisher:
    """Sends a batch as one pipeline; each command has its own answer."""

    def __init__(
        self,
        client: Any,
        *,
        stream: Name | None = None,
        zset: Name | None = None,
        maxlen: int | None = None,
        timeout: float = _TIMEOUT,
        name: str = "Redis",
    ) -> None:
        self._client = client
        self._stream = stream
        self._zset = zset
        self._maxlen = maxlen
        self._timeout = timeout
        self._name = name

    @classmethod
    def from_url(cls, url: str) -> RedisPublisher:
        """The publisher for a URL as shown above. Does not connect."""
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        names = {kind: query.pop(kind) for kind in ("stream", "zset") if kind in query}
        if not any(names.values()):
            raise ConfigError(
                f"{redact(url)!r} names no key", hint="add ?stream=NAME or ?zset=NAME, or both"
            )
        if len(set(names.values())) < len(names):
            raise ConfigError("stream and zset need different names")
        maxlen = query.pop("maxlen", None)
        if maxlen is not None and (not maxlen.isdecimal() or int(maxlen) < 1):
            raise ConfigError(f"maxlen is {maxlen!r}; allowed: a whole number from 1")
        timeout = query.pop("socket_timeout", str(_TIMEOUT))
        for option in query:
            if not _CLIENT_OPTIONS.fullmatch(option):
                raise ConfigError(
                    f"unknown option {option!r} in {redact(url)!r}",
                    hint="known: stream, zset, maxlen, socket_…, ssl_…, client_name, protocol",
                )
        plain = urlunsplit(parts._replace(query=urlencode(query)))
        try:
            client = redis.asyncio.Redis.from_url(
                plain,
                retry=Retry(NoBackoff(), 0),
                socket_connect_timeout=3.0,
                # Ours is around the batch: one around each answer costs more than the answer.
                socket_timeout=None,
            )
            seconds = float(timeout)
        except ValueError:  # its words may hold a part of the password
            raise ConfigError(
                f"{redact(url)!r} is not a Redis URL",
                hint="write @ : / % in a password as %40 %3A %2F %25",
            ) from None
        return cls(
            client,
            stream=Name(names["stream"]) if names.get("stream") else None,
            zset=Name(names["zset"]) if names.get("zset") else None,
            maxlen=int(maxlen) if maxlen else None,
            timeout=seconds,
            name=f"Redis at {parts.hostname or parts.path}:{parts.port or 6379}",
        )

    async def probe(self) -> None:
        """PING. A server that loads, or refuses our password, is as good as none."""
        try:
            await asyncio.wait_for(self._client.ping(), self._timeout)
        except (redis.exceptions.RedisError, *_LOST) as error:
            raise self._down(error) from error

    async def publish(self, messages: Sequence[Message]) -> list[Outcome]:
        """Send all in one pipeline. An error is a message's own only where it cannot be anybody
        else's."""
        outcomes = [PUBLISHED] * len(messages)
        commands: list[_Command] = []
        for index, message in enumerate(messages):
            try:
                commands += self._commands(index, message)
            except Unfit as error:
                outcomes[index] = Outcome(error=str(error))
        for command, answer in zip(commands, await self._send(commands), strict=True):
            if isinstance(answer, Exception) and outcomes[command.index].error is None:
                outcomes[command.index] = _judge(command, answer)
        return outcomes

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _commands(self, index: int, message: Message) -> list[_Command]:
        commands = []
        if self._zset is not None:
            words: tuple[Any, ...] = (
                "ZADD",
                self._zset.of(message),
                _score(message),
                message.identity(),
            )
            commands.append(_Command(index, self._zset, words))
        if self._stream is not None:
            fields = {"event_id": str(message.event_id), "envelope": message.envelope()}
            fields |= message.traces()
            trim = ("MAXLEN", "~", self._maxlen) if self._maxlen else ()
            pairs = [word for pair in fields.items() for word in pair]
            words = ("XADD", self._stream.of(message), *trim, "*", *pairs)
            commands.append(_Command(index, self._stream, words))
        return commands

    async def _send(self, commands: list[_Command]) -> list[Any]:
        if not commands:
            return []
        try:
            return await asyncio.wait_for(self._exchange(commands), self._timeout)
        except _LOST as error:
            raise self._down(error) from error

    async def _exchange(self, commands: list[_Command]) -> list[Any]:
        """What a pipeline of redis-py does, at a third of its price."""
        pool = self._client.connection_pool
        connection = await pool.get_connection()
        try:
            await connection.send_packed_command(b"".join(_packed(each.words) for each in commands))
            return [await _answer(connection) for _ in commands]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)

    def _down(self, error: Exception) -> TransportDown:
        return TransportDown(f"{self._name}: {said(error)}")


def _packed(words: Sequence[Any]) -> bytes:
    """A command as it goes over the wire."""
    pieces = [b"*%d\r\n" % len(words)]
    for word in words:
        text = word.encode() if isinstance(word, str) else str(word).encode()
        pieces.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(pieces)


async def _answer(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except redis.exceptions.ResponseError as error:
        return error


def _score(message: Message) -> int:
    run_at = message.headers.get("run_at")
    if run_at is None:
        return _milliseconds(message.enqueued_at)
    try:
        if isinstance(run_at, int | float) and not isinstance(run_at, bool):
            return int(run_at)
        at = datetime.fromisoformat(str(run_at).replace("Z", "+00:00"))
    except (ValueError, OverflowError):
        raise Unfit(f"header run_at is {str(run_at)[:40]!r}, not an instant") from None
    return _milliseconds(at if at.tzinfo else at.replace(tzinfo=timezone.utc))


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _judge(command: _Command, answer: Exception) -> Outcome:
    """Whose error it is.

    WRONGTYPE is the message's where its key is; with the key of all, nobody would fare better.
    What Redis says with ERR of a well-formed command is about its values. Everything else (OOM,
    READONLY, NOPERM, MISCONF, …) is about the server, whoever asks.
    """
    text = f"{command.words[0]} {command.words[1]}: {answer}"
    own = type(answer) is redis.exceptions.ResponseError and (
        command.key.is_own
        if str(answer).startswith("WRONGTYPE")
        else not _OTHER_CODE.match(str(answer)) and "unknown command" not in str(answer)
    )
    return Outcome(error=text, unreached=not own)
