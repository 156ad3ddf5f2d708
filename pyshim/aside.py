"""A thread and an event loop for somebody else's code: what blocks there, blocks nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from pyshim.loops import Bell, Stop


async def aside(name: str, stop: Stop, work: Callable[[Stop], Awaitable[None]]) -> None:
    """Run `work` to its end on a thread of its own. It is given a stop that follows ours."""
    home = asyncio.get_running_loop()
    theirs = Stop()
    begun: asyncio.Future[asyncio.AbstractEventLoop] = home.create_future()
    ended: asyncio.Future[BaseException | None] = home.create_future()

    async def main() -> None:
        home.call_soon_threadsafe(begun.set_result, asyncio.get_running_loop())
        error: BaseException | None = None
        try:
            await work(theirs)
        except BaseException as raised:
            error = raised
        # Told here, as a task that ignores its cancellation keeps asyncio.run from ever ending.
        with contextlib.suppress(RuntimeError):  # nobody waits any more
            home.call_soon_threadsafe(ended.set_result, error)

    def run() -> None:
        asyncio.run(main())

    threading.Thread(target=run, name=f"tidegate-{name}", daemon=True).start()
    loop = await begun
    stopping = asyncio.ensure_future(stop.wait())
    try:
        both: list[asyncio.Future[Any]] = [stopping, ended]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        with contextlib.suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(theirs.set)
    if (error := await ended) is not None:
        raise error


class FarBell(Bell):
    """A bell for a loop on this thread, rung by who listens on that of `home`."""

    def __init__(self, home: asyncio.AbstractEventLoop, wanted: asyncio.Event) -> None:
        super().__init__()
        self._home = home
        self._here = asyncio.get_running_loop()
        self._is_wanted = wanted

    def ring(self, *, from_channel: bool = False) -> None:
        """Wake the loop, or keep it from its next pause."""
        ring = super().ring
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._here.call_soon_threadsafe(lambda: ring(from_channel=from_channel))

    async def wait(self) -> None:
        """Until it is rung."""
        if not self._is_wanted.is_set():
            self._home.call_soon_threadsafe(self._is_wanted.set)
        await super().wait()
