"""The whole life of a message: put, claim, settle, every contender in every round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from bench.engine.contenders import Contender
from bench.engine.place import Place

PHASES = ("put", "claim", "settle")


@dataclass
class Sample:
    """One contender in one round, per message: µs of CPU and of time by phase, bytes of WAL."""

    cpu: dict[str, float]
    time: dict[str, float]
    wal: float

    @property
    def life(self) -> float:
        return sum(self.cpu.values())


@dataclass
class Result:
    """All rounds of one batch size; `samples` by contender, the first of them bare."""

    batch: int
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def median(self, name: str, of: Callable[[Sample], float]) -> float:
        return statistics.median(map(of, self.samples[name]))

    def phase(self, name: str, phase: str) -> float:
        """Median CPU of one phase."""
        return self.median(name, lambda sample: sample.cpu[phase])

    def ratio(self, name: str, of: Callable[[Sample], float]) -> float:
        """Median of the rounds' own ratios: what slows a round slows both."""
        bare = next(iter(self.samples))
        pairs = zip(self.samples[name], self.samples[bare], strict=True)
        return statistics.median(of(one) / of(other) for one, other in pairs if of(other))


def run(
    place: Place, contenders: Sequence[Contender], payloads: Sequence[str], batch: int, rounds: int
) -> Result:
    """`rounds` rounds after one that only warms up; who begins changes."""
    result = Result(batch, {contender.name: [] for contender in contenders})
    for number in range(rounds + 1):
        for contender in rotated(contenders, number):
            place.rest(*contender.tables)
            sample = measure(place, contender, payloads, batch)
            if number > 0:
                result.samples[contender.name].append(sample)
    return result


def rotated(contenders: Sequence[Contender], by: int) -> Iterator[Contender]:
    for place in range(len(contenders)):
        yield contenders[(place + by) % len(contenders)]


def measure(place: Place, contender: Contender, payloads: Sequence[str], batch: int) -> Sample:
    """Put all payloads in batches, then claim and settle them in batches."""
    meter = _Meter(place)
    lsn = place.wal.read()
    with meter("put"):
        for start in range(0, len(payloads), batch):
            contender.put(payloads[start : start + batch])
    claimed = 0
    while claimed < len(payloads):
        with meter("claim"):
            count, lease = contender.claim(batch)
        with meter("settle"):
            contender.settle(lease)
        claimed += count
        if count == 0:
            raise RuntimeError(f"{contender.name}: only {claimed} of {len(payloads)} came back")
    written = place.wal.read() - lsn
    count = len(payloads)
    return Sample(
        cpu={phase: meter.cpu[phase] / 1000 / count for phase in PHASES},
        time={phase: meter.time[phase] / 1000 / count for phase in PHASES},
        wal=written / count,
    )


class _Meter:
    """Sums CPU and time, in nanoseconds, of what is done in `with meter(phase)`."""

    def __init__(self, place: Place) -> None:
        self._cpu = place.cpu
        self.cpu = dict.fromkeys(PHASES, 0)
        self.time = dict.fromkeys(PHASES, 0)

    def __call__(self, phase: str) -> _Meter:
        self._phase = phase
        return self

    def __enter__(self) -> None:
        self._start = self._cpu.read(), time.perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        took = time.perf_counter_ns() - self._start[1]
        self.cpu[self._phase] += self._cpu.read() - self._start[0]
        self.time[self._phase] += took
