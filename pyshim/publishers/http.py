"""HTTP: a POST an event, as a CloudEvent, signed as Standard Webhooks are.

    https://user:password@host/hook?theirs=1#mode=binary&secret_env=HOOK_SECRET

What stands after # is ours and never sent. `mode`: binary (the payload is the body, the event's
attributes are ce- headers), structured (one JSON object, the payload its data), or envelope (what
every other broker carries). `secret_env` or `secret_file`: where the signing secret is, as
whsec_BASE64; several, with blanks between, sign all (to change it without a gap).
`source` and `type`: the CloudEvents attributes, with placeholders (defaults tidegate/{topic} and
{topic}). `concurrency` (16) requests run at once, each for at most `timeout` (10s).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urldefrag

import aiohttp

from pyshim.errors import ConfigError
from pyshim.publishers.base import PUBLISHED, Message, Outcome, TransportDown
from pyshim.publishers.target import Name, Unfit, options, said, seconds, shown, split, whole

_OPTIONS = ("mode", "secret_env", "secret_file", "source", "type", "concurrency", "timeout")
_MODES = ("binary", "structured", "envelope")
_EXTENSION = re.compile(r"[a-z0-9]{1,20}")
_RETRYABLE = frozenset({408, 425, 429})
_LONGEST_WAIT = timedelta(days=1)
_CONNECT_TIMEOUT = 3.0
_SECOND_TRY = 0.5
_LONGEST_ANSWER = 65_536
_NOT_EXTENSIONS = frozenset({"data", "datacontenttype", "dataschema"})
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


@dataclass(frozen=True)
class _Suspect:
    """Sent, and then nothing, or half of something, came back: ours, theirs, or this message's?"""

    text: str
    may_repeat: bool


class HttpPublisher:
    """Sends so many requests at once, and judges each by its answer."""

    def __init__(
        self,
        url: str,
        *,
        mode: str = "binary",
        secrets: Sequence[bytes] = (),
        source: Name = Name("tidegate/{topic}"),  # noqa: B008
        type: Name = Name("{topic}"),  # noqa: B008
        concurrency: int = 16,
        timeout: float = 10.0,
    ) -> None:
        self._url = url
        self._where = shown(url)
        self._mode = mode
        self._secrets = tuple(secrets)
        self._source = source
        self._type = type
        self._concurrency = concurrency
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_url(cls, url: str) -> HttpPublisher:
        """The publisher for a URL as shown above. Does not connect."""
        plain, fragment = urldefrag(url)
        if not split(url, "HTTP").hostname:
            raise ConfigError(f"{shown(url)!r} names no host")
        given = options(url, fragment, _OPTIONS)
        mode = given.get("mode", _MODES[0])
        if mode not in _MODES:
            raise ConfigError(f"mode is {mode!r}; allowed: {', '.join(_MODES)}")
        return cls(
            plain,
            mode=mode,
            secrets=_secrets(given),
            source=Name(given.get("source", "tidegate/{topic}")),
            type=Name(given.get("type", "{topic}")),
            concurrency=whole(given, "concurrency", 16),
            timeout=seconds(given, "timeout", 10.0),
        )

    async def probe(self) -> None:
        """HEAD: whatever it answers, somebody is there."""
        timeout = aiohttp.ClientTimeout(total=2 * _CONNECT_TIMEOUT, sock_read=_CONNECT_TIMEOUT)
        try:
            async with self._http().head(self._url, allow_redirects=False, timeout=timeout):
                pass
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise TransportDown(f"{self._where}: {said(error)}") from error

    async def publish(self, messages: Sequence[Message]) -> list[Outcome]:
        """One request a message. After the first that could not connect, the others of the batch
        are not tried."""
        answers: list[Outcome | _Suspect | None] = [None] * len(messages)
        await self._all(messages, answers, range(len(messages)))
        broken = [
            index
            for index, answer in enumerate(answers)
            if isinstance(answer, _Suspect) and answer.may_repeat
        ]
        if broken:
            # Connections break when a server is stopped, and when it chokes on a message: who
            # breaks a second one, of a server that is there, is charged.
            await asyncio.sleep(_SECOND_TRY)
            await self._all(messages, answers, broken)
        down: str | None = None
        if any(isinstance(answer, _Suspect) for answer in answers):
            try:
                await self.probe()
            except TransportDown as error:
                down = str(error)
        return [
            Outcome(error=down or answer.text, unreached=down is not None)
            if isinstance(answer, _Suspect)
            else answer or Outcome(error=f"{self._where}: not tried", unreached=True)
            for answer in answers
        ]

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(
                    total=self._timeout, sock_connect=min(_CONNECT_TIMEOUT, self._timeout)
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"user-agent": "tidegate"},
                auto_decompress=False,
            )
        return self._session

    async def _all(
        self,
        messages: Sequence[Message],
        answers: list[Outcome | _Suspect | None],
        indexes: Sequence[int],
    ) -> None:
        left = iter(indexes)
        refused = False

        async def work() -> None:
            nonlocal refused
            for index in left:
                if refused:
                    return
                answer = answers[index] = await self._post(messages[index])
                refused = refused or (isinstance(answer, Outcome) and answer.unreached)

        workers = [asyncio.ensure_future(work()) for _ in range(self._concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()

    async def _post(self, message: Message) -> Outcome | _Suspect:
        try:
            headers, body = self._request(message)
        except Unfit as error:
            return Outcome(error=str(error))
        headers |= message.traces() | self._signed(message, body)
        answer: Outcome | None = None
        try:
            # What we sign is for the host that was named: no redirects.
            async with self._http().post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:
                answer = _judge(self._where, response)
                # The rest of a short answer, so that its connection can be used again.
                await response.content.read(_LONGEST_ANSWER)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return answer or Outcome(error=f"{self._where}: {said(error)}", unreached=True)
        except asyncio.TimeoutError:
            text = f"{self._where}: no answer within {self._timeout:g} s"
            return answer or _Suspect(text, may_repeat=False)
        except (aiohttp.ClientError, OSError) as error:
            text = f"{self._where}: the connection broke ({said(error)})"
            return answer or _Suspect(text, may_repeat=True)
        return answer

    def _request(self, message: Message) -> tuple[dict[str, str], bytes]:
        if self._mode == "envelope":
            return {"content-type": "application/json"}, message.envelope().encode()
        event = self._event(message)
        if self._mode == "structured":
            text = json.dumps({**event, "datacontenttype": "application/json"}, ensure_ascii=False)
            body = f'{text[:-1]}, "data": {message.payload}}}'
            return {"content-type": "application/cloudevents+json"}, body.encode()
        headers = {f"ce-{name}": _header(value) for name, value in event.items()}
        return {**headers, "content-type": "application/json"}, message.payload.encode()

    def _event(self, message: Message) -> dict[str, Any]:
        """The attributes: required, of Tidegate, and the event's own headers where they can be."""
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": str(message.event_id),
            "source": self._source.of(message),
            "type": self._type.of(message),
            "time": message.enqueued_at.astimezone(timezone.utc).isoformat(),
            "partitionkey": message.group_key,
            "tenant": message.tenant,
            "runid": message.run_id,
            "attempt": message.attempt,
            **message.traces(),
        }
        for name, value in message.headers.items():
            fits = _EXTENSION.fullmatch(name) and isinstance(value, str | int)
            if fits and name not in _NOT_EXTENSIONS:
                event.setdefault(name, value)
        return {name: value for name, value in event.items() if value is not None and value != ""}

    def _signed(self, message: Message, body: bytes) -> dict[str, str]:
        identity, now = str(message.event_id), str(int(time.time()))
        headers = {"webhook-id": identity, "webhook-timestamp": now}
        if self._secrets:
            signed = f"{identity}.{now}.".encode() + body
            headers["webhook-signature"] = " ".join(
                "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
                for key in self._secrets
            )
        return headers


def _judge(where: str, response: aiohttp.ClientResponse) -> Outcome:
    """2xx is published. What the receiver may like better later is tried later, when it says so;
    the other 4xx are final."""
    status = response.status
    if 200 <= status < 300:
        return PUBLISHED
    text = f"{where}: {status} {response.reason or ''}".rstrip()
    if 300 <= status < 400:
        return Outcome(error=f"{text}: redirects are not followed")
    retryable = status >= 500 or status in _RETRYABLE
    retry_in = _retry_in(response.headers) if retryable else None
    return Outcome(error=text, retryable=retryable, retry_in=retry_in)


def _retry_in(headers: Mapping[str, str]) -> timedelta | None:
    """What Retry-After says: seconds, or a date."""
    text = (headers.get("retry-after") or "").strip()
    if text.isdecimal() and text.isascii():
        return min(timedelta(seconds=min(int(text[:9]), 10**8)), _LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    wait = (at if at.tzinfo else at.replace(tzinfo=timezone.utc)) - datetime.now(timezone.utc)
    return max(timedelta(0), min(wait, _LONGEST_WAIT))


def _header(value: object) -> str:
    """A CloudEvents attribute as a header: what is not printable ASCII is percent-encoded."""
    text = value if isinstance(value, str) else json.dumps(value)
    return quote(text.encode("utf-8", "replace"), safe=_PRINTABLE)


def _secrets(given: Mapping[str, str]) -> list[bytes]:
    """The signing keys that the options name. No word of them is ever shown."""
    if "secret_env" in given and "secret_file" in given:
        raise ConfigError("secret_env and secret_file are both given: give one")
    if "secret_env" in given:
        source = f"the variable {given['secret_env']}"
        text = os.environ.get(given["secret_env"], "")
    elif "secret_file" in given:
        source = f"the file {given['secret_file']}"
        try:
            text = Path(given["secret_file"]).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ConfigError(f"cannot read the signing secret in {source}: {reason}") from None
    else:
        return []
    keys = []
    for word in text.split():
        try:
            keys.append(base64.b64decode(word.removeprefix("whsec_"), validate=True))
        except (binascii.Error, ValueError):
            keys.append(b"")
    if not keys or min(map(len, keys)) < 24:
        raise ConfigError(
            f"{source} holds no signing secret: whsec_ and at least 24 bytes in base64",
            hint='make one: echo "whsec_$(openssl rand -base64 32)"',
        )
    return keys
