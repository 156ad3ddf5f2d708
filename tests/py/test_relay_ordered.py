"""A relay that keeps the order of groups drains a queue, on a real database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import psycopg
import pytest

from pyshim.config import Database
from pyshim.connect import connect
from pyshim.loops import Progress
from pyshim.publishers import Message, Outcome, TransportDown
from pyshim.relay import Relay
from pyshim.session import Session


class Fussy:
    """Publishes, but answers the n-th delivery of a payload with what was said of it."""

    def __init__(self, answers: dict[str, list[Outcome]]) -> None:
        self.answers = answers
        self.published: list[str] = []
        self.topics: set[str] = set()

    async def probe(self) -> None:
        """Always there."""

    async def publish(self, messages: Sequence[Message]) -> list[Outcome]:
        outcomes = []
        for message in messages:
            left = self.answers.get(message.payload, [])
            outcomes.append(left.pop(0) if left else Outcome())
            if outcomes[-1].error is None:
                self.published.append(message.payload)
                self.topics.add(message.topic)
        return outcomes

    async def close(self) -> None:
        """Nothing to let go of."""


AT_ONCE = Outcome(error="again", retry_in=timedelta(0))


@pytest.mark.parametrize(
    ("answer", "arrived"),
    [
        (AT_ONCE, ["1", "2", "3"]),
        (Outcome(error="no route", unreached=True), ["1", "2", "3"]),
        (Outcome(error="never", retryable=False), ["2", "3"]),
    ],
)
async def test_the_events_of_a_group_are_published_in_order_whatever_becomes_of_the_first(
    database: str, monkeypatch: pytest.MonkeyPatch, answer: Outcome, arrived: list[str]
) -> None:
    # given a topic that is routed to a queue, three events of one group, and one of another
    monkeypatch.setattr("pyshim.relay._UNREACHED_RETRY", timedelta(0))
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("select tidegate.topic_create('orders'), tidegate.queue_create('out')")
        conn.execute("select tidegate.outbox_route('orders', 'out')")
        for key, payload in (("a", "1"), ("b", "4"), ("a", "2"), ("a", "3")):
            conn.execute(
                "select tidegate.outbox_put('orders', %s::jsonb, p_group_key => %s)",
                (payload, key),
            )
        conn.execute("select tidegate.outbox_sweep()")
    # when a relay publishes them in order, and the first meets that answer
    publisher = Fussy({"1": [answer]})
    session = Session(lambda: connect(Database(database, "the test")), "tidegate")
    relay = Relay(session, publisher, "out", ordered=True)
    idle = 0
    while idle < 4:
        try:
            idle = idle + 1 if await relay.step() is Progress.NONE else 0
        except TransportDown:
            continue
    await session.close()
    # then nobody of its group was published before it was, or was dead
    assert [payload for payload in publisher.published if payload != "4"] == arrived
    assert publisher.published.count("4") == 1
    assert publisher.topics == {"orders"}, "the topic travels through the queue"
