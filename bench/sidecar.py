"""`python -m bench.sidecar`: what memory a sidecar takes, and whether it stays.

Question: does `tidegate run` grow? A sidecar sweeps one topic into a queue and relays another to a
Redis that forgets, while events come in at a steady rate to both. Its resident memory is read each
second from /proc. After a warm-up, what counts is how much the second half of the time stands above
the first, by their medians, and the highest that was ever seen.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import psycopg

from bench.engine import payloads
from bench.engine.place import SCHEMA, open_place
from bench.relay import server
from pyshim import config

MOST_MB = 120.0
MOST_GROWTH_MB = 2.0
WARM_UP = 0.2  # of the time
REDIS = ("redis-server", "--port", "{port}", "--save", "", "--dir", "{folder}")

FILE = """
log_format = "json"
[sweep]
interval = "100ms"
[[relay]]
topic = "relayed"
to = "{target}"
[maintain]
"""


@dataclass(frozen=True)
class Memory:
    """Megabytes of a process over time, and what it did meanwhile."""

    samples: list[float]
    swept: int
    relayed: int

    @property
    def most(self) -> float:
        """The highest."""
        return max(self.samples)

    @property
    def growth(self) -> float:
        """How much the second half stands above the first, the warm-up left out."""
        steady = self.samples[int(len(self.samples) * WARM_UP) :]
        middle = len(steady) // 2
        return statistics.median(steady[middle:]) - statistics.median(steady[:middle])


def resident(pid: int) -> float:
    """Megabytes that a process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(url: str, target: str, seconds: float, rate: int) -> Memory:
    """A sidecar under load on an installation in `url`, which is made ready for it."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"set search_path = {SCHEMA}")
        conn.execute("select topic_create('swept'), topic_create('relayed')")
        conn.execute("select queue_create('q'), outbox_route('swept', 'q')")
    stop = threading.Event()
    loading = threading.Thread(target=_load, args=(url, rate, stop))
    with _sidecar(url, target) as process:
        loading.start()
        samples = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(1)
            if process.poll() is not None:
                raise RuntimeError(f"the sidecar ended with {process.returncode}")
            samples.append(resident(process.pid))
        stop.set()
        loading.join()
    with psycopg.connect(url, autocommit=True) as conn:
        counted = dict(
            conn.execute(
                f"select name, sum(total) from {SCHEMA}.outcomes"
                " where outcome in ('dispatched', 'acked') group by name"
            ).fetchall()
        )
    return Memory(samples, int(counted.get("swept", 0)), int(counted.get("relayed", 0)))


@contextlib.contextmanager
def _sidecar(url: str, target: str) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sidecar.toml"
        file.write_text(FILE.format(target=target))
        process = subprocess.Popen(
            [sys.executable, "-m", "pyshim", "run", "--config", str(file)],
            env={
                **os.environ,
                "TIDEGATE_DATABASE_URL": url,
                "TIDEGATE_SCHEMA": SCHEMA,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def _load(url: str, rate: int, stop: threading.Event) -> None:
    """`rate` events a second, half to each topic, and the queue emptied, so that it stays small."""
    messages = payloads.small(1000)
    size = max(1, rate // 20)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"set search_path = {SCHEMA}")
        while not stop.wait(0.1):
            for topic in ("swept", "relayed"):
                conn.execute(
                    "select from outbox_put_many(%s, %s::jsonb[])", (topic, messages[:size])
                )
            conn.execute(
                "select queue_ack(lease_id) from"
                " (select distinct lease_id from queue_claim('q', 1000)) c"
            )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", default=600.0, show_default=True)
@click.option("--rate", default=1000, show_default=True, help="Events a second.")
@click.option("--database-url", help="A server, where a database is made (default DATABASE_URL).")
def main(seconds: float, rate: int, database_url: str | None) -> None:
    """Resident memory of a sidecar under load."""
    options = ("--port", "{port}", "--save", "", "--dir", "{folder}")
    with (
        open_place(config.database(database_url)) as place,
        server("redis-server", *options) as port,
    ):
        target = f"redis://127.0.0.1:{port}/0?stream=s&maxlen=1000"
        found = measure(place.url, target, seconds, rate)
    step = max(1, len(found.samples) // 10)
    click.echo(
        "MB, a tenth of the time apart: " + " ".join(f"{s:.1f}" for s in found.samples[::step])
    )
    click.echo(f"{found.swept} events swept, {found.relayed} relayed in {seconds:g} s")
    for what, value, bound in (
        ("most", found.most, MOST_MB),
        ("growth from the first half to the second", found.growth, MOST_GROWTH_MB),
    ):
        verdict = "ok" if value <= bound else "ABOVE"
        click.echo(f"{what}: {value:.1f} MB  ≤ {bound:g} {verdict}")


if __name__ == "__main__":
    main()
