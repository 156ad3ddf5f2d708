"""NATS JetStream: a message on a subject that a stream takes.

    nats://user:password@host:4222,host2:4222?subject=orders.{topic}&stream=ORDERS
    tls://token@host:4222?subject={topic}.{group_key}

`subject` (default {topic}) may hold the placeholders of `target.Name`. `stream`: the stream that
has to take it. `timeout` (10s): how long acknowledgements may take. The envelope is the data, the
event_id the Nats-Msg-Id, by which the stream drops repeats within its duplicate window; the trace
headers go as headers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from pyshim.errors import ConfigError
from pyshim.publishers.base import PUBLISHED, Message, Outcome, TransportDown
from pyshim.publishers.target import Name, Unfit, options, said, seconds, shown, split

_SUBJECT = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_CONNECT_TIMEOUT = 3.0
_NO_RESPONDERS = "503"
_OTHER_STREAM = 10060
_TOO_LARGE = 10054
_STORE_FAILED = 10077
_LOST = (nats.errors.Error, OSError, asyncio.TimeoutError)

# The answer to one message: an acknowledgement, an error of JetStream's, or that nobody listens.
_Answer = dict[str, Any]
_TAKEN: _Answer = {"stream": ""}
_NOBODY: _Answer = {"error": {"description": "nobody takes it"}}


class NatsPublisher:
    """Sends a batch at once and then waits for the acknowledgement of each."""

    def __init__(
        self,
        servers: Sequence[str],
        subject: Name,
        *,
        stream: str | None = None,
        timeout: float = 10.0,
        login: dict[str, str] | None = None,
    ) -> None:
        self._servers = list(servers)
        self._subject = subject
        self._stream = stream
        self._timeout = timeout
        self._login = login or {}
        self._client: Client | None = None
        self._inbox = ""
        self._awaited: dict[str, int] = {}  # what has no answer yet: its token, its place
        self._answers: list[_Answer | Outcome | None] = []
        self._all = asyncio.Event()
        self._sent = 0
        self._lost = asyncio.Event()
        self._last_error: Exception | None = None

    @classmethod
    def from_url(cls, url: str) -> NatsPublisher:
        """The publisher for a URL as shown above. Does not connect."""
        parts = split(url, "NATS")
        given = options(url, parts.query, ("subject", "stream", "timeout"))
        if parts.path.strip("/"):
            raise ConfigError(
                f"{shown(url)!r} is followed by a path", hint="the subject is an option: ?subject="
            )
        user, _, hosts = parts.netloc.rpartition("@")
        name, colon, password = user.partition(":")
        login = {}
        if colon:
            login = {"user": unquote(name), "password": unquote(password)}
        elif name:
            login = {"token": unquote(name)}
        servers = [f"{parts.scheme}://{host}" for host in hosts.split(",") if host]
        for server in servers:
            split(server, "NATS")
        return cls(
            servers,
            Name(given.get("subject", "{topic}")),
            stream=given.get("stream") or None,
            timeout=seconds(given, "timeout", 10.0),
            login=login,
        )

    async def probe(self) -> None:
        """Connect, and a round trip. Whether a stream takes our subject is said when we send: to
        ask before, a user would need more rights than to send."""
        client = await self._connected()
        try:
            await client.flush(timeout=int(_CONNECT_TIMEOUT))
        except _LOST as error:
            await self.close()
            raise self._down(error) from error

    async def publish(self, messages: Sequence[Message]) -> list[Outcome]:
        """Send all, then wait. What was not acknowledged in time, or before the connection broke,
        is unreached."""
        client = await self._connected()
        self._last_error = None
        answers: list[_Answer | Outcome | None] = [None] * len(messages)
        self._answers = answers
        try:
            await asyncio.wait_for(self._send(client, messages), self._timeout)
            await self._acknowledged()
            nobody = any(answer is _NOBODY for answer in answers)
            is_served = not nobody or await self._serves_streams(client)
        except _LOST as error:
            self._last_error = error
            is_served = False
        finally:
            self._awaited.clear()
        down = Outcome(error=f"{self._where()}: {self._reason()}", unreached=True)
        outcomes = [
            self._judge(message, answer, is_served) or down
            for message, answer in zip(messages, answers, strict=True)
        ]
        late = any(answer is None for answer in answers)
        if late or self._lost.is_set():
            await self.close()
        return outcomes

    async def close(self) -> None:
        """Close the connection; a server that does not answer is not waited for."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.close(), _CONNECT_TIMEOUT)

    async def _connected(self) -> Client:
        if self._client is not None and self._client.is_connected and not self._lost.is_set():
            return self._client
        await self.close()
        self._last_error = None
        lost = asyncio.Event()
        client = Client()
        try:
            await asyncio.wait_for(self._connect(client, lost), 2 * _CONNECT_TIMEOUT)
        except (*_LOST, ValueError) as error:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.close(), _CONNECT_TIMEOUT)
            raise self._down(self._last_error or error) from error
        self._client, self._lost = client, lost
        return client

    async def _connect(self, client: Client, lost: asyncio.Event) -> None:
        async def gone() -> None:
            lost.set()

        # Each server is asked once or twice; to come back is the relay's, which claims nothing
        # meanwhile.
        await client.connect(
            servers=list(self._servers),
            name="tidegate relay",
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=int(_CONNECT_TIMEOUT),
            flush_timeout=self._timeout,
            error_cb=self._note,
            disconnected_cb=gone,
            closed_cb=gone,
            user=self._login.get("user"),
            password=self._login.get("password"),
            token=self._login.get("token"),
        )
        # One inbox for all answers, as requests have; the futures of nats-py's publish_async never
        # hear of an error.
        self._inbox = client.new_inbox()
        await client.subscribe(f"{self._inbox}.*", cb=self._hear)

    async def _hear(self, message: Msg) -> None:
        place = self._awaited.pop(message.subject.rpartition(".")[2], None)
        if place is None:
            return
        self._answers[place] = _answer(message)
        if not self._awaited:
            self._all.set()

    async def _send(self, client: Client, messages: Sequence[Message]) -> None:
        always = {} if self._stream is None else {"Nats-Expected-Stream": self._stream}
        subjects: dict[str, str] = {}  # of topics, where a message has none of its own
        for place, message in enumerate(messages):
            try:
                subject = subjects.get(message.topic) or self._subject_of(message)
                if not self._subject.is_own:
                    subjects[message.topic] = subject
                headers = {"Nats-Msg-Id": str(message.event_id), **always, **message.traces()}
                data = message.envelope().encode()
                # "NATS/1.0" and an empty line; ": " and a line's end for each.
                size = len(data) + 12 + sum(len(n) + len(v) + 4 for n, v in headers.items())
                if size > client.max_payload:
                    raise Unfit(f"{size} bytes; the server takes {client.max_payload}")
            except Unfit as error:
                self._answers[place] = Outcome(error=str(error))
                continue
            # Never used again: a late answer to a batch that was given up is nobody else's.
            self._sent += 1
            self._awaited[str(self._sent)] = place
            await client.publish(
                subject, data, reply=f"{self._inbox}.{self._sent}", headers=headers
            )

    async def _acknowledged(self) -> None:
        """Until all are, or the time is over, or the connection is."""
        if not self._awaited:
            return
        self._all.clear()
        lost = asyncio.ensure_future(self._lost.wait())
        everything = asyncio.ensure_future(self._all.wait())
        try:
            await asyncio.wait(
                {lost, everything},
                timeout=self._timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            lost.cancel()
            everything.cancel()

    def _subject_of(self, message: Message) -> str:
        subject = self._subject.of(message)
        if not _SUBJECT.fullmatch(subject):
            raise Unfit(f"{subject!r} is no subject: parts between dots, without blanks, * and >")
        return subject

    def _judge(
        self, message: Message, answer: _Answer | Outcome | None, is_served: bool
    ) -> Outcome | None:
        """Whose error it is; None where nothing came back.

        That no stream takes a subject is the message's where the subject is its own, and so is a
        limit per subject; with the subject of all, nobody would fare better. Too large is always
        its own. Everything else (no space, no leader, no rights) is about the server.
        """
        if answer is None or isinstance(answer, Outcome):
            return answer
        error = answer.get("error")
        if error is None:
            return PUBLISHED
        code, text = error.get("err_code"), str(error.get("description"))
        if answer is _NOBODY:
            own = self._subject.is_own and is_served
            text = f"no stream takes the subject {self._subject.of(message)!r}"
        elif code == _STORE_FAILED:
            own = self._subject.is_own and "per subject" in text
        else:
            own = code == _TOO_LARGE or (code == _OTHER_STREAM and self._subject.is_own)
        suffix = f" (error {code})" if code else ""
        return Outcome(error=f"{self._where()}: {text}{suffix}", unreached=not own)

    async def _serves_streams(self, client: Client) -> bool:
        """Whether JetStream is there. A user who may not ask is told yes."""
        try:
            answer = await client.request("$JS.API.INFO", timeout=_CONNECT_TIMEOUT)
            return "error" not in json.loads(answer.data)
        except (nats.errors.NoRespondersError, ValueError):
            return False
        except _LOST:
            return True

    async def _note(self, error: Exception) -> None:
        self._last_error = error

    def _reason(self) -> str:
        return said(self._last_error) if self._last_error else "no acknowledgement in time"

    def _where(self) -> str:
        return f"NATS at {','.join(server.partition('://')[2] for server in self._servers)}"

    def _down(self, error: Exception) -> TransportDown:
        return TransportDown(f"{self._where()}: {said(error)}")


def _answer(message: Msg) -> _Answer:
    """What came back for a message."""
    data = message.data
    if data.startswith(b'{"stream":') and b'"error"' not in data:
        return _TAKEN
    if (message.headers or {}).get("Status") == _NO_RESPONDERS:
        return _NOBODY
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if isinstance(answer, dict) and ("stream" in answer or "error" in answer):
        return answer
    return {"error": {"description": "an answer that is none of JetStream's"}}
