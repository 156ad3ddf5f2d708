"""What `tidegate top` shows: the samples of `metrics()`, arranged by channel, with rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

_GAUGES = {
    "tidegate_oldest_ready_seconds": "oldest_ready_seconds",
    "tidegate_leases": "leases",
    "tidegate_expired": "expired",
    "tidegate_due": "due",
    "tidegate_oldest_due_seconds": "oldest_due_seconds",
    "tidegate_dead_letter_oldest_seconds": "dead_letter_oldest_seconds",
}
_SINGLES = {
    "tidegate_snapshot_age_seconds": "snapshot_age_seconds",
    "tidegate_horizon_seconds": "horizon_seconds",
    "tidegate_stranded_total": "stranded_total",
    "tidegate_barriers_open": "barriers_open",
    "tidegate_barriers_stalled": "barriers_stalled",
    "tidegate_barriers_fire_failed": "barriers_fire_failed",
}
DONE = ("acked", "dispatched")
NOT_DONE = ("retried", "dead_lettered", "expired", "released")


@dataclass
class Channel:
    """A topic or queue. What a snapshot did not tell is missing in `gauges`."""

    kind: str
    channel: str
    is_paused: bool = False
    gauges: dict[str, float] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)

    def done(self, outcomes: Iterable[str]) -> float:
        """The sum of some of the counters."""
        return sum(self.totals.get(outcome, 0.0) for outcome in outcomes)


@dataclass
class View:
    """One look."""

    channels: dict[tuple[str, str], Channel] = field(default_factory=dict)
    singles: dict[str, float] = field(default_factory=dict)
    failing: dict[str, float] = field(default_factory=dict)  # jobs of the upkeep

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            **self.singles,
            "upkeep_failing": self.failing,
            "channels": [
                {
                    "kind": each.kind,
                    "channel": each.channel,
                    "paused": each.is_paused,
                    **each.gauges,
                    "totals": each.totals,
                }
                for each in self.channels.values()
            ],
        }


def arrange(rows: Iterable[Any]) -> View:
    """The rows of `metrics()` by channel."""
    view = View()
    for row in rows:
        if single := _SINGLES.get(row.name):
            view.singles[single] = row.value
        elif row.name == "tidegate_upkeep_failures" and row.value:
            view.failing[row.labels["upkeep"]] = row.value
        elif "channel" in row.labels:
            key = row.labels["kind"], row.labels["channel"]
            _note(view.channels.setdefault(key, Channel(*key)), row)
    view.channels = dict(sorted(view.channels.items()))
    return view


def _note(channel: Channel, row: Any) -> None:
    if row.name == "tidegate_depth":
        channel.gauges[row.labels["place"]] = row.value
    elif row.name == "tidegate_messages_total":
        channel.totals[row.labels["outcome"]] = row.value
    elif row.name == "tidegate_dead_letters":
        known = channel.gauges.get("dead_letters", 0.0)
        channel.gauges["dead_letters"] = known + row.value
    elif row.name == "tidegate_paused":
        channel.is_paused = bool(row.value)
    elif name := _GAUGES.get(row.name):
        channel.gauges[name] = row.value


# What tells most comes first: a terminal may be narrow.
HEAD = (
    "kind", "channel", "ready", "oldest", "done/s", "failed/s", "leased", "dead", "scheduled",
    "blocked", "leases", "expired", "state",
)  # fmt: skip


def table(view: View, former: View | None, seconds: float) -> list[Sequence[str]]:
    """A row a channel; rates since `former`, which was `seconds` ago."""
    rows: list[Sequence[str]] = []
    for key, each in view.channels.items():
        before = former.channels.get(key) if former else None
        done = failed = ""
        if before and seconds > 0:
            done, failed = (
                f"{max(each.done(names) - before.done(names), 0.0) / seconds:.1f}"
                for names in (DONE, NOT_DONE)
            )
        gauges = each.gauges
        # A dead letter has a sample only where there is one.
        dead = gauges.get("dead_letters", 0.0 if gauges else None)
        rows.append(
            (
                each.kind,
                each.channel,
                _whole(gauges.get("ready")),
                span(gauges.get("oldest_ready_seconds")),
                done,
                failed,
                _whole(gauges.get("leased")),
                _whole(dead),
                *(
                    _whole(gauges.get(name))
                    for name in ("scheduled", "blocked", "leases", "expired")
                ),
                "paused" if each.is_paused else "",
            )
        )
    return rows


def summary(view: View) -> list[str]:
    """What is of no channel, in a line or two."""
    singles = view.singles
    age = singles.get("snapshot_age_seconds")
    told = "no snapshot yet: is tidegate maintain running?"
    if age is not None:
        told = f"places as of {span(age) or '0s'} ago; rates are live"
    lines = [told]
    if "barriers_open" in singles:
        lines.append(
            f"barriers {_whole(singles['barriers_open'])} open,"
            f" {_whole(singles.get('barriers_stalled'))} stranded,"
            f" {_whole(singles.get('barriers_fire_failed'))} failed to fire"
        )
    if held := span(singles.get("horizon_seconds", 0.0)):
        lines.append(f"vacuum is held back for {held}")
    if singles.get("stranded_total"):
        lines.append(f"stranded {_whole(singles['stranded_total'])}")
    lines += [f"upkeep {job} failed {_whole(count)} times" for job, count in view.failing.items()]
    return lines


def span(seconds: float | None) -> str:
    """`42s`, `5min`, `3h`, `2d`; nothing for nothing."""
    if not seconds or seconds < 1:
        return ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
