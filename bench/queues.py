"""`python -m bench.queues`: what depth, acks one by one, failures and ten priorities cost a queue.

Each question sets a run beside its own plain form, in the same rounds on the same server.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import click

from bench.engine import payloads
from bench.engine.contenders import PLACES
from bench.engine.place import SCHEMA, Place, open_place
from pyshim import config

SENT = 10_000


@dataclass(frozen=True)
class Answer:
    """`loaded` beside `plain`, in a unit that the question names; at most `bound` times."""

    question: str
    plain: float
    loaded: float
    bound: float

    def __str__(self) -> str:
        ratio = self.loaded / self.plain if self.plain else 0.0
        verdict = "ok" if ratio <= self.bound else "ABOVE"
        return (
            f"{self.question:<62} {self.plain:9.1f} → {self.loaded:9.1f}"
            f"  {ratio:5.2f}  ≤ {self.bound:.2f} {verdict}"
        )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--deep", default=1_000_000, show_default=True, help="Messages behind a deep claim.")
@click.option("--rounds", default=7, show_default=True)
@click.option("--database-url", help="A server, where a database is made (default DATABASE_URL).")
def main(deep: int, rounds: int, database_url: str | None) -> None:
    """Ratios beside their bounds."""
    with open_place(config.database(database_url)) as place:
        for question in (one_by_one, failing, ten_priorities):
            for answer in question(place, rounds):
                click.echo(answer)
            place.rest(*PLACES)
        for answer in depth(place, deep):
            click.echo(answer)


def depth(place: Place, deep: int) -> list[Answer]:
    """Claims of 100: 10 000 ready, beside `deep` ready, as many delayed and 10 000 leases."""
    _create(place, "shallow", "deep")
    _fill(place, "shallow", SENT)
    _fill(place, "deep", deep)
    _fill(place, "deep", deep, delayed=True)
    for _ in range(10_000):
        _run(place, "select from {s}.queue_claim('deep', 1, interval '30 minutes')")
    place.rest(*PLACES)
    place.checkpoint()
    took: dict[str, list[float]] = {"shallow": [], "deep": []}
    spent: dict[str, list[float]] = {"shallow": [], "deep": []}
    for _ in range(SENT // 100 // 2):
        for queue in took:
            cpu, start = place.cpu.read(), time.perf_counter()
            _run(place, "select * from {s}.queue_claim(%s, 100)", queue)
            took[queue].append((time.perf_counter() - start) * 1e6)
            spent[queue].append((place.cpu.read() - cpu) / 1e3)
    return [
        Answer("depth: p50 of a claim of 100, µs", *map(statistics.median, took.values()), 1.2),
        Answer("depth: CPU of a claim of 100, µs", *map(statistics.median, spent.values()), 1.2),
    ]


def one_by_one(place: Place, rounds: int) -> list[Answer]:
    """Five hundred leases of one, beside one lease of 500 acked message by message."""
    _create(place, "singly")

    def leases_of_one() -> int:
        for _ in range(500):
            lease = _run(place, "select lease_id from {s}.queue_claim('singly', 1)")[0][0]
            _run(place, "select * from {s}.queue_ack(%s)", lease)
        return 500

    def one_lease() -> int:
        claimed = _run(place, "select lease_id, message_id from {s}.queue_claim('singly', 500)")
        for lease, message in claimed:
            _run(place, "select * from {s}.queue_ack(%s, array[%s]::bigint[])", lease, message)
        return len(claimed)

    return _beside(
        place, "singly", rounds, "acked one by one", leases_of_one, one_lease, (3.0, 4.0)
    )


def failing(place: Place, rounds: int) -> list[Answer]:
    """Batches of 100 without a failure, beside batches of which 30 fail and come again."""
    _create(place, "failing", policy='{"backoff_base": "0", "max_attempts": 0}')

    def settled(failures: int) -> Callable[[], int]:
        def run() -> int:
            done = 0
            while True:
                claimed = _run(
                    place, "select lease_id, message_id from {s}.queue_claim('failing', 100)"
                )
                if not claimed:
                    return done
                ids = [row[1] for row in claimed]
                bad = ids[: len(ids) * failures // 100]
                failed = ",".join(f'{{"message_id":{each},"error":"smtp 451"}}' for each in bad)
                _run(
                    place,
                    "select * from {s}.queue_settle(%s, %s::bigint[], %s::jsonb)",
                    claimed[0][0],
                    ids[len(bad) :],
                    f"[{failed}]",
                )
                done += len(ids) - len(bad)

        return run

    return _beside(place, "failing", rounds, "30 % fail", settled(0), settled(30), (2.0, 2.0))[:1]


def ten_priorities(place: Place, rounds: int) -> list[Answer]:
    """A poll of an empty queue beside `select 1`, with one priority in use and with ten."""
    answers = []
    for queue, count, bound in (("one", 1, 4.0), ("ten", 10, 12.0)):
        _create(place, queue)
        for priority in range(count):
            _run(place, "select from {s}.queue_send(%s, '1', p_priority => %s)", queue, priority)
            lease = _run(place, "select lease_id from {s}.queue_claim(%s)", queue)[0][0]
            _run(place, "select from {s}.queue_ack(%s)", lease)
        for drawing in (False, True):
            spent: dict[str, list[float]] = {"select 1": [], "poll": []}
            for _ in range(rounds):
                time.sleep(0.3)
                for name, statement in (
                    ("select 1", "select 1"),
                    ("poll", f"select * from {{s}}.queue_claim('{queue}')"),
                ):
                    total = 0
                    for _ in range(100):
                        if (
                            drawing
                        ):  # somebody else's traffic: the queue cannot know that it is idle
                            place.monitor.execute(f"select nextval('{SCHEMA}.position_seq')")
                        cpu = place.cpu.read()
                        _run(place, statement)
                        total += place.cpu.read() - cpu
                    spent[name].append(total / 1e5)
            what = "beside traffic of others" if drawing else "idle"
            answers.append(
                Answer(
                    f"poll of an empty queue, {count} priorities, {what}, µs",
                    *map(statistics.median, spent.values()),
                    bound,
                )
            )
    return answers


def _beside(
    place: Place,
    queue: str,
    rounds: int,
    name: str,
    plain: Callable[[], int],
    loaded: Callable[[], int],
    bounds: tuple[float, float],
) -> list[Answer]:
    """CPU and WAL per message of two ways to work off the same messages, sent in batches."""
    cpu: dict[Callable[[], int], list[float]] = {plain: [], loaded: []}
    wal: dict[Callable[[], int], list[float]] = {plain: [], loaded: []}
    for _ in range(rounds):
        for way in (plain, loaded):
            place.rest(*PLACES)
            before, lsn = place.cpu.read(), place.wal.read()
            _fill(place, queue, 500)
            count = way()
            cpu[way].append((place.cpu.read() - before) / 1e3 / count)
            wal[way].append((place.wal.read() - lsn) / count)
    return [
        Answer(f"{name}: CPU a message, µs", *map(statistics.median, cpu.values()), bounds[0]),
        Answer(f"{name}: WAL a message, bytes", *map(statistics.median, wal.values()), bounds[1]),
    ]


def _create(place: Place, *queues: str, policy: str = "{}") -> None:
    for queue in queues:
        _run(place, "select {s}.queue_create(%s, %s)", queue, policy)


def _fill(place: Place, queue: str, count: int, delayed: bool = False) -> None:
    """Send `count` messages; delayed ones one by one, as their path is."""
    messages = payloads.small(min(count, 1000))
    for start in range(0, count, 1000):
        _run(
            place,
            "select count(*) from {s}.queue_send_many(%s, %s::jsonb[], p_run_at => %s)",
            queue,
            messages[: min(1000, count - start)],
            "2100-01-01" if delayed else None,
        )


def _run(place: Place, statement: str, *arguments: object) -> list[tuple]:  # type: ignore[type-arg]
    cursor = place.connection.execute(statement.format(s=SCHEMA), arguments or None)  # type: ignore[arg-type]
    return cursor.fetchall() if cursor.description else []


if __name__ == "__main__":
    main()
