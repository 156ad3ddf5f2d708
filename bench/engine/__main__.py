"""`python -m bench.engine`: run the experiments, print the table, keep JSON and a plot."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import click

from bench.engine import idle, large, life, payloads, pinned, plot, report, sweep
from bench.engine.contenders import Bare, Contender, Outbox, Queue
from bench.engine.place import Place, open_place
from pyshim import config
from pyshim.errors import TidegateError

RESULTS = Path(__file__).parents[1] / "results"
EXPERIMENTS = ("life", "sweep", "large", "idle", "pinned")
BATCHES = {1: 1_000, 10: 5_000, 100: 20_000, 500: 20_000}  # messages a round, by batch


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Small rounds, under a minute: for a first look only.")
@click.option("--rounds", type=click.IntRange(1), help="Measured rounds (default 9, quick 3).")
@click.option("--messages", type=click.IntRange(10_000), help="Pinned run (default 1000000).")
@click.option("--only", multiple=True, type=click.Choice(EXPERIMENTS), help="May be repeated.")
@click.option("--name", help="Results are bench/results/NAME.json and .svg (default pg18, …).")
@click.option("--database-url", help="A server, where a database is made (default DATABASE_URL).")
def main(
    quick: bool,
    rounds: int | None,
    messages: int | None,
    only: tuple[str, ...],
    name: str | None,
    database_url: str | None,
) -> None:
    """What the engine costs, beside the same work in bare SQL. See bench/README.md."""
    rounds = rounds or (3 if quick else 9)
    messages = messages or (20_000 if quick else 1_000_000)
    shrink = 5 if quick else 1
    started = time.strftime("%Y-%m-%d")
    try:
        with open_place(config.database(database_url)) as place:
            described = place.describe()
            _say(*report.header(described))
            found, picture = _run(place, only or EXPERIMENTS, rounds, messages, shrink)
    except TidegateError as error:
        raise click.ClickException(str(error)) from None
    name = name or _default_name(str(described["server"]), quick)
    RESULTS.mkdir(exist_ok=True)
    kept = {"on": started, "rounds": rounds, **described, **found}
    (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
    (RESULTS / f"{name}.svg").write_text(picture)
    _say("", f"kept as bench/results/{name}.json and {name}.svg")


def _run(
    place: Place, chosen: tuple[str, ...], rounds: int, messages: int, shrink: int
) -> tuple[dict[str, object], str]:
    lives: list[life.Result] = []
    swept = larges = idled = None
    pins: list[pinned.Result] = []
    small = payloads.small(max(BATCHES.values()))
    place.checkpoint()
    if "life" in chosen:
        connection = place.connection
        contenders: list[Contender] = [Bare(connection), Queue(connection), Outbox(connection)]
        for batch, count in BATCHES.items():
            count = max(batch, count // shrink)
            lives.append(life.run(place, contenders, small[:count], batch, rounds))
            _say(*(report.life_lines(lives) if len(lives) == 1 else report.life_rows(lives[-1])))
    if "sweep" in chosen:
        swept = sweep.run(place, small[: 10_000 // shrink], rounds)
        _say(*report.sweep_lines(swept))
    if "large" in chosen:
        larges = large.run(place, 10_000 // (rounds + 1) // shrink, rounds)
        _say(*report.large_lines(larges))
    if "idle" in chosen:
        idled = idle.run(place, rounds)
        _say(*report.idle_lines(idled))
    if "pinned" in chosen:
        _say(*report.pinned_header(messages))
        for pin in pinned.run(place, small, messages):
            pins.append(pin)
            _say(report.pinned_line(pin))
    caption = str(place.describe()["server"]).split(" on ")[0]
    return report.as_json(lives, swept, larges, idled, pins), plot.svg(lives, pins, caption)


def _default_name(server: str, quick: bool) -> str:
    version = re.search(r"\d+", server)
    return f"pg{version[0] if version else ''}{'-quick' if quick else ''}"


def _say(*lines: str) -> None:
    for line in lines:
        click.echo(line)


if __name__ == "__main__":
    main()
