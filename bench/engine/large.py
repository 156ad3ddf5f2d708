"""Payloads above the inline limit: the whole life beside bare, and what is left in `body`."""

from __future__ import annotations

from dataclasses import dataclass

from bench.engine import life, payloads
from bench.engine.contenders import Bare, Contender, Queue
from bench.engine.place import SCHEMA, Place

BATCH = 10
SIZES = {8: 1, 64: 8}  # kB, and by how much fewer messages a round has


@dataclass
class Result:
    """`lives` by size in kB; `left` is the number of bodies after `lived` messages of 8 kB."""

    lives: dict[int, life.Result]
    lived: int
    left: int


def run(place: Place, messages: int, rounds: int) -> Result:
    """`messages` of 8 kB in each round, an eighth of them of 64 kB."""
    contenders: list[Contender] = [Bare(place.connection), Queue(place.connection, "large")]
    lives = {}
    for size, divisor in SIZES.items():
        documents = payloads.large(max(BATCH, messages // divisor), size * 1024)
        lives[size] = life.run(place, contenders, documents, BATCH, rounds)
    row = place.monitor.execute(f"select count(*) from {SCHEMA}.body").fetchone()
    assert row
    return Result(lives, messages * (rounds + 1), int(row[0]))
