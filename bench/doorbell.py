"""`python -m bench.doorbell`: what a ring costs those who put, by how many they are.

pgbench puts one event a transaction, as fast as it can, into a topic without a doorbell, with one
that rings every time, and with one that is throttled. Somebody listens.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import click

from bench.engine import report
from bench.engine.place import SCHEMA, Place, open_place
from pyshim import config, embedded
from pyshim.errors import TidegateError

KINDS = {"none": None, "every time": "0", "5 ms": "5 ms"}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--producers", multiple=True, type=int, default=[1, 4, 16], show_default=True)
@click.option("--seconds", default=5, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--database-url", help="A server, where a database is made (default DATABASE_URL).")
def main(producers: tuple[int, ...], seconds: int, rounds: int, database_url: str | None) -> None:
    """Puts a second with and without a doorbell, medians of the rounds."""
    try:
        with open_place(config.database(database_url)) as place:
            for line in report.header(place.describe()):
                click.echo(line)
            for line in _run(place, producers, seconds, rounds):
                click.echo(line)
    except TidegateError as error:
        raise click.ClickException(str(error)) from None


def _run(place: Place, producers: tuple[int, ...], seconds: int, rounds: int) -> Iterator[str]:
    bin_ = embedded.installation(config.embedded_version()) / "bin"
    yield ""
    yield f"{'producers':>9}" + "".join(f"{name + ', puts/s':>22}{'rings/s':>9}" for name in KINDS)
    for count in producers:
        rates: dict[str, list[float]] = {name: [] for name in KINDS}
        rings: dict[str, list[float]] = {name: [] for name in KINDS}
        for number in range(rounds):
            for name in KINDS if number % 2 == 0 else reversed(KINDS):
                topic = f"t{number}_{count}_{list(KINDS).index(name)}"
                policy = json.dumps({"doorbell": KINDS[name]})
                place.monitor.execute(f"select {SCHEMA}.topic_create(%s, %s)", [topic, policy])
                place.checkpoint()
                rate, rung = _put(place, bin_, topic, count, seconds)
                rates[name].append(rate)
                rings[name].append(rung)
        cells = [
            f"{statistics.median(rates[name]):22.0f}{statistics.median(rings[name]):9.0f}"
            for name in KINDS
        ]
        ratio = statistics.median(rates["5 ms"]) / statistics.median(rates["none"])
        load = os.getloadavg()[0]
        yield f"{count:9}{''.join(cells)}   5 ms / none {ratio:.2f}   load {load:.1f}"


def _put(place: Place, bin_: Path, topic: str, count: int, seconds: int) -> tuple[float, float]:
    """Puts and rings a second."""
    heard = 0
    over = threading.Event()

    def listen() -> None:
        nonlocal heard
        with place.connect() as connection:
            connection.execute(f"listen {SCHEMA}")
            while not over.is_set():
                heard += len(list(connection.notifies(timeout=0.1)))

    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(f"select {SCHEMA}.outbox_put('{topic}', '{{\"text\": \"{'x' * 180}\"}}');\n")
        script.flush()
        listener = threading.Thread(target=listen)
        listener.start()
        try:
            done = subprocess.run(
                [bin_ / "pgbench", "-n", "-M", "prepared", "-c", str(count), "-j", "1", "-T",
                 str(seconds), "-f", script.name, "-d", place.url],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
        finally:
            over.set()
            listener.join()
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1]), heard / seconds


if __name__ == "__main__":
    main()
