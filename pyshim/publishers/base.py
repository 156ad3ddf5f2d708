"""What every publisher is given, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from json.encoder import encode_basestring
from typing import Any, Protocol
from uuid import UUID

TRACE_HEADERS = ("traceparent", "tracestate", "baggage")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring(value)


class TransportDown(ConnectionError):
    """The broker cannot be reached, or takes nothing from anybody now. It says nothing about any
    message."""


class TransportGone(TransportDown):
    """The other end has left for good (a closed pipe): waiting for it is no use."""


@dataclass(frozen=True)
class Message:
    """One event on its way out. `payload` is JSON text, passed on as the database wrote it."""

    event_id: UUID
    topic: str
    message_id: int
    attempt: int
    payload: str
    enqueued_at: datetime
    group_key: str | None = None
    tenant: str | None = None
    run_id: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)

    def envelope(self) -> str:
        """The event as one line of JSON: the form in which every broker carries it."""
        return self._json(f'"attempt":{self.attempt},')

    def identity(self) -> str:
        """The envelope without `attempt`: the same text however often the event is delivered."""
        return self._json()

    def traces(self) -> dict[str, str]:
        """The trace headers that the event has, where a broker's own headers can carry them."""
        if not self.headers:
            return {}
        given = {name: self.headers.get(name) for name in TRACE_HEADERS}
        return {
            name: value
            for name, value in given.items()
            if isinstance(value, str) and value.isascii() and value.isprintable() and value
        }

    def _json(self, attempt: str = "") -> str:
        # Written out: the encoder takes three times as long for a dict of the same.
        headers = _encode(self.headers) if self.headers else "{}"
        at = self.enqueued_at.astimezone(timezone.utc).isoformat()
        return (
            f'{{"event_id":"{self.event_id}","topic":{_text(self.topic)},'
            f'"message_id":{self.message_id},{attempt}"group_key":{_text(self.group_key)},'
            f'"tenant":{_text(self.tenant)},"run_id":{_text(self.run_id)},"headers":{headers},'
            f'"enqueued_at":"{at}","payload":{self.payload}}}'
        )


@dataclass(frozen=True)
class Outcome:
    """What became of one message.

    Published; or failed with an error of its own, which charges it an attempt; or `unreached`: the
    broker's trouble, which charges nobody. A failure that is not `retryable` is the last one;
    `retry_in` stands for the topic's backoff.
    """

    error: str | None = None
    unreached: bool = False
    retryable: bool = True
    retry_in: timedelta | None = None


PUBLISHED = Outcome()


class Publisher(Protocol):
    """Sends messages to one broker."""

    async def probe(self) -> None:
        """Raise `TransportDown` unless the broker would take messages now."""

    async def publish(self, messages: Sequence[Message]) -> list[Outcome]:
        """One outcome for each message, in their order.

        `TransportDown` means that nothing is known of any of them: all will be sent again under the
        same event_id.
        """

    async def close(self) -> None:
        """Let go of the broker."""
