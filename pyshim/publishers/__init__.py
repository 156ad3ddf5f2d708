"""Where a relay can send events. A publisher knows messages and their outcomes, and nothing of the
database."""

from __future__ import annotations

from pyshim.config import redact
from pyshim.errors import ConfigError
from pyshim.publishers.base import Message, Outcome, Publisher, TransportDown, TransportGone

__all__ = ["Message", "Outcome", "Publisher", "TransportDown", "TransportGone", "publisher_for"]

_TARGETS = "stdout, redis://host:6379/0?stream=NAME, redis://host:6379/0?zset=NAME"


def publisher_for(target: str) -> Publisher:
    """The publisher that `--to` names. Nothing is connected yet; a target that cannot work is a
    `ConfigError`."""
    if target in ("stdout", "-"):
        from pyshim.publishers.stdout import StdoutPublisher

        return StdoutPublisher()
    if target.startswith(("redis://", "rediss://", "unix://")):
        try:
            from pyshim.publishers.redis import RedisPublisher
        except ImportError:
            raise ConfigError(
                "publishing to Redis needs the package redis",
                hint="pip install '.[redis]' in a checkout of Tidegate, or pip install redis",
            ) from None
        return RedisPublisher.from_url(target)
    raise ConfigError(f"unknown target {redact(target)!r}", hint=f"one of: {_TARGETS}")
