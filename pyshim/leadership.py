"""Leads by lease and epoch: `leader_acquire`, `leader_renew`, `leader_resign`.

The clock is the database's. Who is stopped beyond the lease and goes on finds out at the next
renewal or, if it writes first, by the epoch that its statement names.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time

from pyshim import calls, logs
from pyshim.errors import ConfigError
from pyshim.runtime import worker_name
from pyshim.session import Session

log = logging.getLogger("tidegate")

DEFAULT_LEASE = 10.0


def check_lease(lease: float, interval: float) -> None:
    """Who looks less often than its lease lasts would lead by chance."""
    if interval >= lease:
        raise ConfigError(
            f"--interval {interval:g}s is not shorter than --lease {lease:g}s",
            hint="the lease is renewed once an interval: give it several, such as 1s and 10s",
        )


class Leadership:
    """The lease on one name. `epoch` is None while somebody else, or nobody, leads."""

    def __init__(self, session: Session, name: str, lease: float = DEFAULT_LEASE) -> None:
        self.epoch: int | None = None
        self._session = session
        self._name = name
        self._lease = lease
        self._renewed = 0.0
        # Another process of the same host and number, as in a container, is not the same holder.
        self._holder = f"{worker_name()}:{secrets.token_hex(4)}"

    async def hold(self) -> bool:
        """Go on leading, or begin to if nobody does. False: it was lost; stop before the next
        write. So is an error, which is raised."""
        if self.epoch is None:
            won = await self._session.one(
                calls.LEADER_ACQUIRE,
                {"name": self._name, "holder": self._holder, "lease": self._interval()},
            )
            self.epoch = won.epoch
            if self.epoch is not None:
                self._renewed = time.monotonic()
                logs.event(log, logging.INFO, "leading", leader=self._name, epoch=self.epoch)
            return True
        epoch = self.epoch
        self.epoch = None
        renewed = await self._session.one(
            calls.LEADER_RENEW, {"name": self._name, "epoch": epoch, "lease": self._interval()}
        )
        self.epoch = epoch
        if not renewed.leads:
            self.lost()
            return False
        self._renewed = time.monotonic()
        return True

    async def still(self, *, at_once: bool) -> bool:
        """Renew between two writes: at once, or when a quarter of the lease has passed."""
        if self.epoch is None:
            return True
        if at_once or time.monotonic() > self._renewed + self._lease / 4:
            return await self.hold()
        return True

    def lost(self) -> None:
        """Somebody else leads: a renewal, or a write, was told so."""
        logs.event(log, logging.WARNING, "deposed", leader=self._name, epoch=self.epoch)
        self.epoch = None

    async def resign(self) -> None:
        """Let the next one lead without waiting for the lease. What goes wrong is left to that."""
        epoch, self.epoch = self.epoch, None
        if epoch is not None:
            with contextlib.suppress(Exception):
                await self._session.one(calls.LEADER_RESIGN, {"name": self._name, "epoch": epoch})

    def _interval(self) -> str:
        return f"{self._lease:g} seconds"
