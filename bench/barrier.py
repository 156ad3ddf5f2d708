"""`python -m bench.barrier`: arrivals a second on one barrier, beside two ways of doing it by hand.

Question: what does an arrival cost when eight clients arrive at one barrier of 10 000 members, with
a result of 200 bytes each? Beside it: one counter row that is decremented, which keeps no results
and fires nothing; and a counter row that gathers the results in an array. All three are driven by
pgbench, one transaction an arrival, in turns; what counts is the median of the ratios.

Then, with one client: whether an arrival costs the same from the first member to the last but one.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import psycopg

from bench.engine.place import SCHEMA, Place, open_place
from pyshim import config, embedded

RESULT = "jsonb_build_object('file', md5(random()::text), 'note', repeat('lorem ipsum ', 11))"
SCRIPTS = {
    "barrier": "select {schema}.barrier_arrive("
    "'bench', {epoch}, nextval('public.member')::int, {result});",
    "counter": "update public.counter set remaining = remaining - 1 returning remaining;",
    "array": "update public.gathered set remaining = remaining - 1, results = results || {result}"
    " returning remaining;",
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--members", default=10_000, show_default=True)
@click.option("--clients", default=8, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--pinned", is_flag=True, help="Hold an old snapshot open all the time.")
@click.option("--database-url", help="A server, where a database is made (default DATABASE_URL).")
def main(members: int, clients: int, rounds: int, pinned: bool, database_url: str | None) -> None:
    """Arrivals at one barrier beside a counter row and a counter with an array of results."""
    ratios: dict[str, list[float]] = {"counter": [], "array": []}
    with open_place(config.database(database_url)) as place:
        place.connection.execute(f"select {SCHEMA}.queue_create('callbacks')")
        for statement in (
            "create sequence public.member",
            "create table public.counter (remaining int)",
            "create table public.gathered (remaining int, results jsonb)",
        ):
            place.connection.execute(statement)
        with _snapshot(place, pinned):
            for number in range(rounds):
                kinds = list(SCRIPTS)
                rate = {
                    kind: _run(place, kind, members, clients)
                    for kind in kinds[number % 3 :] + kinds[: number % 3]
                }
                for kind in ratios:
                    ratios[kind].append(rate["barrier"] / rate[kind])
                click.echo("  ".join(f"{kind} {rate[kind]:6.0f}/s" for kind in SCRIPTS))
            for kind, least in (("counter", 2), ("array", 8)):
                click.echo(
                    f"barrier / {kind}: median {statistics.median(ratios[kind]):.2f}"
                    f" of {[round(ratio, 2) for ratio in ratios[kind]]} (bound: at least {least})"
                )
            _flatness(place, members)


@contextlib.contextmanager
def _snapshot(place: Place, pinned: bool) -> Iterator[None]:
    if not pinned:
        yield
        return
    with psycopg.connect(place.url) as idle:
        idle.execute("set transaction isolation level repeatable read")
        idle.execute("select 1 from pg_class limit 1")
        yield


def _open(place: Place, members: int) -> int:
    row = place.connection.execute(
        f"select epoch from {SCHEMA}.barrier_open('bench', %s, 'callbacks',"
        " p_inline_limit => 67108864)",
        [members],
    ).fetchone()
    assert row
    return int(row[0])


def _run(place: Place, kind: str, members: int, clients: int) -> float:
    """Arrivals a second of one kind."""
    connection = place.connection
    epoch = _open(place, members) if kind == "barrier" else 0
    connection.execute("truncate public.counter, public.gathered")
    connection.execute("insert into public.counter values (%s)", [members])
    connection.execute("insert into public.gathered values (%s, '[]')", [members])
    connection.execute("select setval('public.member', 1, false)")
    place.rest("public.counter", "public.gathered")
    place.checkpoint()
    script = SCRIPTS[kind].format(schema=SCHEMA, epoch=epoch, result=RESULT)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{kind}.sql"
        path.write_text(script)
        done = subprocess.run(
            [_pgbench(), "-n", "-M", "prepared", "-c", str(clients), "-j", "2",
             "-t", str(members // clients), "-f", str(path), place.url],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    if done.returncode or not found or " 0 (0.000%)" not in done.stdout:
        raise click.ClickException(done.stdout + done.stderr)
    if kind == "barrier":
        status = connection.execute(
            f"select state, arrived from {SCHEMA}.barrier_status('bench')"
        ).fetchone()
        assert status == ("fired", members // clients * clients), status
    return float(found[1])


def _flatness(place: Place, members: int) -> None:
    """Milliseconds an arrival takes at the beginning, in the middle, at the end, and the last."""
    epoch = _open(place, members)
    took = []
    query = (
        f"select {SCHEMA}.barrier_arrive('bench', {epoch}, %s, jsonb_build_object('n', %s::int))"
    )
    with psycopg.connect(place.url, autocommit=True, prepare_threshold=0) as conn:
        for member in range(1, members + 1):
            begun = time.perf_counter()
            conn.execute(query.encode(), (member, member))
            took.append((time.perf_counter() - begun) * 1000)
    tenth = members // 10
    middle = members // 2
    click.echo(
        f"one client, median ms of an arrival: first tenth {statistics.median(took[:tenth]):.3f},"
        f" middle {statistics.median(took[middle : middle + tenth]):.3f},"
        f" last tenth {statistics.median(took[-tenth:-1]):.3f}; the last one {took[-1]:.1f}"
    )


def _pgbench() -> str:
    with contextlib.suppress(Exception):
        inside = embedded.installation(config.embedded_version()) / "bin" / "pgbench"
        if inside.exists():
            return str(inside)
    found = shutil.which("pgbench")
    if found is None:
        raise click.ClickException("this bench needs pgbench")
    return found


if __name__ == "__main__":
    main()
