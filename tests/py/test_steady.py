"""Issue 5, 4: a steady load while an idle transaction holds a snapshot, and what it costs."""

from __future__ import annotations

import os

import psycopg
import pytest

from bench.steady import HEAD, Steady, Window
from pyshim import embedded, render
from tests.brokers import until

pytestmark = pytest.mark.heavy

SECONDS = float(os.environ.get("TIDEGATE_STEADY_SECONDS", "180"))
WINDOWS = 6
ANALYZE = "analyze tidegate.{0}"
PLACES = ("ready", "scheduled", "lease", "floor", "tide", "tally", "maintenance_run")


def test_what_a_transaction_touches_does_not_grow_under_an_old_snapshot() -> None:
    """Pages and not time: rates and latencies are printed, by this and by `python -m bench.steady`.

    What may grow is a tick's look at the leases of the last minute, for two minutes, and what the
    server itself reads of its catalogs: by half in three minutes. Claims that walk over the dead
    touch more than three times as much by then.
    """
    settings = {"autovacuum_naptime": "5s"}
    with embedded.running(in_memory=True, settings=settings) as server:
        with psycopg.connect(server.url, autocommit=True) as conn:
            conn.execute(render.render("tidegate").encode())
        load = Steady(server.url, 200)
        windows: list[Window] = []
        print(HEAD)
        with load.running(), psycopg.connect(server.url, autocommit=True) as conn:
            until(lambda: load.arrived > 100)
            for window in load.windows(SECONDS / WINDOWS, WINDOWS):
                print(window)
                windows.append(window)
                if len(windows) == 2:
                    # As autovacuum does at some time: plans are made anew, on tables that hold
                    # next to nothing that lives.
                    for place in PLACES:
                        conn.execute(ANALYZE.format(place).encode())
            load.end()
            until(lambda: load.arrived == load.put, 120)
    touched = [window.pages / window.transactions for window in windows]
    print("pages a transaction:", *(f"{each:.2f}" for each in touched))
    first, last = min(touched[:2]), min(touched[-2:])
    assert last <= first * 2, f"pages a transaction: {[round(each, 1) for each in touched]}"
