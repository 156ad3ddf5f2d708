"""Events as CloudEvents over HTTP, and what the receiver's answer means for each."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from pyshim.errors import ConfigError
from pyshim.publishers import Outcome, TransportDown, publisher_for
from tests.fake_http import Request, fake_http
from tests.messages import TRACE, message

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def always(reply: Any) -> Callable[[Request], Awaitable[Any]]:
    async def answer(request: Request) -> Any:
        return reply

    return answer


async def _published(url: str, *messages: Any) -> list[Outcome]:
    publisher = publisher_for(url)
    try:
        return await publisher.publish(list(messages))
    finally:
        await publisher.close()


async def test_an_event_is_a_binary_cloudevent_with_the_payload_untouched() -> None:
    async with fake_http(always(204)) as (url, heard):
        event = message(
            group_key="Zoë 7%",
            tenant="acme",
            headers={"traceparent": TRACE, "region": "eu", "id": "not mine", "x-other": "left out"},
        )
        (outcome,) = await _published(f"{url}/hook?theirs=1#source=shop/{{tenant}}", event)
    assert outcome == Outcome()
    (request,) = heard
    assert request.path == "/hook?theirs=1", "what follows # is not sent"
    assert request.body.decode() == event.payload
    sent = {name: value for name, value in request.headers.items() if name.startswith("ce-")}
    assert sent == {
        "ce-specversion": "1.0",
        "ce-id": str(UUID(int=1)),
        "ce-source": "shop/acme",
        "ce-type": "orders",
        "ce-time": "2024-05-06T07:08:09.250000+00:00",
        "ce-partitionkey": "Zo%C3%AB%207%25",
        "ce-tenant": "acme",
        "ce-attempt": "1",
        "ce-traceparent": TRACE,
        "ce-region": "eu",
    }
    assert request.headers["content-type"] == "application/json"
    assert request.headers["traceparent"] == TRACE
    assert request.id == str(UUID(int=1))


async def test_an_event_may_be_one_json_object() -> None:
    async with fake_http(always(200)) as (url, heard):
        await _published(f"{url}#mode=structured&type=com.acme.{{topic}}", message(headers={}))
        await _published(f"{url}#mode=envelope", message())
    structured, envelope = heard
    assert structured.headers["content-type"] == "application/cloudevents+json"
    assert structured.body.decode().endswith(f'"data": {message().payload}}}')
    assert json.loads(structured.body) == {
        "specversion": "1.0",
        "id": str(UUID(int=1)),
        "source": "tidegate/orders",
        "type": "com.acme.orders",
        "time": "2024-05-06T07:08:09.250000+00:00",
        "attempt": 1,
        "datacontenttype": "application/json",
        "data": {"price": 10.0, "name": "Zoë"},
    }
    assert envelope.body.decode() == message().envelope()


@pytest.mark.parametrize("where", ["env", "file"])
async def test_id_time_and_body_are_signed_with_every_secret(
    where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    older = "whsec_" + base64.b64encode(bytes(24)).decode()
    monkeypatch.setenv("HOOK_SECRET", f"{SECRET} {older}")
    (tmp_path / "secret").write_text(f"{SECRET}\n{older}\n")
    option = "secret_env=HOOK_SECRET" if where == "env" else f"secret_file={tmp_path}/secret"
    async with fake_http(always(200)) as (url, heard):
        await _published(f"{url}#{option}", message())
    (request,) = heard
    stamp = request.headers["webhook-timestamp"]
    assert abs(int(stamp) - datetime.now(timezone.utc).timestamp()) < 60
    signed = f"{request.id}.{stamp}.".encode() + request.body
    expected = [
        "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        for key in (KEY, bytes(24))
    ]
    assert request.headers["webhook-signature"].split(" ") == expected


@pytest.mark.parametrize("secret", [None, "", "whsec_c2hvcnQ=", "hunter2-is-not-base64"])
def test_a_secret_that_cannot_sign_is_refused_and_not_shown(
    secret: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if secret is not None:
        monkeypatch.setenv("HOOK_SECRET", secret)
    with pytest.raises(ConfigError, match="variable HOOK_SECRET holds no signing secret") as raised:
        publisher_for("https://h/x#secret_env=HOOK_SECRET")
    assert not secret or secret not in str(raised.value)


def _in(seconds: float) -> str:
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("status", "headers", "retryable", "between"),
    [
        (400, {}, False, None),
        (404, {"retry-after": "5"}, False, None),
        (410, {}, False, None),
        (408, {}, True, None),
        (425, {}, True, None),
        (429, {"retry-after": "120"}, True, (120, 120)),
        (500, {}, True, None),
        (503, {"retry-after": _in(3600)}, True, (3000, 3600)),
        (503, {"retry-after": _in(-3600)}, True, (0, 0)),
        (503, {"retry-after": "9" * 40}, True, (86400, 86400)),
        (503, {"retry-after": "soon"}, True, None),
        (302, {"location": "http://elsewhere.example/"}, True, None),
    ],
)
async def test_a_refusal_is_the_events_own_and_says_whether_and_when_to_try_again(
    status: int, headers: dict[str, str], retryable: bool, between: tuple[int, int] | None
) -> None:
    async def answer(request: Request) -> Any:
        return (status, headers) if request.id == str(UUID(int=7)) else 200

    async with fake_http(answer) as (url, heard):
        outcomes = await _published(url, *(message(number) for number in range(20)))
    failed = [(n, outcome) for n, outcome in enumerate(outcomes) if outcome != Outcome()]
    assert [n for n, _ in failed] == [7]
    assert len(heard) == 20
    outcome = failed[0][1]
    assert str(status) in (outcome.error or "")
    assert (outcome.unreached, outcome.retryable) == (False, retryable)
    wait = None if outcome.retry_in is None else outcome.retry_in.total_seconds()
    if between is None:
        assert wait is None
    else:
        assert wait is not None
        assert between[0] <= wait <= between[1]


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_receiver_that_is_not_there_charges_nobody() -> None:
    url = f"http://127.0.0.1:{_closed_port()}/"
    outcomes = await _published(url, *(message(number) for number in range(50)))
    assert {outcome.unreached for outcome in outcomes} == {True}
    publisher = publisher_for(url)
    with pytest.raises(TransportDown, match=r"http://127\.0\.0\.1:\d+: "):
        await publisher.probe()
    await publisher.close()


async def test_a_connection_that_breaks_once_is_tried_again_with_the_same_id() -> None:
    seen: list[str] = []

    async def answer(request: Request) -> Any:
        seen.append(request.id)
        return None if seen.count(request.id) == 1 and request.id == str(UUID(int=3)) else 200

    async with fake_http(answer) as (url, _):
        outcomes = await _published(url, *(message(number) for number in range(5)))
    assert outcomes == [Outcome()] * 5
    assert seen.count(str(UUID(int=3))) == 2


async def test_an_event_on_which_the_receiver_hangs_up_or_falls_silent_is_charged_alone() -> None:
    async def answer(request: Request) -> Any:
        if request.id == str(UUID(int=4)):
            await asyncio.sleep(5)
        return None if request.id == str(UUID(int=3)) else 200

    async with fake_http(answer) as (url, _):
        outcomes = await _published(f"{url}#timeout=300ms", *(message(n) for n in range(6)))
    assert [n for n, outcome in enumerate(outcomes) if outcome.error] == [3, 4]
    assert "the connection broke" in (outcomes[3].error or "")
    assert "no answer within 0.3 s" in (outcomes[4].error or "")
    assert not any(outcome.unreached for outcome in outcomes)


async def test_a_receiver_that_answers_nobody_charges_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    monkeypatch.setattr("pyshim.publishers.http._CONNECT_TIMEOUT", 0.3)
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        outcomes = await _published(
            f"http://127.0.0.1:{port}/#timeout=300ms", message(1), message(2)
        )
    assert [outcome.unreached for outcome in outcomes] == [True, True]


async def test_so_many_requests_run_at_once_and_no_more() -> None:
    running = most = 0

    async def answer(request: Request) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return 200

    async with fake_http(answer) as (url, _):
        await _published(f"{url}#concurrency=4", *(message(number) for number in range(30)))
    assert most == 4


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("https:///path", "what follows https:// is not a URL for HTTP"),
        ("https://user:hunter2/@h/", "what follows https:// is not a URL for HTTP"),
        ("https://h/hunter2?k=hunter2#color=red", "unknown option 'color' in 'https://h'"),
        ("https://h/hunter2#mode=loud", "mode is 'loud'"),
        ("https://h/#concurrency=0", "concurrency is '0'"),
        ("https://h/#timeout=0s", "timeout is '0s'"),
        ("https://h/#type={nope}", "unknown placeholder {nope}"),
        ("https://h/#secret_env=A&secret_file=B", "both given"),
        ("https://h/#secret_file=/nowhere/at/all", "cannot read the signing secret"),
    ],
)
def test_a_target_that_cannot_work_is_refused_without_its_secrets(target: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        publisher_for(target)
    assert said in str(raised.value)
    assert "hunter2" not in str(raised.value)
