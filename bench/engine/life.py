"""The whole life of a message: put, claim, settle, contender by contender in every round."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.engine.contenders import Contender
from bench.engine.meter import Cpu, Wal

PHASES = ("put", "claim", "settle")


@dataclass
class Sample:
    """Of one contender in one round, a message: CPU and time in µs by phase, WAL in bytes."""

    cpu: dict[str, float]
    time: dict[str, float]
    wal: dict[str, float]


def measure(
    contender: Contender, payloads: Sequence[str], batch: int, cpu: Cpu, wal: Wal
) -> Sample:
    """Put all payloads in batches, then claim and settle them in batches."""
    used = dict.fromkeys(PHASES, 0)
    took = dict.fromkeys(PHASES, 0)
    written = {}
    claimed = 0
    lsn = wal.read()

    cpu_0, time_0 = cpu.read(), time.perf_counter_ns()
    for start in range(0, len(payloads), batch):
        contender.put(payloads[start : start + batch])
    cpu_1, time_1 = cpu.read(), time.perf_counter_ns()
    used["put"], took["put"] = cpu_1 - cpu_0, time_1 - time_0
    written["put"] = wal.read() - lsn
    lsn += written["put"]

    time_0 = time.perf_counter_ns()
    cpu_0 = cpu.read()
    while claimed < len(payloads):
        count, lease = contender.claim(batch)
        cpu_1, time_1 = cpu.read(), time.perf_counter_ns()
        contender.settle(lease)
        cpu_2, time_2 = cpu.read(), time.perf_counter_ns()
        used["claim"] += cpu_1 - cpu_0
        took["claim"] += time_1 - time_0
        used["settle"] += cpu_2 - cpu_1
        took["settle"] += time_2 - time_1
        claimed += count
        cpu_0, time_0 = cpu_2, time_2
        if count == 0:
            raise RuntimeError(f"{contender.name}: {claimed} of {len(payloads)} came back")
    written["claim + settle"] = wal.read() - lsn

    count = len(payloads)
    return Sample(
        cpu={phase: used[phase] / 1000 / count for phase in PHASES},
        time={phase: took[phase] / 1000 / count for phase in PHASES},
        wal={phase: amount / count for phase, amount in written.items()},
    )
