"""Messages for the tests of publishers."""

from __future__ import annotations

from datetime import datetime, timezone
from uuid import UUID

from pyshim.publishers import Message

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def message(number: int = 1, **changes: object) -> Message:
    """An event of the topic orders."""
    given: dict[str, object] = {
        "event_id": UUID(int=number),
        "topic": "orders",
        "message_id": number,
        "attempt": 1,
        "payload": '{"price": 10.00, "name": "Zoë"}',
        "enqueued_at": datetime(2024, 5, 6, 7, 8, 9, 250000, tzinfo=timezone.utc),
    }
    return Message(**{**given, **changes})  # type: ignore[arg-type]
