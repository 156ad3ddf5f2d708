"""`python -m bench.groups`: eight workers empty a queue, with messages in groups and without.

Sent beforehand; what is measured is the time from the first claim to the last settlement.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from typing import Any

import click
import psycopg

from bench.engine.place import SCHEMA, open_place
from pyshim import config

WORKERS = 8


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--messages", default=20_000, show_default=True)
@click.option("--groups", default=200, show_default=True)
@click.option("--batch", default=10, show_default=True, help="Messages a claim asks for.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--database-url", help="A server, where a database is made (default DATABASE_URL).")
def main(messages: int, groups: int, batch: int, rounds: int, database_url: str | None) -> None:
    """Throughput with groups beside that without, failure-free."""
    ratios = []
    with open_place(config.database(database_url)) as place:
        for number in range(rounds):
            rate = {}
            for kind in ("plain", "grouped") if number % 2 else ("grouped", "plain"):
                queue = f"{kind}{number}"
                place.connection.execute(f"select {SCHEMA}.queue_create(%s)", [queue])
                place.connection.execute(
                    f"""
                    select count({SCHEMA}.queue_send(%s, to_jsonb(n),
                        p_group_key => case when %s then 'g' || n %% %s end))
                    from generate_series(1, %s) n
                    """,
                    [queue, kind == "grouped", groups, messages],
                )
                place.checkpoint()
                rate[kind] = messages / _drain(place.url, queue, messages, batch)
            ratios.append(rate["grouped"] / rate["plain"])
            click.echo(
                f"plain {rate['plain']:7.0f}/s  grouped {rate['grouped']:7.0f}/s"
                f"  ratio {ratios[-1]:.2f}"
            )
    click.echo(f"median ratio {statistics.median(ratios):.2f} (bound: at least 0.40)")


def _drain(url: str, queue: str, messages: int, batch: int) -> float:
    """Seconds that all workers together take."""
    processes = multiprocessing.get_context("spawn")
    done = processes.Value("l", 0)
    ready = processes.Barrier(WORKERS + 1)
    workers = [
        processes.Process(target=_work, args=(url, queue, messages, batch, done, ready))
        for _ in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise click.ClickException("a worker failed")
    return time.perf_counter() - start


def _work(url: str, queue: str, messages: int, batch: int, done: Any, ready: Any) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        claim = f"select lease_id, payload from {SCHEMA}.queue_claim(%s, {int(batch)})".encode()
        ready.wait()
        while done.value < messages:
            claimed = conn.execute(claim, [queue], prepare=True).fetchall()
            if not claimed:
                time.sleep(0.01)
                continue
            settled = conn.execute(
                f"select acked from {SCHEMA}.queue_ack(%s)".encode(), [claimed[0][0]], prepare=True
            ).fetchone()
            with done.get_lock():
                done.value += settled[0] if settled else 0


if __name__ == "__main__":
    main()
