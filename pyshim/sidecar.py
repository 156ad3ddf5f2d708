"""All roles of an installation in one process.

Sweeps and the upkeep, which run none but our own code, share the main thread with `/metrics` and
the doorbell. Each relay and each registry has a thread and an event loop of its own: a publisher or
a handler that blocks holds up nobody but itself.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from collections.abc import Awaitable
from typing import Any

import psycopg

from pyshim import calls, lint, logs, loops
from pyshim.aside import aside
from pyshim.configfile import Sidecar
from pyshim.errors import ConfigError, DatabaseRefuses
from pyshim.retry import Verdict, classify
from pyshim.roles import Maintain, Relaying, Sweep, Work
from pyshim.runtime import Runtime

log = logging.getLogger("tidegate")

FIRST_DELAY = 0.5  # seconds between looks for the database at the start, doubled after each
LONGEST_DELAY = 30.0

_NAMES = {Sweep: "sweep", Relaying: "relay", Work: "work", Maintain: "maintain"}


async def run(sidecar: Sidecar, runtime: Runtime, stop: loops.Stop) -> None:
    """Run all roles until `stop`, once the database is there. One that fails for good on its first
    step ends all; what fails later backs off by itself."""
    policy = await _when_there(runtime, stop)
    if policy is None:
        return
    lint.check_channels(sidecar, policy)
    for place, told in [*lint.warnings(sidecar), *lint.warnings_of(sidecar, policy)]:
        logs.event(log, logging.WARNING, "lint", key=place, note=told)
    running = []
    for place, role in sidecar.roles.items():
        its = runtime.of(_NAMES[type(role)], role.timeout)
        work = functools.partial(role.run, its)
        if isinstance(role, Relaying | Work):
            running.append(_told(place, aside(place, stop, work)))
        else:
            running.append(_told(place, work(stop)))
    async with runtime.listening():
        await loops.together(stop, *running)


async def _told(place: str, work: Awaitable[None]) -> None:
    try:
        await work
    except Exception as error:
        logs.event(log, logging.ERROR, "role ended", role=place, error=error)
        raise


async def _when_there(runtime: Runtime, stop: loops.Stop) -> list[Any] | None:
    """The policy, as soon as the database answers: to be restarted would not bring it here sooner.
    None when we are told to end before. What no wait mends is raised."""
    stopping = asyncio.ensure_future(stop.wait())
    delay, attempt = FIRST_DELAY, 0
    try:
        while not stop:
            attempt += 1
            looking = asyncio.ensure_future(_policy(runtime))
            both: list[asyncio.Future[Any]] = [looking, stopping]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not looking.done():
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
                break
            try:
                return looking.result()
            except DatabaseRefuses as error:
                raise ConfigError(error.message, hint=error.hint) from None
            except Exception as error:
                if classify(error) is Verdict.NEVER:
                    raise
                runtime.meter.awaited = "waiting for the database"
                logs.event(
                    log, logging.WARNING, "waiting for the database", attempt=attempt,
                    retry_in=f"{delay:g}s", error=error,
                )  # fmt: skip
            await stop.pause(delay * random.uniform(0.9, 1))  # replicas do not march in step
            delay = min(delay * 2, LONGEST_DELAY)
    finally:
        runtime.meter.awaited = None
        stopping.cancel()
    return None


async def _policy(runtime: Runtime) -> list[Any]:
    """What channels there are; nothing where this role may not see it. Proves that the database is
    there, and its schema fits."""
    session = runtime.session(attempts=1)
    try:
        return await session.call(calls.POLICY, {})
    except psycopg.errors.InsufficientPrivilege:
        return []
    finally:
        await session.close()
