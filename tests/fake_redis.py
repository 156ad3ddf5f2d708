"""A server that speaks just enough of the protocol of Redis to say what a test wants to hear."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

Answer = Callable[[list[str]], "str | None"]


@contextlib.asynccontextmanager
async def fake_redis(answer: Answer) -> AsyncIterator[tuple[str, list[list[str]]]]:
    """Listens on a free port; `answer` gets each command and says a raw reply, or None to hang
    up."""
    heard: list[list[str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            while True:
                count = int((await reader.readuntil(b"\r\n"))[1:])
                words = []
                for _ in range(count):
                    size = int((await reader.readuntil(b"\r\n"))[1:])
                    words.append((await reader.readexactly(size + 2))[:-2].decode())
                if words[0] in ("CLIENT", "HELLO", "SELECT"):
                    reply: str | None = "-ERR unknown" if words[0] == "HELLO" else "+OK"
                else:
                    heard.append(words)
                    reply = answer(words)
                if reply is None:
                    break
                writer.write(reply.encode() + b"\r\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"redis://127.0.0.1:{port}/0", heard
