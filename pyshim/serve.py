"""`/metrics`, `/healthz` and `/readyz` on one port: for Prometheus, and for whoever restarts us.

The smallest HTTP that these need: one GET a connection, its head bounded in size and time, answered
and closed. No request body is read and nothing is ever written to the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from pyshim import calls, logs
from pyshim.errors import ConfigError
from pyshim.meter import OWN, Meter, Sample, exposition
from pyshim.session import Opener, Session

log = logging.getLogger("tidegate")

STALE_CONSUMER = 60.0
STALE_MAINTAINER = 30.0

_HEAD_LIMIT = 8192
_HEAD_TIMEOUT = 5.0
_MOST_CONNECTIONS = 32
_SCRAPE_TIMEOUT = 2.0  # of the statement
_SCRAPE_DEADLINE = 3.0  # of all that is asked of the database, connecting included
_GIVING_UP = 1.0  # what an answer waits beyond it: a query that hangs is not quickly cancelled
_READY_FOR = 2.0  # seconds that an answer of /readyz is good for
_TEXT = "text/plain; charset=utf-8"
_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
_REQUEST = re.compile(rb"([!-~]+) (/[^\s?#]*)(?:\?\S*)? HTTP/1\.[01]\r?\n")
_ALLOWED = (b"GET", b"HEAD")
_PATHS = ("/metrics", "/healthz", "/readyz")
_LABEL = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*")

# Labels that samples have themselves, or that Prometheus gives to every target.
RESERVED = frozenset(
    "kind channel place outcome reason state holder upkeep table routine version loop le how what"
    " job instance".split()
)


@dataclass(frozen=True)
class Address:
    """Where to listen. An empty host is every interface, port 0 any that is free."""

    host: str
    port: int


def address(option: str, value: str) -> Address:
    """`host:port`, `:port`, `[::1]:port`."""
    host, colon, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in bare and bare == host):
        raise ConfigError(
            f"{option} is {value!r}; allowed: HOST:PORT, as in 127.0.0.1:9187, :9187, [::1]:9187"
        )
    return Address(bare, int(port))


def label(option: str, value: str) -> tuple[str, str]:
    """`name=value`, a name that is still free."""
    name, equals, text = value.partition("=")
    if not equals or not _LABEL.fullmatch(name):
        raise ConfigError(
            f"{option} is {value!r}; allowed: NAME=VALUE, the name of letters, digits and _"
        )
    if name in RESERVED:
        raise ConfigError(
            f"{option} is {value!r}; there is a label {name} already",
            hint=f"not one of {', '.join(sorted(RESERVED))}",
        )
    return name, text


_Scraped = tuple[list[Sample], dict[str, tuple[str, str]]]  # samples, and what they mean


class Endpoint:
    """The three answers. `opener` opens a connection to a schema that fits, or raises."""

    def __init__(
        self, opener: Opener, schema: str, meter: Meter, labels: Mapping[str, str] | None = None
    ) -> None:
        self._opener = opener
        self._meter = meter
        self._labels = dict(labels or {})
        self._session = Session(opener, schema, timeout=_SCRAPE_TIMEOUT)
        self._scraping: asyncio.Task[_Scraped | None] | None = None
        self._ready: tuple[float, str | None] = (float("-inf"), None)
        self._looking: asyncio.Task[str | None] | None = None
        self._connections = 0

    async def start(self, at: Address) -> asyncio.Server:
        """Listen."""
        try:
            server = await asyncio.start_server(
                self._serve, at.host or None, at.port, limit=_HEAD_LIMIT
            )
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {at.host}:{at.port}: {error.strerror or error}",
                hint="another process may have the port: --listen takes another one",
            ) from None
        where = sorted({f"{s.getsockname()[0]}:{s.getsockname()[1]}" for s in server.sockets})
        logs.event(log, logging.INFO, "listening", address=", ".join(where))
        return server

    async def close(self) -> None:
        """Let go of the connection."""
        for task in (self._scraping, self._looking):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._session.close()

    async def metrics(self) -> str:
        """Prometheus' text: what the database says, within four seconds, and what this process
        counts."""
        began = time.monotonic()
        meanings: dict[str, tuple[str, str]] = dict(OWN)
        found: list[Sample] = []
        is_up = False
        # Whoever comes while one is under way gets the same answer.
        if self._scraping is None or self._scraping.done():
            self._scraping = asyncio.ensure_future(self._scrape())
        scraping = self._scraping
        await asyncio.wait({scraping}, timeout=_SCRAPE_DEADLINE + _GIVING_UP)
        if scraping.done() and not scraping.cancelled() and (scraped := scraping.result()):
            found, told = scraped
            meanings |= told
            is_up = True
        own = [
            Sample("tidegate_up", {}, int(is_up)),
            Sample("tidegate_scrape_duration_seconds", {}, time.monotonic() - began),
        ]
        return exposition([*own, *self._meter.samples(), *found], meanings, self._labels)

    async def _scrape(self) -> _Scraped | None:
        """None when it failed: there may be nobody left who would read an exception."""
        try:
            rows = await asyncio.wait_for(self._session.call(calls.METRICS, {}), _SCRAPE_DEADLINE)
        except Exception as error:
            logs.event(log, logging.DEBUG, "scrape failed", error=error)
            await self._session.close()
            return None
        except BaseException:
            await self._session.close()
            raise
        samples = [Sample(row.name, row.labels, row.value) for row in rows]
        return samples, {row.name: (row.type, row.help) for row in rows}

    async def _unready(self) -> str | None:
        """Why the database cannot be worked with; None when it can, and is."""
        if self._meter.awaited is not None:
            return self._meter.awaited
        at, answer = self._ready
        if time.monotonic() - at < _READY_FOR:
            return answer
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        return await asyncio.shield(self._looking)

    async def _look(self) -> str | None:
        answer = None
        try:
            connection = await asyncio.wait_for(self._opener(), _SCRAPE_DEADLINE)
            await connection.close()
        except asyncio.TimeoutError:
            answer = "the database does not answer"
        except Exception as error:
            answer = logs.one_line(error)
        self._ready = time.monotonic(), answer
        return answer

    async def _answer(self, path: str) -> tuple[int, str, str]:
        """Status, kind and text of an answer."""
        if path == "/metrics":
            return 200, _EXPOSITION, await self.metrics()
        if path == "/healthz":
            stale = self._meter.stale()
            fine = f"ok, {awaited}" if (awaited := self._meter.awaited) else "ok"
            return (503 if stale else 200), _TEXT, "\n".join([*(stale or [fine]), ""])
        if path == "/readyz":
            why = await self._unready()
            return (503 if why else 200), _TEXT, f"{why or 'ok'}\n"
        return 404, _TEXT, "there are /metrics, /healthz and /readyz\n"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections > _MOST_CONNECTIONS:
                await _reply(writer, 503, _TEXT, "too many connections\n")
                return
            head = await asyncio.wait_for(reader.readuntil(b"\n"), _HEAD_TIMEOUT)
            request = _REQUEST.fullmatch(head)
            if request is None:
                await _reply(writer, 400, _TEXT, "GET /metrics HTTP/1.1\n")
                return
            await asyncio.wait_for(_read_headers(reader), _HEAD_TIMEOUT)
            path = request[2].decode("ascii", "replace")
            if request[1] not in _ALLOWED and path in _PATHS:
                await _reply(writer, 405, _TEXT, f"GET {path}\n", allowed=_ALLOWED)
                return
            status, kind, text = await self._answer(path)
            await _reply(writer, status, kind, text, with_body=request[1] != b"HEAD")
        except (asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # garbage, or nobody there
        except (ConnectionError, OSError):
            pass
        except Exception as error:  # a mistake of ours must not end in a traceback a second
            logs.event(log, logging.ERROR, "not served", error=error)
        finally:
            self._connections -= 1
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()


async def _read_headers(reader: asyncio.StreamReader) -> None:
    """Up to the empty line; what they say does not matter."""
    left = _HEAD_LIMIT
    while (line := await reader.readuntil(b"\n")).strip():
        left -= len(line)
        if left < 0:
            raise asyncio.LimitOverrunError("too long a head", 0)


_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


async def _reply(
    writer: asyncio.StreamWriter,
    status: int,
    kind: str,
    text: str,
    *,
    with_body: bool = True,
    allowed: Sequence[bytes] = (),
) -> None:
    body = text.encode()
    allow = f"Allow: {', '.join(each.decode() for each in allowed)}\r\n" if allowed else ""
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n{allow}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + (body if with_body else b""))
    await asyncio.wait_for(writer.drain(), _HEAD_TIMEOUT)


async def serving(endpoint: Endpoint, at: Address, work: Callable[[], Awaitable[None]]) -> None:
    """Answer while `work` runs."""
    server = await endpoint.start(at)
    try:
        await work()
    finally:
        server.close()
        await endpoint.close()
