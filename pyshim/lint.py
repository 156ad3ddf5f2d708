"""What fits together badly in a sidecar's settings: each by itself would do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from psycopg import sql

from pyshim.configfile import Sidecar
from pyshim.errors import ConfigError, Mistakes
from pyshim.names import quote_ident
from pyshim.registry import load
from pyshim.roles import Maintain, Relaying, Role, Sweep, Work
from pyshim.serve import STALE_CONSUMER, STALE_MAINTAINER

_SHARE_OF_LEASE = 0.8  # what publishing may take of it

Lint = tuple[str, str]  # where in the file, and what


def wanted(sidecar: Sidecar) -> Iterator[tuple[str, str, str]]:
    """place, kind and name of each channel that a role takes from."""
    for place, role in sidecar.roles.items():
        if isinstance(role, Sweep) and role.topic is not None:
            yield place, "topic", role.topic
        elif isinstance(role, Relaying):
            yield place, "queue" if role.ordered else "topic", role.topic
        elif isinstance(role, Work):
            for queue in role.chosen(load(role.registry)):
                yield place, "queue", queue


def check_channels(sidecar: Sidecar, policy: Sequence[Any]) -> None:
    """Refuse channels that do not exist. Where none is seen, the first step finds out."""
    mistakes = []
    for place, kind, name in wanted(sidecar) if policy else ():
        known = [each.name for each in policy if each.kind == kind]
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            schema = quote_ident(sidecar.schema)
            mistake = ConfigError(
                f"{sidecar.file}: {place}: there is no {kind} {name!r} in schema {sidecar.schema}"
                + (f"; is it {near[0]!r}?" if near else ""),
                hint=f"make it: select {schema}.{kind}_create({sql.quote(name)})",
            )
            mistakes.append(mistake)
    Mistakes.raise_any(mistakes)


def warnings(sidecar: Sidecar) -> list[Lint]:
    """What fits together badly, as far as it shows without a database."""
    return [*_slow_calls(sidecar), *_alone(sidecar), *_against_each_other(sidecar)]


def _slow_calls(sidecar: Sidecar) -> Iterator[Lint]:
    for place, role in sidecar.roles.items():
        timeout = sidecar.timeout if role.timeout is None else role.timeout
        upkeep = isinstance(role, Maintain)
        health = STALE_MAINTAINER if upkeep else STALE_CONSUMER
        if timeout == 0:
            yield place, "timeout 0: a call that hangs is waited for without end"
        elif timeout >= health:
            yield place, f"timeout {timeout:g} s: /healthz says after {health:g} s that it hangs"
        if isinstance(role, Relaying) and role.lease is not None:
            yield from _lease(place, role.lease, timeout, "lease")


def _lease(place: str, lease: float, timeout: float, what: str) -> Iterator[Lint]:
    if lease * _SHARE_OF_LEASE > STALE_CONSUMER:
        yield (
            place,
            (
                f"{what} {lease:g} s: a broker may take {lease * _SHARE_OF_LEASE:g} s for a batch,"
                f" and /healthz says after {STALE_CONSUMER:g} s that the relay hangs"
            ),
        )
    if lease * (1 - _SHARE_OF_LEASE) < timeout:
        yield (
            place,
            (
                f"{what} {lease:g} s: publishing may take {lease * _SHARE_OF_LEASE:g} s of it, and"
                f" settling up to timeout, {timeout:g} s: too late, a batch is published twice"
            ),
        )


def _alone(sidecar: Sidecar) -> Iterator[Lint]:
    for place, role in sidecar.roles.items():
        if isinstance(role, Maintain) and role.lease < 3 * role.interval:
            yield (
                place,
                (
                    f"lease {role.lease:g} s, interval {role.interval:g} s: one look that is late"
                    " loses the lead; give the lease three intervals"
                ),
            )
        if isinstance(role, Work):
            registry = load(role.registry)
            for queue in role.chosen(registry):
                for handler in registry.handlers(queue):
                    if handler.timeout is not None and handler.timeout > role.grace:
                        yield (
                            place,
                            (
                                f"queue {queue}: a handler may take {handler.timeout:g} s, grace is"
                                f" {role.grace:g} s: who is at it on SIGTERM is ended, and repeated"
                            ),
                        )


def _against_each_other(sidecar: Sidecar) -> Iterator[Lint]:
    yield from _twice(sidecar)
    taken: dict[tuple[str, str], tuple[str, Role]] = {}
    for place, kind, name in wanted(sidecar):
        role = sidecar.roles[place]
        other = taken.setdefault((kind, name), (place, role))
        if other[0] != place and role != other[1]:
            yield place, f"{kind} {name} is taken from by {other[0]}, too: each message goes to one"
    cleaners = [p for p, r in sidecar.roles.items() if isinstance(r, Sweep) and r.cleanup]
    if cleaners and "maintain" in sidecar.roles:
        yield cleaners[0], "cleanup is on beside maintain, which cleans up with its own retentions"


def _twice(sidecar: Sidecar) -> Iterator[Lint]:
    """What stands there twice as it is. It works: each message goes to one of them, as it does
    among replicas."""
    seen: dict[Role, str] = {}
    for place, role in sidecar.roles.items():
        if isinstance(role, Relaying | Work):
            same = seen.setdefault(role, place)
            if same != place:
                kind = place.partition("[")[0]
                yield (
                    place,
                    f"the same as {same}: each message goes to one of them. Meant where one"
                    f" {'broker connection' if kind == 'relay' else 'thread'} is too slow; else"
                    " remove it",
                )


def warnings_of(sidecar: Sidecar, policy: Iterable[Any]) -> Iterator[Lint]:
    """The same, with what the channels are told to do."""
    by_name = {(each.kind, each.name): each for each in policy}
    for place, kind, name in wanted(sidecar):
        role, told = sidecar.roles[place], by_name.get((kind, name))
        if told is None:
            continue
        if isinstance(role, Relaying) and role.lease is None:
            timeout = sidecar.timeout if role.timeout is None else role.timeout
            lease = told.lease.total_seconds()
            yield from _lease(place, lease, timeout, f"the {kind}'s lease")
        if isinstance(role, Work) and told.max_runtime.total_seconds() > role.grace:
            handlers = load(role.registry).handlers(name)
            if any(each.timeout is None for each in handlers):
                yield (
                    place,
                    (
                        f"queue {name}: max_runtime {told.max_runtime.total_seconds():g} s is above"
                        f" grace, {role.grace:g} s, and a handler has no timeout: who is at it on"
                        " SIGTERM is ended (in a thread: with the process), and repeated"
                    ),
                )
