"""A sweep of 500 events into one queue, beside a bare DELETE … RETURNING → INSERT of such rows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.engine.contenders import PLACES, Outbox, Queue
from bench.engine.place import SCHEMA, Place

LIMIT = 500

_BARE = f"""
with taken as (
    delete from bench_source where ctid = any(array(
        select ctid from bench_source
        where channel_id = %s and priority = 0
        order by position limit {LIMIT} for update skip locked
    )) returning *
)
insert into bench_target select * from taken
"""


@dataclass
class Result:
    """µs of CPU and bytes of WAL per event, round by round; the first name is bare."""

    cpu: dict[str, list[float]] = field(default_factory=lambda: {"bare": [], "sweep": []})
    wal: dict[str, list[float]] = field(default_factory=lambda: {"bare": [], "sweep": []})

    def ratio(self, what: dict[str, list[float]]) -> float:
        pairs = zip(what["sweep"], what["bare"], strict=True)
        return statistics.median(one / other for one, other in pairs if other)


def run(place: Place, payloads: Sequence[str], rounds: int) -> Result:
    """Each round moves all payloads by sweeps of 500, and as many rows of the same shape bare."""
    connection = place.connection
    queue = Queue(connection, "swept")
    topic = Outbox(connection, "swept")
    connection.execute(f"select {SCHEMA}.outbox_route('swept', 'swept')")
    for table in ("bench_source", "bench_target"):
        place.monitor.execute(f"create table {table} (like {SCHEMA}.ready including all)")
    result = Result()
    for number in range(rounds + 1):
        for start in range(0, len(payloads), LIMIT):
            topic.put(payloads[start : start + LIMIT])
        place.monitor.execute("truncate bench_source, bench_target")
        row = place.monitor.execute(
            f"""
            insert into bench_source
            select r.* from {SCHEMA}.ready r
            inner join {SCHEMA}.channel c using (channel_id)
            where c.kind = 'topic' and c.name = 'swept'
            returning channel_id
            """
        ).fetchone()
        assert row
        for name in ("bare", "sweep") if number % 2 else ("sweep", "bare"):
            place.rest(*PLACES, "bench_source", "bench_target")
            moved, cpu, lsn = 0, place.cpu.read(), place.wal.read()
            while moved < len(payloads):
                if name == "bare":
                    count = connection.execute(_BARE, [row[0]]).rowcount
                else:
                    count = _sweep(place)
                if count == 0:
                    raise RuntimeError(f"{name}: only {moved} of {len(payloads)} moved")
                moved += count
            cpu, written = place.cpu.read() - cpu, place.wal.read() - lsn
            if number > 0:
                result.cpu[name].append(cpu / 1000 / moved)
                result.wal[name].append(written / moved)
        while (claimed := queue.claim(LIMIT))[0]:
            queue.settle(claimed[1])
    connection.execute(f"select {SCHEMA}.outbox_unroute('swept', 'swept')")
    return result


def _sweep(place: Place) -> int:
    row = place.connection.execute(
        f"select claimed from {SCHEMA}.outbox_sweep({LIMIT}, 'swept')"
    ).fetchone()
    assert row
    return int(row[0])
