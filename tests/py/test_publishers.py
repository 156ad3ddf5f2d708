"""Envelopes, targets, and whose error an error of a broker is."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from uuid import UUID

import pytest

from pyshim.errors import ConfigError
from pyshim.publishers import TransportDown, TransportGone, publisher_for
from pyshim.publishers.redis import RedisPublisher
from pyshim.publishers.stdout import StdoutPublisher
from tests.fake_redis import fake_redis
from tests.messages import TRACE
from tests.messages import message as _message


def test_the_envelope_is_one_line_of_json_with_the_payload_untouched() -> None:
    line = _message(headers={"traceparent": TRACE}, group_key="g", tenant="t").envelope()
    assert "\n" not in line
    assert '"payload":{"price": 10.00, "name": "Zoë"}' in line
    assert json.loads(line) == {
        "event_id": "00000000-0000-0000-0000-000000000001",
        "topic": "orders",
        "message_id": 1,
        "attempt": 1,
        "group_key": "g",
        "tenant": "t",
        "run_id": None,
        "headers": {"traceparent": TRACE},
        "enqueued_at": "2024-05-06T07:08:09.250000+00:00",
        "payload": {"price": 10.0, "name": "Zoë"},
    }


def test_the_identity_is_the_same_for_every_attempt() -> None:
    assert _message(attempt=1).identity() == _message(attempt=2).identity()
    assert _message(attempt=1).envelope() != _message(attempt=2).envelope()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("carrier://pigeon", "unknown target 'carrier://pigeon'"),
        ("redis://h/0", "names no key"),
        ("redis://h/0?stream=", "names no key"),
        ("redis://h/0?stream=a&zset=a", "different names"),
        ("redis://h/0?stream=a&maxlen=many", "maxlen is 'many'"),
        ("redis://h/0?stream=a&color=red", "unknown option 'color'"),
        ("redis://h/0?stream={nope}", "unknown placeholder {nope}"),
        ("redis://h:port/0?stream=a", "is not a Redis URL"),
    ],
)
def test_a_target_that_cannot_work_is_refused_with_what_was_seen(target: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        publisher_for(target)
    assert said in str(raised.value)


def test_a_missing_redis_package_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyshim.publishers.redis", None)
    with pytest.raises(ConfigError, match="needs the package redis") as raised:
        publisher_for("redis://h/0?stream=a")
    assert "pip install '.[redis]' in a checkout" in (raised.value.hint or "")


@pytest.mark.parametrize(
    "target",
    [
        "redis://user:hunter2@h/0?color=red&stream=x",
        "redis://user:hunter2/x@h/0?stream=x",
        "redis//:hunter2@h/0?stream=x",
        "user:hunter2@h/0",
    ],
)
def test_a_password_in_a_refused_target_is_not_shown(target: str) -> None:
    with pytest.raises(ConfigError) as raised:
        publisher_for(target)
    assert "hunter2" not in str(raised.value)


async def test_stdout_writes_one_envelope_a_line() -> None:
    out = io.StringIO()
    outcomes = await StdoutPublisher(out).publish([_message(1), _message(2)])
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert [json.loads(line)["message_id"] for line in out.getvalue().splitlines()] == [1, 2]


async def test_a_reader_that_hangs_up_is_gone_for_good() -> None:
    class Hung(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    with pytest.raises(TransportGone):
        await StdoutPublisher(Hung()).publish([_message()])


async def test_redis_gets_a_stream_entry_and_a_member_scored_by_its_time() -> None:
    async with fake_redis(lambda words: ":1") as (url, heard):
        publisher = publisher_for(f"{url}?protocol=2&stream=s:{{topic}}&zset=due&maxlen=1000")
        message = _message(headers={"traceparent": TRACE, "run_at": "2024-06-01T00:00:00Z"})
        outcomes = await publisher.publish([message, _message(2)])
        await publisher.close()
    assert [outcome.error for outcome in outcomes] == [None, None]
    zadd, xadd, zadd_2, xadd_2 = heard
    assert zadd == ["ZADD", "due", "1717200000000", message.identity()]
    assert xadd == [
        *("XADD", "s:orders", "MAXLEN", "~", "1000", "*"),
        *("event_id", str(message.event_id), "envelope", message.envelope()),
        *("traceparent", TRACE),
    ]
    assert zadd_2[2] == "1714979289250"
    assert xadd_2[6:] == ["event_id", str(UUID(int=2)), "envelope", _message(2).envelope()]


async def test_a_message_that_lacks_what_the_key_asks_for_fails_alone() -> None:
    async with fake_redis(lambda words: ":1") as (url, heard):
        publisher = publisher_for(f"{url}?protocol=2&stream={{group_key}}:{{header.region}}")
        outcomes = await publisher.publish(
            [
                _message(1, group_key="g", headers={"region": "eu"}),
                _message(2, headers={"region": "eu"}),
                _message(3, group_key="g"),
            ]
        )
        await publisher.close()
    assert [words[1] for words in heard] == ["g:eu"]
    assert [outcome.unreached for outcome in outcomes] == [False] * 3
    assert outcomes[0].error is None
    assert "the event has no group_key" in (outcomes[1].error or "")
    assert "the event has no header.region" in (outcomes[2].error or "")


async def test_a_wrong_type_under_the_messages_own_key_is_its_own_error() -> None:
    wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value"
    async with fake_redis(lambda words: wrong if words[1] == "7" else "+1-1") as (url, _):
        publisher = publisher_for(f"{url}?protocol=2&stream={{group_key}}")
        messages = [_message(number, group_key=str(number)) for number in range(500)]
        outcomes = await publisher.publish(messages)
        await publisher.close()
    failed = [(n, outcome) for n, outcome in enumerate(outcomes) if outcome.error]
    assert [n for n, _ in failed] == [7]
    assert not failed[0][1].unreached
    assert failed[0][1].error == f"XADD 7: {wrong[1:]}"


@pytest.mark.parametrize(
    ("reply", "unreached"),
    [
        ("-WRONGTYPE Operation against a key holding the wrong kind of value", True),
        ("-OOM command not allowed when used memory > 'maxmemory'.", True),
        ("-READONLY You can't write against a read only replica.", True),
        ("-MASTERDOWN Link with MASTER is down", True),
        ("-CLUSTERDOWN The cluster is down", True),
        ("-NOPERM this user has no permissions", True),
        ("-MISCONF Redis is configured to save RDB snapshots", True),
        ("-NOREPLICAS Not enough good replicas to write.", True),
        ("-MOVED 3999 127.0.0.1:6381", True),
        ("-ERR unknown command 'XADD'", True),
        ("-ERR Elements are too large to be stored", False),
    ],
)
async def test_an_error_about_the_server_is_nobodys_fault(reply: str, unreached: bool) -> None:
    async with fake_redis(lambda words: reply) as (url, _):
        publisher = publisher_for(f"{url}?protocol=2&stream=fixed")
        (outcome,) = await publisher.publish([_message()])
        await publisher.close()
    assert outcome.error is not None
    assert outcome.unreached is unreached
    assert "Zo" not in outcome.error, "no payload in an error"


@pytest.mark.parametrize(
    "reply",
    [None, "-LOADING Redis is loading the dataset in memory", "-NOAUTH Authentication required."],
)
async def test_a_server_that_hangs_up_loads_or_shuts_us_out_is_a_transport_that_is_down(
    reply: str | None,
) -> None:
    async with fake_redis(lambda words: reply) as (url, _):
        publisher = publisher_for(f"{url}?protocol=2&stream=fixed")
        with pytest.raises(TransportDown):
            await publisher.publish([_message(), _message(2)])
        with pytest.raises(TransportDown):
            await publisher.probe()
        await publisher.close()


async def test_a_server_that_does_not_answer_is_down_after_the_socket_timeout() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        publisher = RedisPublisher.from_url(
            f"redis://127.0.0.1:{port}/0?protocol=2&stream=s&socket_timeout=0.3"
        )
        with pytest.raises(TransportDown):
            await publisher.publish([_message()])
        await publisher.close()
