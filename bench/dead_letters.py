"""`python -m bench.dead_letters`: what pages, counts and bulk actions cost at a million entries."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator

import click

from bench.engine import report
from bench.engine.meter import Connection, Cpu
from bench.engine.place import SCHEMA, Place, open_place
from pyshim import config
from pyshim.errors import TidegateError

PAGE = 50.0  # times the cost of one entry by its key
COUNT = 2.0  # times a bare count(*) under the same predicate
BULK = 10_000

# Half of all stands in q0, where nothing was malformed; q3 has nothing that is still dead; a tenth
# is resolved. A third belongs to a tenant that never fails in q3, and ten entries are malformed.
_FILL = """
insert into {schema}.dead_letter (
    dead_at, channel_id, kind, channel, reason, last_error, state, resolved_at, attempts, priority,
    message_id, enqueued_at, tenant, run_id, payload
)
select
    now() - ({count} - n) * interval '2 seconds', c.channel_id, c.kind, c.name,
    case
        when n % ({count} / 10) = 7 then 'malformed'
        when n % 10 < 6 then 'exhausted'
        when n % 10 < 9 then 'not_retryable'
        else 'expired'
    end,
    format('smtp 550: mailbox %s unavailable', n % 977),
    case when n % 10 = 3 then 'resolved' when n % 1000 = 4 then 'discarded' else 'dead' end,
    case when n % 10 = 3 or n % 1000 = 4 then now() end, 5, 0, n, now(),
    case when n % 3 = 0 then 'acme' when n % 3 = 1 then 'tenant' || n % 500 end,
    case when n % 20 = 0 then 'run' || n / 200 end,
    jsonb_build_object('n', n, 'to', md5(n::text), 'text', repeat(md5((n + 1)::text), 3))
from generate_series(1, {count}) as n
inner join {schema}.channel as c on c.name = 'q' || case when n % 2 = 0 then 0 else n % 10 end
"""

PAGES = {
    "first": "",
    "any state": "p_state => null",
    "a common channel": "p_channel => 'q0'",
    "a channel with none dead": "p_channel => 'q3'",
    "a rare reason": "p_reason => 'malformed'",
    "two that never meet": "p_channel => 'q0', p_reason => 'malformed'",
    "a large tenant": "p_tenant => 'acme'",
    "a small tenant": "p_tenant => 'tenant7'",
    "a tenant in a channel, none": "p_tenant => 'acme', p_channel => 'q3'",
    "a run": "p_run_id => 'run77'",
    "a rare state": "p_state => 'discarded'",
    "two days long ago": "p_since => now() - '20 d'::interval, p_until => now() - '18 d'::interval",
    "in the middle": "p_after_id => {middle}",
    "in the middle of a tenant": "p_after_id => {middle}, p_tenant => 'acme', p_state => null",
}

COUNTS = {
    "all that are dead": ("", "state = 'dead'"),
    "everything": ("p_state => null", "true"),
    "a common channel": ("p_channel => 'q0'", "channel = 'q0' and state = 'dead'"),
    "a reason": ("p_reason => 'expired'", "reason = 'expired' and state = 'dead'"),
    "a large tenant": ("p_tenant => 'acme'", "tenant = 'acme' and state = 'dead'"),
    "ten days": (
        "p_since => now() - interval '10 days'",
        "dead_at >= now() - interval '10 days' and state = 'dead'",
    ),
    "a rare reason": ("p_reason => 'malformed'", "reason = 'malformed' and state = 'dead'"),
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--entries", type=click.IntRange(10_000), default=1_000_000, show_default=True)
@click.option("--rounds", type=click.IntRange(3), default=21, show_default=True)
@click.option("--database-url", help="A server, where a database is made (default DATABASE_URL).")
def main(entries: int, rounds: int, database_url: str | None) -> None:
    """Pages, totals and bulk actions of dead letters, beside one entry by its key."""
    try:
        with open_place(config.database(database_url)) as place:
            for line in report.header(place.describe()):
                click.echo(line)
            for line in _run(place, entries, rounds):
                click.echo(line)
    except TidegateError as error:
        raise click.ClickException(str(error)) from None


def _run(place: Place, entries: int, rounds: int) -> Iterator[str]:
    # A connection of its own: the measured one of the place has its plans pinned.
    with place.connect() as connection:
        connection.execute(f"select {SCHEMA}.queue_create('q' || n) from generate_series(0, 9) n")
        connection.execute(_FILL.format(schema=SCHEMA, count=entries).encode())
        connection.execute(f"vacuum (analyze) {SCHEMA}.dead_letter")
        cpu = Cpu(connection)
        yield ""
        yield f"A page of 50 among {entries} entries, µs of {'CPU' if cpu.is_known else 'time'}"
        meter = cpu.read if cpu.is_known else time.perf_counter_ns
        one = _by_key(connection, meter, entries, rounds * 20)
        yield f"{'one entry by its key, prepared':32}{one:10.0f}"
        for name, arguments in PAGES.items():
            call = (
                f"select * from {SCHEMA}.dead_letter_list({arguments.format(middle=entries // 2)})"
            )
            spent = _median(connection, meter, call, rounds)
            yield f"{name:32}{spent:10.0f}{spent / one:8.1f} ×  {report.verdict(spent / one, PAGE)}"

        yield ""
        yield "A total, ms of time (parallel workers are in no CPU of the backend), beside count(*)"
        for name, (arguments, predicate) in COUNTS.items():
            bare = f"select count(*) from {SCHEMA}.dead_letter where {predicate}"
            call = f"select {SCHEMA}.dead_letter_count({arguments})"
            ratios, spent = [], 0.0
            for _ in range(max(rounds // 4, 3)):
                spent = _median(connection, time.perf_counter_ns, call, 3)
                ratios.append(spent / _median(connection, time.perf_counter_ns, bare, 3))
            ratio = statistics.median(ratios)
            yield f"{name:32}{spent / 1000:10.2f}{ratio:8.2f} ×  {report.verdict(ratio, COUNT)}"

        yield ""
        yield f"In one call, {BULK} entries"
        for name, call in {
            "dry run": "dead_letter_requeue_matching({filters}, p_dry_run => true)",
            "requeue": "dead_letter_requeue_matching({filters})",
            "requeue again": "dead_letter_requeue_matching({filters})",
            "requeue at 100/s": "dead_letter_requeue_matching({filters}, p_per_second => 100)",
            "discard": "dead_letter_discard_matching('bench', {filters})",
        }.items():
            statement = call.format(filters=f"p_reason => 'exhausted', p_limit => {BULK}")
            begin = time.perf_counter_ns()
            row = connection.execute(f"select * from {SCHEMA}.{statement}".encode()).fetchone()
            spent = (time.perf_counter_ns() - begin) / 1e6
            assert row
            yield f"{name:32}{spent:10.0f} ms for {row[0]}"
        begin = time.perf_counter_ns()
        connection.execute(f"select * from {SCHEMA}.dead_letter_stats()")
        yield f"{'stats':32}{(time.perf_counter_ns() - begin) / 1e6:10.0f} ms"


def _by_key(connection: Connection, meter: Callable[[], int], entries: int, times: int) -> float:
    """The cost of one entry by its key, µs; a different one each time, as pages differ too."""
    chosen = random.Random(1)
    spent = []
    for _ in range(times):
        begin = meter()
        connection.execute(
            f"select * from {SCHEMA}.dead_letter where dead_letter_id = %s",
            [chosen.randint(1, entries)],
            prepare=True,
        ).fetchall()
        spent.append((meter() - begin) / 1000)
    return statistics.median(spent)


def _median(connection: Connection, meter: Callable[[], int], statement: str, times: int) -> float:
    """The median cost of a statement, µs, once it is warm."""
    spent = []
    for number in range(times + 2):
        begin = meter()
        connection.execute(statement.encode()).fetchall()
        if number > 1:
            spent.append((meter() - begin) / 1000)
    return statistics.median(spent)


if __name__ == "__main__":
    main()
