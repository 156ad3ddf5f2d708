"""What a run found, as a table for people and as JSON for later."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from bench.engine import idle, large, life, pinned, sweep

# What must hold, as ratios to bare; `poll` to SELECT 1, `pinned` to the beginning of the run.
CPU = {1: 1.8, 10: 1.3, 100: 1.25, 500: 1.25}
WAL = {1: 2.0, 100: 1.35}
SWEEP = 1.3
LARGE = 1.2
PINNED = 1.5
POLL = 4.0


def verdict(ratio: float, bound: float | None) -> str:
    """The bound, and whether the ratio, as it is printed, keeps it."""
    if bound is None:
        return ""
    return f"≤ {bound:.2f} {'ok' if round(ratio, 2) <= bound else 'ABOVE'}"


def header(found: Mapping[str, Any]) -> Iterator[str]:
    machine = found["machine"]
    yield found["server"]
    yield ", ".join(f"{name} {value}" for name, value in found["settings"].items())
    yield (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB,"
        f" {machine['system']}, load {' '.join(map(str, machine['load']))}"
    )
    if not found["has_lz4"]:
        yield "This server was built without lz4: leases are compressed with pglz, which is slower."
    if not found["cpu_is_known"]:
        yield "The server's processes are not to be seen from here: CPU is left out."


def life_lines(results: list[life.Result]) -> Iterator[str]:
    yield ""
    yield "Life of a message of 200 bytes: CPU of the backend in µs, WAL in bytes, per message"
    yield (
        f"{'batch':>5} {'':7}{'put':>8}{'claim':>8}{'settle':>8}{'sum':>8}{'ratio':>7}"
        f"  {'':13}{'WAL':>6}{'ratio':>7}  {'':13}{'put/s':>9}{'consumed/s':>12}"
    )
    for result in results:
        yield from life_rows(result)


def life_rows(result: life.Result) -> Iterator[str]:
    for name in result.samples:
        cpu, wal = result.ratio(name, lambda s: s.life), result.ratio(name, lambda s: s.wal)
        is_bare = name == "bare"
        phases = "".join(f"{result.phase(name, phase):8.1f}" for phase in life.PHASES)
        whole, written = result.median(name, lambda s: s.life), result.median(name, lambda s: s.wal)
        cpu_verdict = "" if is_bare or not cpu else verdict(cpu, CPU.get(result.batch))
        wal_verdict = "" if is_bare else verdict(wal, WAL.get(result.batch))
        put = result.median(name, lambda s: s.time["put"])
        consume = result.median(name, lambda s: s.time["claim"] + s.time["settle"])
        yield (
            f"{result.batch:5} {name:7}{phases}{whole:8.1f}{cpu:7.2f}"
            f"  {cpu_verdict:13}{written:6.0f}{wal:7.2f}"
            f"  {wal_verdict:13}{1e6 / put:9.0f}{1e6 / consume:12.0f}"
        )


def large_lines(result: large.Result) -> Iterator[str]:
    yield ""
    yield f"Large payloads, {large.BATCH} at a time: whole life, per message"
    for size, lived in result.lives.items():
        cpu = lived.ratio("queue", lambda s: s.life)
        wal = lived.ratio("queue", lambda s: s.wal)
        yield (
            f"{size:4} kB  CPU {lived.median('bare', lambda s: s.life):7.1f} →"
            f" {lived.median('queue', lambda s: s.life):7.1f} µs{cpu:6.2f}"
            f"  {verdict(cpu, LARGE if cpu else None):13}"
            f"WAL {lived.median('bare', lambda s: s.wal):7.0f} →"
            f" {lived.median('queue', lambda s: s.wal):7.0f}{wal:6.2f}  {verdict(wal, LARGE)}"
        )
    state = "ok" if result.left == 0 else "ABOVE"
    yield f"  rows left in body after {result.lived} messages of 8 kB: {result.left}  {state}"


def sweep_lines(result: sweep.Result) -> Iterator[str]:
    cpu, wal = result.ratio(result.cpu), result.ratio(result.wal)
    yield ""
    yield f"Sweep of {sweep.LIMIT} into one queue beside DELETE … RETURNING → INSERT, per event"
    yield (
        f"  CPU {_of(result.cpu['bare'])} → {_of(result.cpu['sweep'])} µs{cpu:6.2f}"
        f"  {verdict(cpu, SWEEP if cpu else None):13}"
        f"WAL {_of(result.wal['bare'])} → {_of(result.wal['sweep'])}{wal:6.2f}"
    )


def idle_lines(result: idle.Result) -> Iterator[str]:
    yield ""
    yield "An empty queue: CPU of a poll beside SELECT 1, per call"
    yield (
        f"  {_of(result.select_1)} → {_of(result.poll)} µs{result.ratio:6.2f}"
        f"  {verdict(result.ratio, POLL if result.ratio else None):13}"
        f"WAL of {idle.POLLS} polls: {statistics.median(result.wal):.0f} bytes"
    )


def pinned_line(result: pinned.Result) -> str:
    return (
        f"  {result.obstacle:24}{result.early:8.0f} →{result.late:8.0f} µs{result.ratio:6.2f}"
        f"  {verdict(result.ratio, PINNED if result.ratio else None):13}"
        f"buffers {statistics.median(result.buffers[1:4]):.0f} →"
        f" {statistics.median(result.buffers[-3:]):.0f}"
    )


def pinned_header(messages: int) -> Iterator[str]:
    yield ""
    yield (
        f"A claim of {pinned.BATCH}, its ticks included, after {messages // 100} and after"
        f" {messages} messages"
    )


def _of(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}"


def as_json(
    lives: list[life.Result],
    swept: sweep.Result | None,
    larges: large.Result | None,
    idled: idle.Result | None,
    pins: list[pinned.Result],
) -> dict[str, Any]:
    """Ratios and every sample, so that another median can be taken later."""
    found: dict[str, Any] = {"life": [_life_json(result) for result in lives]}
    if swept:
        found["sweep"] = {
            "cpu_ratio": swept.ratio(swept.cpu),
            "wal_ratio": swept.ratio(swept.wal),
            "cpu": swept.cpu,
            "wal": swept.wal,
        }
    if larges:
        found["large"] = {
            "sizes": {size: _life_json(lived) for size, lived in larges.lives.items()},
            "lived": larges.lived,
            "left_in_body": larges.left,
        }
    if idled:
        found["idle"] = {"ratio": idled.ratio, **vars(idled)}
    if pins:
        found["pinned"] = [{"ratio": pin.ratio, **vars(pin)} for pin in pins]
    return found


def _life_json(result: life.Result) -> dict[str, Any]:
    return {
        "batch": result.batch,
        "contenders": {
            name: {
                "cpu_ratio": result.ratio(name, lambda s: s.life),
                "wal_ratio": result.ratio(name, lambda s: s.wal),
                "samples": [vars(sample) for sample in samples],
            }
            for name, samples in result.samples.items()
        },
    }
