"""All roles of an installation in one process.

Sweeps and the upkeep, which run none but our own code, share the main thread with `/metrics` and
the doorbell. Each relay and each registry has a thread and an event loop of its own: a publisher or
a handler that blocks holds up nobody but itself.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable
from typing import Any

import psycopg

from pyshim import calls, lint, logs, loops
from pyshim.aside import aside
from pyshim.configfile import Sidecar
from pyshim.roles import Maintain, Relaying, Sweep, Work
from pyshim.runtime import Runtime

log = logging.getLogger("tidegate")

_NAMES = {Sweep: "sweep", Relaying: "relay", Work: "work", Maintain: "maintain"}


async def run(sidecar: Sidecar, runtime: Runtime, stop: loops.Stop) -> None:
    """Run all roles until `stop`. One that fails for good on its first step ends all; what fails
    later backs off by itself."""
    policy = await _policy(runtime)
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


async def _policy(runtime: Runtime) -> list[Any]:
    """What channels there are; nothing where this role may not see it. Proves that the database is
    there, and its schema fits."""
    session = runtime.session()
    try:
        return await session.call(calls.POLICY, {})
    except psycopg.errors.InsufficientPrivilege:
        return []
    finally:
        await session.close()
