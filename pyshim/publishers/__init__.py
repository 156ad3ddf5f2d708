"""Where a relay can send events. A publisher knows messages and their outcomes, and nothing of the
database.

A publisher of somebody else's is a class with a `from_url`, named in the entry point group
`tidegate.publishers` by the scheme of its URLs.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

from pyshim.config import redact
from pyshim.errors import ConfigError
from pyshim.publishers.base import Message, Outcome, Publisher, TransportDown, TransportGone

__all__ = ["Message", "Outcome", "Publisher", "TransportDown", "TransportGone", "publisher_for"]

ENTRY_POINTS = "tidegate.publishers"


@dataclass(frozen=True)
class _Kind:
    """One of ours: the class `name`Publisher of the module `extra`, which needs `package`."""

    name: str
    extra: str
    package: str
    example: str


_REDIS = _Kind("Redis", "redis", "redis", "redis://host:6379/0?stream=NAME (or zset=NAME)")
_NATS = _Kind("Nats", "nats", "nats-py", "nats://host:4222?subject=NAME&stream=NAME")
_HTTP = _Kind("Http", "http", "aiohttp", "https://host/path#secret_env=NAME")
_RABBITMQ = _Kind(
    "Rabbitmq", "rabbitmq", "aiormq", "amqp://host:5672/vhost?exchange=NAME&routing_key=KEY"
)
_KAFKA = _Kind("Kafka", "kafka", "confluent-kafka", "kafka://host:9092/TOPIC")
_KINDS = {
    "redis": _REDIS,
    "rediss": _REDIS,
    "unix": _REDIS,
    "nats": _NATS,
    "tls": _NATS,
    "amqp": _RABBITMQ,
    "amqps": _RABBITMQ,
    "kafka": _KAFKA,
    "http": _HTTP,
    "https": _HTTP,
}


def publisher_for(target: str) -> Publisher:
    """The publisher that `--to` names. Nothing is connected yet; a target that cannot work is a
    `ConfigError`."""
    if target in ("stdout", "-"):
        from pyshim.publishers.stdout import StdoutPublisher

        return StdoutPublisher()
    scheme, mark, _ = target.partition("://")
    if mark and (kind := _KINDS.get(scheme)):
        return _ours(kind, target)
    if mark and (found := metadata.entry_points(group=ENTRY_POINTS, name=scheme)):
        return _theirs(next(iter(found)), target)
    examples = dict.fromkeys(kind.example for kind in _KINDS.values())
    installed = [f"{each.name}://…" for each in metadata.entry_points(group=ENTRY_POINTS)]
    raise ConfigError(
        f"unknown target {redact(target)!r}",
        hint=f"one of: {', '.join(['stdout', *examples, *sorted(installed)])}",
    )


def _ours(kind: _Kind, target: str) -> Publisher:
    try:
        module = import_module(f"pyshim.publishers.{kind.extra}")
    except ImportError:
        raise ConfigError(
            f"publishing to {kind.name} needs the package {kind.package}",
            hint=f"pip install '.[{kind.extra}]' in a checkout of Tidegate,"
            f" or pip install {kind.package}",
        ) from None
    made: Publisher = getattr(module, f"{kind.name}Publisher").from_url(target)
    return made


def _theirs(point: Any, target: str) -> Publisher:
    try:
        made: Publisher = point.load().from_url(target)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the publisher {point.value!r} for {point.name}:// does not load:"
            f" {redact(str(error)) or type(error).__name__}"
        ) from error
    return made
