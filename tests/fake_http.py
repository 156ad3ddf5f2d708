"""A receiver of webhooks that answers what a test wants to hear."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

STATUS = {200: "OK", 204: "No Content", 302: "Found", 404: "Not Found", 503: "Service Unavailable"}


@dataclass
class Request:
    """What was posted."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The event_id."""
        return self.headers["webhook-id"]


Answer = Callable[[Request], "Awaitable[int | tuple[int, dict[str, str]] | None]"]


@contextlib.asynccontextmanager
async def fake_http(answer: Answer) -> AsyncIterator[tuple[str, list[Request]]]:
    """Listens on a free port; `answer` gets each POST and says a status, or one with headers, or
    None to hang up. HEAD is always answered with 405."""
    heard: list[Request] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError
        ):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                fields = [line.split(": ", 1) for line in head[1:] if line]
                headers = {name.lower(): value for name, value in fields}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if method == "HEAD":
                    said: object = 405
                else:
                    heard.append(Request(path, headers, body))
                    said = await answer(heard[-1])
                if said is None:
                    break
                status, more = said if isinstance(said, tuple) else (said, {})
                lines = [f"HTTP/1.1 {status} {STATUS.get(status, 'Whatever')}"]
                lines += [f"{name}: {value}" for name, value in more.items()]
                writer.write("\r\n".join([*lines, "content-length: 0", "", ""]).encode())
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", heard
        server.close()
