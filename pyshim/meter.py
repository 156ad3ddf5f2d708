"""What this process counts of itself: loops by outcome, how long things took, when it last got on.

Plain numbers in memory: they begin at 0 with the process, as Prometheus expects of counters.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

# Everything that a process may say of itself: name → type and meaning.
OWN = {
    "tidegate_up": ("gauge", "1 when the database answered this scrape."),
    "tidegate_scrape_duration_seconds": ("gauge", "How long the database took for this scrape."),
    "tidegate_process_start_timestamp_seconds": ("gauge", "When this process began."),
    "tidegate_loop_iterations_total": (
        "counter",
        "Steps of a loop: full (there is more), some, none (nothing to do) or error.",
    ),
    "tidegate_loop_duration_seconds": ("histogram", "How long a step took: success or error."),
    "tidegate_loop_last_progress_timestamp_seconds": (
        "gauge",
        "When a step of the loop last ended without an error; when it began, until then.",
    ),
    "tidegate_handler_duration_seconds": (
        "histogram",
        "How long a handler took: success, error, released, or duplicate (its lease was lost).",
    ),
    "tidegate_publish_duration_seconds": (
        "histogram",
        "How long a batch took to publish and settle: success, error (of any of it), or duplicate"
        " (its lease was lost: it is published again).",
    ),
}


@dataclass
class Histogram:
    """Observations by bucket."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


@dataclass
class Watched:
    """A loop whose progress is what health means."""

    stale_after: float
    progress_at: float  # monotonic
    is_busy: Callable[[], bool]
    waits_until: float = 0.0  # monotonic: for a server that is away


@dataclass(frozen=True)
class Sample:
    """One line of an exposition; `suffix` is of a histogram's parts."""

    name: str
    labels: Mapping[str, str]
    value: float
    suffix: str = ""


class Meter:
    """The numbers of one process, whatever thread they come from."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.RLock()
        self.began = time.time()
        self.awaited: str | None = None  # what has to be there before anything begins
        self._counters: dict[tuple[str, Labels], float] = {}
        self._histograms: dict[tuple[str, Labels], Histogram] = {}
        self._watched: dict[Labels, Watched] = {}

    def count(self, name: str, **labels: str) -> None:
        """One more."""
        key = name, tuple(labels.items())
        with self._one_at_a_time:
            self._counters[key] = self._counters.get(key, 0.0) + 1

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """A duration."""
        key = name, tuple(labels.items())
        with self._one_at_a_time:
            self._histograms.setdefault(key, Histogram()).observe(seconds)

    def watch(
        self, loop: str, stale_after: float, is_busy: Callable[[], bool] = lambda: False
    ) -> None:
        """From now on this loop has to get on: a step without an error every `stale_after` seconds,
        unless it is busy."""
        with self._one_at_a_time:
            self._watched[_loop(loop)] = Watched(stale_after, time.monotonic(), is_busy)

    def stepped(self, loop: str, outcome: str, seconds: float) -> None:
        """A step of a loop has ended."""
        labels = _loop(loop)
        names = dict(labels)
        self.count("tidegate_loop_iterations_total", **names, outcome=outcome)
        verdict = "error" if outcome == "error" else "success"
        self.observe("tidegate_loop_duration_seconds", seconds, **names, outcome=verdict)
        if outcome != "error" and labels in self._watched:
            self._watched[labels].progress_at = time.monotonic()

    def waits(self, loop: str, seconds: float) -> None:
        """The loop found its server away and asks again in so many seconds. That is no progress,
        but restarting the process would not bring it back either: it is healthy meanwhile."""
        if (watched := self._watched.get(_loop(loop))) is not None:
            watched.waits_until = time.monotonic() + seconds

    def stale(self) -> list[str]:
        """What has not got on for too long, in words; none is healthy."""
        self._look_at_busy()
        now = time.monotonic()
        told = []
        for labels, watched in list(self._watched.items()):
            silent = now - watched.progress_at
            if silent > watched.stale_after and now - watched.waits_until > watched.stale_after:
                name = " ".join(value for _, value in labels if value)
                told.append(f"{name}: no progress for {silent:.0f} s")
        return told

    def _look_at_busy(self) -> None:
        for watched in list(self._watched.values()):
            if watched.is_busy():
                watched.progress_at = time.monotonic()

    def samples(self) -> list[Sample]:
        """Everything."""
        self._look_at_busy()
        with self._one_at_a_time:
            return list(self._samples())

    def _samples(self) -> Iterator[Sample]:
        yield Sample("tidegate_process_start_timestamp_seconds", {}, self.began)
        offset = time.time() - time.monotonic()
        for labels, watched in self._watched.items():
            yield Sample(
                "tidegate_loop_last_progress_timestamp_seconds",
                dict(labels),
                watched.progress_at + offset,
            )
        for (name, labels), value in self._counters.items():
            yield Sample(name, dict(labels), value)
        for (name, labels), histogram in self._histograms.items():
            yield from _parts(name, dict(labels), histogram)


def _loop(name: str) -> Labels:
    """`relay orders` → loop and channel."""
    loop, _, channel = name.partition(" ")
    return ("loop", loop), ("channel", channel)


def _parts(name: str, labels: dict[str, str], histogram: Histogram) -> Iterator[Sample]:
    seen = 0
    for bound, count in zip((*BUCKETS, float("inf")), histogram.counts, strict=True):
        seen += count
        yield Sample(name, {**labels, "le": number(bound)}, seen, "_bucket")
    yield Sample(name, labels, histogram.total, "_sum")
    yield Sample(name, labels, seen, "_count")


def number(value: float) -> str:
    """A number as Prometheus reads it."""
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def exposition(
    samples: Iterable[Sample],
    meanings: Mapping[str, tuple[str, str]],
    constant: Mapping[str, str],
) -> str:
    """Prometheus' text format: samples by name, each with its meaning, constant labels on all."""
    lines: dict[str, list[str]] = {}
    for sample in samples:
        labels = {**constant, **{k: v for k, v in sample.labels.items() if v}}
        inside = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())
        text = (
            f"{sample.name}{sample.suffix}{{{inside}}}" if inside else sample.name + sample.suffix
        )
        lines.setdefault(sample.name, []).append(f"{text} {number(sample.value)}")
    blocks = []
    for name, found in lines.items():
        kind, meaning = meanings.get(name, ("untyped", ""))
        told = meaning.replace("\\", "\\\\").replace("\n", "\\n")
        blocks += [f"# HELP {name} {told}", f"# TYPE {name} {kind}", *found]
    return "\n".join([*blocks, ""])


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
