"""The processes that run the sync handlers of a queue, as the worker sees them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable

from pyshim import child
from pyshim.handling import Outcome, timed_out
from pyshim.registry import MOST_RESULT_BYTES

_START_TIMEOUT = 60.0
_END_TIMEOUT = 2.0
_LONGEST_ANSWER = 4 * MOST_RESULT_BYTES  # a result, with escapes in it, and little else


class CannotStart(Exception):
    """A process did not come up: no message is to blame."""


class Children:
    """Started when first needed, kept for the next message, killed when theirs is ended."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()

    async def run(
        self, request: bytes, timeout: float | None, on_ack: Callable[[], None]
    ) -> Outcome:
        """What became of a request; `timeout` does not count the start of the process, which it
        ends. So does cancelling this. Raises `CannotStart`."""
        process = await self._take()
        try:
            outcome = await asyncio.wait_for(process.ask(request, on_ack), timeout)
        except asyncio.TimeoutError:
            await self._end(process)
            return timed_out(timeout)
        except BaseException:
            await self._end(process)
            raise
        if outcome is None:
            code = await self._end(process)
            return Outcome("failed", f"the handler's process {_ended(code)}")
        self._idle.append(process)
        return outcome

    async def close(self) -> None:
        """End them all: idle ones by themselves, busy ones at once."""
        self._idle.clear()
        await asyncio.gather(*(process.close() for process in self._all))
        self._all.clear()

    async def _take(self) -> _Child:
        while self._idle:
            process = self._idle.pop()
            if process.is_alive():
                return process
            await self._end(process)
        process = _Child()
        self._all.add(process)
        try:
            await process.start(self._reference)
        except BaseException:
            await self._end(process)
            raise
        return process

    async def _end(self, process: _Child) -> int | None:
        self._all.discard(process)
        return await process.kill()


class _Child:
    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(self, reference: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                # A session of its own: Ctrl-C does not reach it, and it is killed with whatever it
                # has started.
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "pyshim.child", reference, str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                ours.close()
                raise CannotStart(f"no process for a handler: {error}") from error
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LONGEST_ANSWER)
        self._reader, self._writer = reader, writer
        try:
            said = await asyncio.wait_for(
                self._answer(json.dumps(sys.path).encode() + b"\n"), _START_TIMEOUT
            )
        except asyncio.TimeoutError:
            raise CannotStart(f"{reference}: not imported after {_START_TIMEOUT:g} s") from None
        first = json.loads(said) if said else {"broken": "it ended by itself"}
        if "ready" not in first:
            raise CannotStart(f"no process for a handler: {first['broken']}")

    async def ask(self, request: bytes, on_ack: Callable[[], None]) -> Outcome | None:
        """The answer, or None when the process ended instead."""
        said = await self._answer(request)
        while said == child.ACKED:
            on_ack()
            said = await self._answer(b"")
        return child.answer(said) if said else None

    async def _answer(self, line: bytes) -> bytes:
        assert self._process and self._reader and self._writer
        # Something that the handler left behind may hold the socket open: the end of the process
        # counts, too.
        ended = asyncio.ensure_future(self._process.wait())
        read = asyncio.ensure_future(self._reader.readline())
        try:
            self._writer.write(line)
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()
            await asyncio.wait({ended, read}, return_when=asyncio.FIRST_COMPLETED)
            if not read.done():
                await asyncio.wait({read}, timeout=0.1)
            try:
                return read.result() if read.done() else b""
            except (ConnectionError, ValueError):
                return b""
        finally:
            ended.cancel()
            read.cancel()

    def is_alive(self) -> bool:
        assert self._process and self._reader
        return self._process.returncode is None and not self._reader.at_eof()

    async def kill(self) -> int | None:
        """End it now; its exit code."""
        if self._process is None:
            return None
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        return await self._gone()

    async def close(self) -> None:
        """Let it end by itself if it is idle."""
        if self._process is None:
            return
        if self._writer is not None:
            self._writer.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._process.wait(), _END_TIMEOUT)
        await self.kill()

    async def _gone(self) -> int:
        assert self._process
        code = await self._process.wait()
        if self._writer is not None:
            self._writer.close()
        return code


def _ended(code: int | None) -> str:
    """How a process ended, for people."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
