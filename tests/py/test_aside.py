"""A thread of its own for somebody else's code."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from pyshim.aside import FarBell, aside
from pyshim.doorbell import Doorbell
from pyshim.loops import Bell, Stop


async def test_what_blocks_aside_blocks_nothing_here_and_the_stop_arrives() -> None:
    stop, released, seen = Stop(), threading.Event(), []

    async def work(theirs: Stop) -> None:
        seen.append(threading.current_thread() is threading.main_thread())
        released.wait(60)
        await theirs.wait()
        seen.append(True)

    running = asyncio.ensure_future(aside("t", stop, work))
    while not seen:  # noqa: ASYNC110 - it is set on another thread
        await asyncio.sleep(0.01)
    stop.set()
    released.set()
    await asyncio.wait_for(running, 60)
    assert seen == [False, True]


async def test_an_error_aside_is_raised_here() -> None:
    async def work(_: Stop) -> None:
        raise LookupError("there")

    with pytest.raises(LookupError, match="there"):
        await asyncio.wait_for(aside("t", Stop(), work), 60)


async def test_a_bell_aside_is_rung_from_here() -> None:
    # given a loop aside that waits for a topic, and a doorbell here
    home, wanted = asyncio.get_running_loop(), []
    doorbell = Doorbell(None, "tidegate")  # type: ignore[arg-type]
    slept: list[float] = []

    async def work(stop: Stop) -> None:
        def make(event: asyncio.Event) -> Bell:
            wanted.append(event)
            return FarBell(home, event)

        bell = doorbell.bell("topic", "t", make)
        began = time.monotonic()
        await stop.pause(60, bell)
        slept.append(time.monotonic() - began)
        assert bell and bell.is_live

    running = asyncio.ensure_future(aside("t", Stop(), work))
    # when it waits, the doorbell is wanted; when it rings for others, the loop sleeps on
    while not wanted:  # noqa: ASYNC110 - it is set on another thread
        await asyncio.sleep(0.01)
    await asyncio.wait_for(wanted[0].wait(), 60)
    doorbell._ring("topic u")
    await asyncio.sleep(0.05)
    assert not running.done()
    # and when it rings for it, the loop wakes
    doorbell._ring("topic t")
    await asyncio.wait_for(running, 60)
    assert slept[0] < 60
