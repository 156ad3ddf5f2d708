"""An empty queue: what a poll costs beside SELECT 1, and what it writes."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field

from bench.engine.contenders import Queue
from bench.engine.place import SCHEMA, Place

POLLS = 200


@dataclass
class Result:
    """µs of CPU per call, round by round, and bytes of WAL per round of polls."""

    select_1: list[float] = field(default_factory=list)
    poll: list[float] = field(default_factory=list)
    wal: list[int] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        pairs = zip(self.poll, self.select_1, strict=True)
        return statistics.median(poll / one for poll, one in pairs if one)


def run(place: Place, rounds: int) -> Result:
    """Polls a queue that has had messages and has none."""
    queue = Queue(place.connection, "idle")
    queue.put(["{}"])
    queue.settle(queue.claim(1)[1])
    poll = f"select * from {SCHEMA}.queue_claim('idle', 1)"
    end = time.monotonic() + 1.0  # four ticks: the queue learns that it is quiet
    while time.monotonic() < end:
        place.connection.execute(poll)
        time.sleep(0.05)
    result = Result()
    for number in range(rounds + 1):
        select_1 = _calls(place, "select 1")
        lsn = place.wal.read()
        polls = _calls(place, poll)
        written = place.wal.read() - lsn
        if number > 0:
            result.select_1.append(select_1)
            result.poll.append(polls)
            result.wal.append(written)
    return result


def _calls(place: Place, statement: str) -> float:
    start = place.cpu.read()
    for _ in range(POLLS):
        place.connection.execute(statement)
    return (place.cpu.read() - start) / 1000 / POLLS
