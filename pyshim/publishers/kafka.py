"""Kafka: a record in a topic, by an idempotent producer, the group_key its key.

    kafka://user:password@host:9092,host2:9092/orders?security.protocol=SASL_SSL
    kafka://host:9092/{topic}.{tenant}

The path is the topic, with the placeholders of `target.Name`. `timeout` (10s): how long a delivery
may take. Further options are librdkafka's: security.protocol, sasl.mechanism, ssl.…, client.id,
compression.type, message.max.bytes, batch.size. The envelope is the value, the event_id and the
trace headers are headers; partitions are chosen as Java's client does.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote

from confluent_kafka import KafkaError, KafkaException, Producer

from pyshim.errors import ConfigError
from pyshim.publishers.base import PUBLISHED, Message, Outcome, TransportDown
from pyshim.publishers.target import Name, Unfit, said, seconds, shown, split

_THEIRS = re.compile(
    r"security\.protocol|sasl\.mechanisms?|ssl\.(?!.*password)[a-z.]+|client\.id|compression\.type"
    r"|message\.max\.bytes|batch\.size"
)
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_CONNECT_TIMEOUT = 5.0

# A broker refuses the whole of a produce request: neighbours get these errors too.
_OF_SOME_RECORD = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError._INVALID_DIFFERENT_RECORD,
    }
)
_OF_THE_TOPIC = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)

# What librdkafka logs of lost connections is for the loop to say, once.
_log = logging.getLogger("confluent_kafka")
_log.addHandler(logging.NullHandler())


class KafkaPublisher:
    """Hands a batch to the producer and waits for the delivery report of each."""

    def __init__(
        self,
        servers: str,
        topic: Name,
        *,
        timeout: float = 10.0,
        settings: dict[str, str] | None = None,
    ) -> None:
        self._where = f"Kafka at {servers}"
        self._topic = topic
        self._timeout = timeout
        self._settings: dict[str, Any] = {
            "client.id": "tidegate-relay",
            "partitioner": "murmur2_random",
            **(settings or {}),
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "message.timeout.ms": int(timeout * 1000),
            "topic.metadata.propagation.max.ms": int(min(timeout, _CONNECT_TIMEOUT) * 1000),
            "log_level": 3,
        }
        self._producer: Producer | None = None
        self._last_error: KafkaError | None = None

    @classmethod
    def from_url(cls, url: str) -> KafkaPublisher:
        """The publisher for a URL as shown above. Does not connect."""
        parts = split(url, "Kafka")
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        ours = {"timeout": given.pop("timeout")} if "timeout" in given else {}
        for option in given:
            if not _THEIRS.fullmatch(option):
                raise ConfigError(
                    f"unknown option {option!r} in {shown(url)!r}",
                    hint="known: timeout, security.protocol, sasl.mechanism, ssl.…, client.id,"
                    " compression.type, message.max.bytes, batch.size",
                )
        topic = unquote(parts.path.strip("/"))
        if not topic:
            raise ConfigError(
                f"{shown(url)!r} names no topic", hint="kafka://host:9092/TOPIC, or /{topic}"
            )
        login, _, servers = parts.netloc.rpartition("@")
        if login:
            user, _, password = login.partition(":")
            given["sasl.username"], given["sasl.password"] = unquote(user), unquote(password)
            given.setdefault("sasl.mechanism", "PLAIN")
            given.setdefault("security.protocol", "SASL_SSL")
        made = cls(servers, Name(topic), timeout=seconds(ours, "timeout", 10.0), settings=given)
        try:
            made._open()
        except KafkaException as error:
            raise ConfigError(f"{shown(url)!r}: {_text(error)}") from None
        return made

    async def probe(self) -> None:
        """Ask for the metadata of the cluster."""
        self._last_error = None
        try:
            await asyncio.to_thread(self._open().list_topics, timeout=_CONNECT_TIMEOUT)
        except KafkaException as error:
            text = self._last_error.str() if self._last_error else _text(error)
            raise TransportDown(f"{self._where}: {text}") from error

    async def publish(self, messages: Sequence[Message]) -> list[Outcome]:
        """Produce all, then wait for their reports. A record that a broker refuses takes others of
        its request with it: those are sent once more, one by one."""
        self._last_error = None
        reports = await self._send(messages)
        suspects = [
            index
            for index, report in enumerate(reports)
            if isinstance(report, KafkaError) and report.code() in _OF_SOME_RECORD
        ]
        if len(messages) > 1:
            for index in suspects:
                reports[index] = (await self._send([messages[index]]))[0]
        return [self._judge(report) for report in reports]

    async def close(self) -> None:
        """Forget what was not delivered: the events are still there."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            await asyncio.to_thread(producer.flush, 1.0)

    def _open(self) -> Producer:
        if self._producer is None:
            self._producer = Producer({**self._settings, "error_cb": self._note}, logger=_log)
        return self._producer

    async def _send(self, messages: Sequence[Message]) -> list[KafkaError | Unfit | None]:
        """What became of each; None is delivered."""
        producer = self._open()
        late = KafkaError(KafkaError._MSG_TIMED_OUT)
        reports: list[KafkaError | Unfit | None] = [late] * len(messages)

        def reporter(index: int) -> Callable[[KafkaError | None, object], None]:
            def report(error: KafkaError | None, _: object) -> None:
                reports[index] = error

            return report

        for index, message in enumerate(messages):
            try:
                topic = self._topic.of(message)
                if not _TOPIC.fullmatch(topic):
                    raise Unfit(f"{topic!r} is no name of a topic")
                producer.produce(
                    topic,
                    message.envelope().encode(),
                    key=None if message.group_key is None else message.group_key.encode(),
                    headers={"event_id": str(message.event_id), **message.traces()},
                    on_delivery=reporter(index),
                )
            except Unfit as error:
                reports[index] = error
            except BufferError:
                reports[index] = KafkaError(KafkaError._QUEUE_FULL)
            except KafkaException as error:
                reports[index] = error.args[0]
        try:
            await asyncio.to_thread(producer.flush, self._timeout + 1.0)
        finally:
            if len(producer) > 0 or any(
                isinstance(report, KafkaError) and report.fatal() for report in reports
            ):
                # What is late would arrive later still, and after a fatal error nothing does.
                producer.purge()
                self._producer = None
        return reports

    def _judge(self, report: KafkaError | Unfit | None) -> Outcome:
        """Whose error it is: what a broker says of a record sent alone is that record's, and what
        it says of a topic where the topic is the message's own. Everything else is about the
        cluster."""
        if report is None:
            return PUBLISHED
        if isinstance(report, Unfit):
            return Outcome(error=str(report))
        own = report.code() in _OF_SOME_RECORD or (
            report.code() in _OF_THE_TOPIC and self._topic.is_own
        )
        late = report.code() == KafkaError._MSG_TIMED_OUT
        text = report.str() if not (late and self._last_error) else self._last_error.str()
        return Outcome(error=f"{self._where}: {text}", unreached=not own)

    def _note(self, error: KafkaError) -> None:
        self._last_error = error


def _text(error: KafkaException) -> str:
    first = error.args[0] if error.args else error
    return first.str() if isinstance(first, KafkaError) else said(error)
