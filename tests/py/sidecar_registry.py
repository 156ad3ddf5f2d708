"""A registry for test_sidecar: it says what it has handled, by sending it on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

import psycopg

from pyshim.registry import Delivery, Registry

registry = Registry()


@registry.handler("mail", in_thread=True)
def handle(message: Delivery) -> None:
    """Puts an event for each message."""
    with psycopg.connect(os.environ["TIDEGATE_DATABASE_URL"]) as conn:
        conn.execute(
            "select tidegate.outbox_put('handled', jsonb_build_object('n', %s::int))",
            (message.payload["n"],),
        )


@registry.handler("blocking")
async def block(message: Delivery) -> None:
    """Holds up its event loop, for as long as it is told to."""
    time.sleep(message.payload["seconds"])  # noqa: ASYNC251 - that is the point


@registry.handler("stubborn")
async def stay(message: Delivery) -> None:
    """Ignores its cancellation."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(message.payload["seconds"])
