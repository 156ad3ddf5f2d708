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
        self._answers: dict[str, asyncio.Future[_Answer]] = {}
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
        answers: list[asyncio.Future[_Answer] | Outcome] = []
        try:
            await asyncio.wait_for(self._send(client, messages, answers), self._timeout)
            await self._acknowledged()
            is_served = _NOBODY not in map(_answer, answers) or await self._serves_streams(client)
        except _LOST as error:
            self._last_error = error
            is_served = False
        finally:
            late = len(self._answers) + len(messages) - len(answers)
            for future in self._answers.values():
                future.cancel()
            self._answers.clear()
        down = Outcome(error=f"{self._where()}: {self._reason()}", unreached=True)
        outcomes = [
            self._judge(message, answer, is_served) or down
            for message, answer in zip(messages, answers, strict=False)
        ]
        if late or self._lost.is_set():
            await self.close()
        return outcomes + [down] * (len(messages) - len(outcomes))

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
        future = self._answers.get(message.subject.rpartition(".")[2])
        if future is None or future.done():
            return
        if (message.headers or {}).get("Status") == _NO_RESPONDERS:
            future.set_result(_NOBODY)
            return
        try:
            answer = json.loads(message.data)
        except ValueError:
            answer = None
        known = isinstance(answer, dict) and ("stream" in answer or "error" in answer)
        strange = {"error": {"description": "an answer that is none of JetStream's"}}
        future.set_result(answer if known else strange)

    async def _send(
        self,
        client: Client,
        messages: Sequence[Message],
        answers: list[asyncio.Future[_Answer] | Outcome],
    ) -> None:
        for message in messages:
            try:
                subject = self._subject_of(message)
                headers = {"Nats-Msg-Id": str(message.event_id), **message.traces()}
                if self._stream is not None:
                    headers["Nats-Expected-Stream"] = self._stream
                data = message.envelope().encode()
                # "NATS/1.0" and an empty line; ": " and a line's end for each.
                size = len(data) + 12 + sum(len(n) + len(v) + 4 for n, v in headers.items())
                if size > client.max_payload:
                    raise Unfit(f"{size} bytes; the server takes {client.max_payload}")
            except Unfit as error:
                answers.append(Outcome(error=str(error)))
                continue
            future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
            # Never used again: a late answer to a batch that was given up is nobody else's.
            self._sent += 1
            self._answers[str(self._sent)] = future
            answers.append(future)
            await client.publish(
                subject, data, reply=f"{self._inbox}.{self._sent}", headers=headers
            )

    async def _acknowledged(self) -> None:
        """Until all are, or the time is over, or the connection is."""
        if not self._answers:
            return
        lost = asyncio.ensure_future(self._lost.wait())
        everything = asyncio.ensure_future(asyncio.wait(self._answers.values()))
        try:
            await asyncio.wait(
                {lost, everything},
                timeout=self._timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            lost.cancel()
            everything.cancel()
        self._answers = {n: future for n, future in self._answers.items() if not future.done()}

    def _subject_of(self, message: Message) -> str:
        subject = self._subject.of(message)
        if not _SUBJECT.fullmatch(subject):
            raise Unfit(f"{subject!r} is no subject: parts between dots, without blanks, * and >")
        return subject

    def _judge(
        self, message: Message, answer: asyncio.Future[_Answer] | Outcome, is_served: bool
    ) -> Outcome | None:
        """Whose error it is; None where nothing came back.

        That no stream takes a subject is the message's where the subject is its own, and so is a
        limit per subject; with the subject of all, nobody would fare better. Too large is always
        its own. Everything else (no space, no leader, no rights) is about the server.
        """
        if isinstance(answer, Outcome):
            return answer
        heard = _answer(answer)
        if heard is None:
            return None
        error = heard.get("error")
        if error is None:
            return PUBLISHED
        code, text = error.get("err_code"), str(error.get("description"))
        if heard is _NOBODY:
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


def _answer(given: asyncio.Future[_Answer] | Outcome) -> _Answer | None:
    if isinstance(given, Outcome) or not given.done() or given.cancelled():
        return None
    return given.result()
