"""The settings of a sidecar as they are in force: what `tidegate run --check` prints."""

from __future__ import annotations

import json
import re
from typing import Any

from pyshim.config import redact
from pyshim.configfile import RETENTION, Sidecar
from pyshim.publishers.target import shown
from pyshim.registry import load
from pyshim.roles import Maintain, Relaying, Sweep, Work

_SECRET = re.compile(
    r"((?:^|[?&#;])[^=&#;]*(?:pass|secret|token|credential|sasl)[^=&#;]*=)[^&#;]*", re.IGNORECASE
)


def effective(sidecar: Sidecar) -> str:
    """The settings as they are in force, as TOML, without secrets."""
    lines = [
        f"# {sidecar.file}: valid; at most {sidecar.connections} database connections",
        *_pair("database_url", redact(sidecar.database.url), f"from {sidecar.database.source}"),
        *_pair("schema", sidecar.schema),
        *_span("timeout", sidecar.timeout),
        *_pair("log_format", sidecar.log_format),
        *_pair("verbose", sidecar.verbose),
    ]
    if sidecar.listen:
        lines += _pair("listen", f"{sidecar.listen.host}:{sidecar.listen.port}")
    lines += _pair("doorbell", sidecar.doorbell is not None)
    if sidecar.doorbell and sidecar.doorbell != sidecar.database:
        source = f"from {sidecar.doorbell.source}"
        lines += _pair("doorbell_url", redact(sidecar.doorbell.url), source)
    if sidecar.labels:
        lines += ["", "[labels]"]
        for name, value in sidecar.labels.items():
            lines += _pair(name, value)
    sweeps = [role for role in sidecar.roles.values() if isinstance(role, Sweep)]
    if sweeps:
        lines += ["", "[sweep]"]
        if sweeps[0].topic is not None:
            lines += _pair("topics", [role.topic for role in sweeps])
        lines += _pair("limit", sweeps[0].limit) + _span("interval", sweeps[0].interval)
        lines += _pair("cleanup", sweeps[0].cleanup) + _span("timeout", sweeps[0].timeout)
    for place, role in sidecar.roles.items():
        if isinstance(role, Relaying):
            variable = sidecar.sources.get(place)
            lines += ["", "[[relay]]", *_pair("topic", role.topic)]
            lines += _pair("to", target(role.to), f"from {variable}" if variable else "")
            lines += _pair("ordered", role.ordered) + _pair("limit", role.limit)
            lines += _span("lease", role.lease) + _span("timeout", role.timeout)
        elif isinstance(role, Work):
            lines += ["", "[[work]]", *_pair("registry", role.registry)]
            lines += _pair("queues", role.chosen(load(role.registry)))
            lines += _pair("concurrency", role.concurrency) + _pair("batch", role.batch)
            lines += _pair("worker", role.worker) + _span("grace", role.grace)
            lines += _span("timeout", role.timeout)
        elif isinstance(role, Maintain):
            lines += ["", "[maintain]", *_span("interval", role.interval)]
            lines += _span("lease", role.lease) + _span("timeout", role.timeout)
            if role.retention:
                lines += ["", "[maintain.retention]"]
                for key, argument in RETENTION.items():
                    lines += _span(key, role.retention.get(argument))
    return "\n".join([*lines, ""])


def target(url: str) -> str:
    """A target without what may be a secret: user and password; words that say so; and, of what
    takes more than names in its path, all but the host."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    if scheme not in ("redis", "rediss", "unix", "nats", "tls", "amqp", "amqps", "kafka"):
        return f"{shown(url)}/…"
    login, at, place = rest.rpartition("@")
    return _SECRET.sub(r"\1***", f"{scheme}://{'***@' if at and login else ''}{place}")


def _span(key: str, seconds: float | None) -> list[str]:
    return _pair(key, None if seconds is None else f"{seconds:.10g}s")


def _pair(key: str, value: Any, note: str = "") -> list[str]:
    """A line of TOML; none for what is not said. JSON's texts and numbers are TOML's, too."""
    if value is None:
        return []
    text = json.dumps(value, ensure_ascii=False)
    return [f"{key} = {text}" + (f"  # {note}" if note else "")]
