"""RabbitMQ: a persistent message to an exchange, confirmed, and to some queue.

    amqp://user:password@host:5672/vhost?exchange=events&routing_key=orders.{tenant}

`exchange` (default: the one without a name, where a routing key is the name of a queue) must be
there. `routing_key` (default {topic}) may hold the placeholders of `target.Name`. `timeout` (10s):
how long confirmations may take. Further options are aiormq's (heartbeat, cafile, certfile, …). The
envelope is the body, the event_id the message_id; the trace headers go as headers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlunsplit

import aiormq
import aiormq.abc
import aiormq.exceptions

from pyshim.errors import ConfigError
from pyshim.publishers.base import PUBLISHED, Message, Outcome, TransportDown
from pyshim.publishers.target import Name, Unfit, said, seconds, shown, split

_OURS = ("exchange", "routing_key", "timeout")
_THEIRS = re.compile(r"heartbeat|cafile|capath|cadata|certfile|keyfile|no_verify_ssl|auth|name")
_CONNECT_TIMEOUT = 5.0
_LONGEST_KEY = 255
_PERSISTENT = 2

# It logs each lost connection, which is for the loop to say, once.
logging.getLogger("aiormq").addHandler(logging.NullHandler())


class RabbitmqPublisher:
    """Sends a batch at once over one channel and then waits for the confirmation of each."""

    def __init__(
        self,
        url: str,
        *,
        exchange: str = "",
        routing_key: Name = Name("{topic}"),  # noqa: B008
        timeout: float = 10.0,
    ) -> None:
        self._url = url
        self._where = f"RabbitMQ at {shown(url).partition('://')[2]}"
        self._exchange = exchange
        self._key = routing_key
        self._timeout = timeout
        self._connection: aiormq.abc.AbstractConnection | None = None
        self._channel: aiormq.abc.AbstractChannel | None = None

    @classmethod
    def from_url(cls, url: str) -> RabbitmqPublisher:
        """The publisher for a URL as shown above. Does not connect."""
        parts = split(url, "RabbitMQ")
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        ours = {name: given.pop(name) for name in _OURS if name in given}
        for option in given:
            if not _THEIRS.fullmatch(option):
                raise ConfigError(
                    f"unknown option {option!r} in {shown(url)!r}",
                    hint=f"known: {', '.join(_OURS)}, heartbeat, cafile, certfile, keyfile, auth",
                )
        if not ours.get("exchange") and not ours.get("routing_key"):
            raise ConfigError(
                f"{shown(url)!r} names neither exchange nor queue",
                hint="add ?exchange=NAME&routing_key=KEY, or ?routing_key=QUEUE",
            )
        return cls(
            urlunsplit(parts._replace(query=urlencode({"name": "tidegate relay", **given}))),
            exchange=ours.get("exchange", ""),
            routing_key=Name(ours.get("routing_key", "{topic}")),
            timeout=seconds(ours, "timeout", 10.0),
        )

    async def probe(self) -> None:
        """Connect, and a round trip."""
        channel = await self._opened()
        try:
            await channel.basic_qos(prefetch_count=1, timeout=_CONNECT_TIMEOUT)
        except Exception as error:
            await self.close()
            raise self._down(error) from error

    async def publish(self, messages: Sequence[Message]) -> list[Outcome]:
        """Send all, then wait. A message that makes the server close the channel takes the others
        of its batch with it: those that were not confirmed are sent once more, one by one."""
        answers = await self._send(messages)
        refused = aiormq.exceptions.ChannelPreconditionFailed
        if len(messages) > 1 and any(isinstance(answer, refused) for answer in answers):
            for index, answer in enumerate(answers):
                if isinstance(answer, Exception) and not _is_own(answer):
                    answers[index] = (await self._send([messages[index]]))[0]
        return [self._judge(*each) for each in zip(messages, answers, strict=True)]

    async def close(self) -> None:
        """Close the connection; a server that does not answer is not waited for."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), 1.0)

    async def _opened(self) -> aiormq.abc.AbstractChannel:
        if self._channel is not None and not self._channel.is_closed:
            return self._channel
        try:
            if self._connection is None or self._connection.is_closed:
                self._connection = await asyncio.wait_for(
                    aiormq.connect(self._url), _CONNECT_TIMEOUT
                )
            self._channel = await asyncio.wait_for(
                self._connection.channel(publisher_confirms=True, on_return_raises=True),
                _CONNECT_TIMEOUT,
            )
        except Exception as error:
            await self.close()
            raise self._down(error) from error
        return self._channel

    async def _send(self, messages: Sequence[Message]) -> list[Exception | None]:
        """What each was answered; None is a confirmation."""
        channel = await self._opened()
        sent = [asyncio.ensure_future(self._publish(channel, each)) for each in messages]
        try:
            answers = await asyncio.gather(*sent, return_exceptions=True)
        except asyncio.CancelledError:
            await self.close()
            raise
        finally:
            for task in sent:
                task.cancel()
        # A future that the library cancelled is a connection that was lost.
        errors = [
            answer if isinstance(answer, Exception | None) else ConnectionError("connection lost")
            for answer in answers
        ]
        closed = aiormq.exceptions.ChannelClosed
        if any(error and not _is_own(error) and not isinstance(error, closed) for error in errors):
            await self.close()
        elif any(isinstance(error, closed) for error in errors):
            self._channel = None
        return errors

    async def _publish(self, channel: aiormq.abc.AbstractChannel, message: Message) -> None:
        key = self._key.of(message)
        if len(key.encode()) > _LONGEST_KEY:
            raise Unfit(f"its routing key has more than {_LONGEST_KEY} bytes")
        headers: dict[str, Any] = {**message.traces()}
        await asyncio.wait_for(
            channel.basic_publish(
                message.envelope().encode(),
                exchange=self._exchange,
                routing_key=key,
                mandatory=True,
                properties=aiormq.spec.Basic.Properties(
                    content_type="application/json",
                    delivery_mode=_PERSISTENT,
                    message_id=str(message.event_id),
                    timestamp=message.enqueued_at,
                    headers=headers,
                ),
            ),
            self._timeout,
        )

    def _judge(self, message: Message, error: Exception | None) -> Outcome:
        """Whose error it is.

        Unroutable, or refused by a queue, is the message's where its routing key is its own; with
        the key of all, nobody would fare better. What closes a channel by itself is its own.
        Everything else (no exchange, no rights, no answer) is about the server.
        """
        if error is None:
            return PUBLISHED
        if isinstance(error, Unfit):
            return Outcome(error=str(error))
        own = self._key.is_own
        if isinstance(error, aiormq.exceptions.PublishError):
            text = f"no queue takes the routing key {self._key.of(message)!r}"
        elif isinstance(error, aiormq.exceptions.DeliveryError):
            text = f"a queue refused it (is one full?); routing key {self._key.of(message)!r}"
        else:
            own = isinstance(error, aiormq.exceptions.ChannelPreconditionFailed)
            late = isinstance(error, asyncio.TimeoutError)
            text = "no confirmation in time" if late else said(error)
        exchange = f", exchange {self._exchange!r}" if self._exchange else ""
        return Outcome(error=f"{self._where}{exchange}: {text}", unreached=not own)

    def _down(self, error: Exception) -> TransportDown:
        return TransportDown(f"{self._where}: {said(error)}")


def _is_own(error: Exception) -> bool:
    """Whether an answer to one message leaves the channel as it is."""
    return isinstance(error, Unfit | aiormq.exceptions.DeliveryError)
