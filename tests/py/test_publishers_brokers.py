"""NATS, RabbitMQ and Kafka without a server: targets, and whose error an error is."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
from aiormq import exceptions as amqp
from confluent_kafka import KafkaError

from pyshim.errors import ConfigError
from pyshim.publishers import Outcome, TransportDown, publisher_for
from tests.brokers import free_port
from tests.messages import TRACE, message


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nats://h:4222/orders", "is followed by a path"),
        ("nats://h:4222?color=red", "unknown option 'color' in 'nats://h:4222'"),
        ("nats://h:4222?subject={nope}", "unknown placeholder {nope}"),
        ("nats://u:hunter2/@h:4222?subject=a", "what follows nats:// is not a URL for NATS"),
        ("nats://hunter2@h:4222?color=red", "unknown option 'color' in 'nats://h:4222'"),
        ("nats://?subject=a", "what follows nats:// is not a URL for NATS"),
        ("nats://h:port,g:4222?subject=a", "what follows nats:// is not a URL for NATS"),
        ("amqp://u:hunter2@h/", "names neither exchange nor queue"),
        ("amqp://u:hunter2@h/?exchange=a&color=red", "unknown option 'color' in 'amqp://h'"),
        ("amqp://h/?exchange=a&timeout=no", "timeout is 'no'"),
        ("kafka://u:hunter2@h:9092/", "'kafka://h:9092' names no topic"),
        ("kafka://h:9092/t?color=red", "unknown option 'color'"),
        ("kafka://h:9092/t?ssl.key.password=hunter2", "unknown option 'ssl.key.password'"),
        ("kafka://h:9092/t?security.protocol=odd", "security.protocol"),
        ("kafka://h:9092/{nope}", "unknown placeholder {nope}"),
    ],
)
def test_a_target_that_cannot_work_is_refused_without_its_secrets(target: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        publisher_for(target)
    assert said in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("target", "package", "extra"),
    [
        ("nats://h?subject=a", "nats-py", "nats"),
        ("tls://h?subject=a", "nats-py", "nats"),
        ("amqp://h/?exchange=a", "aiormq", "rabbitmq"),
        ("kafka://h/t", "confluent-kafka", "kafka"),
        ("https://h/", "aiohttp", "http"),
    ],
)
def test_a_missing_package_is_told_with_its_extra(
    target: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, f"pyshim.publishers.{extra}", None)
    with pytest.raises(ConfigError, match=f"needs the package {package}") as raised:
        publisher_for(target)
    assert f"pip install '.[{extra}]'" in (raised.value.hint or "")


@pytest.mark.parametrize("scheme", ["nats://{}?subject=a", "amqp://{}/?exchange=a"])
async def test_a_server_that_is_not_there_is_a_transport_that_is_down(scheme: str) -> None:
    publisher = publisher_for(scheme.format(f"u:hunter2@127.0.0.1:{free_port()}"))
    for attempt in (publisher.probe(), publisher.publish([message()])):
        with pytest.raises(TransportDown, match=r"at 127\.0\.0\.1:\d+: ") as raised:
            await attempt
        assert "hunter2" not in str(raised.value)
    await publisher.close()


class FakeProducer:
    """A producer whose broker refuses every record of a request that holds a large one."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.delivered: list[dict[str, Any]] = []
        self.requests = 0
        self._waiting: list[tuple[dict[str, Any], Callable[..., None]]] = []

    def produce(self, topic: str, value: bytes, **rest: Any) -> None:
        report = rest.pop("on_delivery")
        self._waiting.append(({"topic": topic, "value": value, **rest}, report))

    def flush(self, timeout: float) -> int:
        waiting, self._waiting = self._waiting, []
        self.requests += 1
        is_refused = any(len(record["value"]) > 5000 for record, _ in waiting)
        for record, report in waiting:
            if not is_refused:
                self.delivered.append(record)
            report(KafkaError(self.code) if is_refused else None, None)
        return 0

    def purge(self) -> None:
        self._waiting = []

    def __len__(self) -> int:
        return len(self._waiting)


@pytest.mark.parametrize(
    ("target", "code", "own"),
    [
        ("kafka://h/orders", KafkaError.MSG_SIZE_TOO_LARGE, True),
        ("kafka://h/orders", KafkaError.INVALID_RECORD, True),
        ("kafka://h/orders", KafkaError.TOPIC_AUTHORIZATION_FAILED, False),
        ("kafka://h/orders.{tenant}", KafkaError.TOPIC_AUTHORIZATION_FAILED, True),
        ("kafka://h/orders.{tenant}", KafkaError.NOT_ENOUGH_REPLICAS, False),
    ],
)
async def test_what_a_broker_says_of_one_record_is_not_its_neighbours(
    target: str, code: int, own: bool
) -> None:
    publisher = publisher_for(target)
    producer = FakeProducer(code)
    publisher._producer = producer  # type: ignore[attr-defined]
    large = message(2, tenant="acme", payload='"' + "x" * 6000 + '"')
    batch = [
        message(1, tenant="acme", group_key="g", headers={"traceparent": TRACE}),
        large,
        message(3, tenant="acme"),
    ]
    outcomes = await publisher.publish(batch)
    assert (outcomes[1].error or "").startswith("Kafka at h: ")
    assert outcomes[1].unreached is not own
    if code in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD):
        assert (outcomes[0], outcomes[2]) == (Outcome(), Outcome())
        assert producer.requests == 4
        assert producer.delivered[0]["key"] == b"g"
        assert producer.delivered[0]["headers"] == {
            "event_id": str(batch[0].event_id),
            "traceparent": TRACE,
        }
    else:
        assert outcomes[0].unreached is not own


async def test_a_record_without_a_report_is_unreached_and_forgotten() -> None:
    class Silent(FakeProducer):
        def flush(self, timeout: float) -> int:
            return len(self)

    publisher = publisher_for("kafka://h/orders")
    producer = Silent(0)
    publisher._producer = producer  # type: ignore[attr-defined]
    outcomes = await publisher.publish([message(1), message(2)])
    assert [outcome.unreached for outcome in outcomes] == [True, True]
    assert len(producer) == 0, "it would arrive after the retry"


@pytest.mark.parametrize(
    ("target", "error", "own"),
    [
        ("routing_key=q", amqp.DeliveryError(None, None), False),
        ("routing_key={tenant}", amqp.DeliveryError(None, None), True),
        ("routing_key={tenant}", amqp.ChannelNotFoundEntity("no exchange"), False),
        ("routing_key={tenant}", amqp.ChannelAccessRefused("no rights"), False),
        ("routing_key=q", amqp.ChannelPreconditionFailed("too large"), True),
        ("routing_key={tenant}", asyncio.TimeoutError(), False),
        ("routing_key={tenant}", ConnectionError("gone"), False),
    ],
)
async def test_an_error_of_rabbitmq_is_the_events_where_it_can_be_nobody_elses(
    target: str, error: Exception, own: bool
) -> None:
    publisher = publisher_for(f"amqp://u:p@h/?{target}")

    async def send(messages: Any) -> list[Exception]:
        return [error] * len(messages)

    publisher._send = send  # type: ignore[attr-defined]
    (outcome,) = await publisher.publish([message(tenant="acme")])
    assert outcome.unreached is not own
    assert (outcome.error or "").startswith("RabbitMQ at h")


def test_trace_headers_that_no_broker_could_carry_stay_in_the_envelope() -> None:
    event = message(headers={"traceparent": TRACE, "tracestate": "a\r\nb", "baggage": 7})
    assert event.traces() == {"traceparent": TRACE}
    assert '"baggage":7' in event.envelope()
