"""What a relay tells the database about each event; the database here is a fake that only
listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from pyshim import calls
from pyshim.errors import NoSuchChannel
from pyshim.loops import Progress
from pyshim.publishers import Message, Outcome, TransportDown
from pyshim.relay import Relay


class FakeSession:
    """Hands out so many events, once a claim, and remembers what it was told."""

    def __init__(self, *batches: int, lease: float = 60, lost: bool = False) -> None:
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.together = 0  # settlements with a claim in their transaction
        self.refuses: Exception | None = None
        self._batches = list(batches)
        self._lease = timedelta(seconds=lease)
        self._lost = lost

    async def call(self, statement: str, arguments: Mapping[str, Any]) -> list[Any]:
        self.told.append((statement, arguments))
        count = self._batches.pop(0) if self._batches else 0
        return [self._row(number) for number in range(1, count + 1)]

    async def calls(self, *wanted: tuple[str, Mapping[str, Any]]) -> list[list[Any]]:
        self.together += 1
        (settle, settlement), (claim, arguments) = wanted
        if self.refuses is not None:
            raise self.refuses
        return [[await self.one(settle, settlement)], await self.call(claim, arguments)]

    async def one(self, statement: str, arguments: Mapping[str, Any]) -> Any:
        self.told.append((statement, arguments))
        failed = arguments["failed"].obj if "failed" in arguments else []
        acked = len(arguments.get("done", []))
        return SimpleNamespace(acked=acked, retried=len(failed), dead_lettered=0, lost=self._lost)

    def arguments(self, statement: str) -> list[Mapping[str, Any]]:
        return [arguments for told, arguments in self.told if told == statement]

    def _row(self, number: int) -> Any:
        return SimpleNamespace(
            lease_id=UUID(int=0),
            message_id=number,
            event_id=UUID(int=number),
            topic="orders",
            attempt=1,
            payload="{}",
            headers='{"traceparent": "00-a-b-01"}',
            group_key=None,
            run_id=None,
            tenant=None,
            enqueued_at=datetime.now(timezone.utc),
            lease_left=self._lease,
        )


class FakePublisher:
    """Answers what it was built with, by message id; everything else is published."""

    def __init__(self, answers: Mapping[int, Outcome] | Exception | None = None) -> None:
        self.answers = answers
        self.probes = 0
        self.seen: list[Message] = []
        self.takes = 0.0

    async def probe(self) -> None:
        self.probes += 1
        if isinstance(self.answers, TransportDown):
            raise self.answers

    async def publish(self, messages: Sequence[Message]) -> list[Outcome]:
        await asyncio.sleep(self.takes)
        if isinstance(self.answers, Exception):
            raise self.answers
        self.seen += messages
        answers = self.answers or {}
        return [answers.get(message.message_id, Outcome()) for message in messages]

    async def close(self) -> None:
        pass


def _relay(
    session: FakeSession,
    publisher: FakePublisher,
    limit: int = 500,
    is_woken: Callable[[], bool] = lambda: False,
) -> Relay:
    return Relay(session, publisher, "orders", limit=limit, is_woken=is_woken)  # type: ignore[arg-type]


async def test_what_was_published_and_what_failed_are_settled_together() -> None:
    # given 500 events of which the broker rejects one
    session = FakeSession(500)
    relay = _relay(session, FakePublisher({7: Outcome(error="WRONGTYPE\x00 of its own")}))
    # when they are relayed
    progress = await relay.step()
    # then one settlement names 499 as done and one with its own error
    (settle,) = session.arguments(calls.OUTBOX_SETTLE)
    assert len(settle["done"]) == 499
    assert settle["failed"].obj == [{"message_id": 7, "error": "WRONGTYPE of its own"}]
    assert session.arguments(calls.OUTBOX_RELEASE) == []
    assert progress is Progress.FULL
    assert (relay.totals.published, relay.totals.retried) == (499, 1)


async def test_a_failure_says_whether_and_when_it_is_tried_again() -> None:
    session = FakeSession(3)
    answers = {
        1: Outcome(error="400", retryable=False),
        2: Outcome(error="503", retry_in=timedelta(minutes=2)),
        3: Outcome(error="500"),
    }
    await _relay(session, FakePublisher(answers)).step()
    (settle,) = session.arguments(calls.OUTBOX_SETTLE)
    assert settle["failed"].obj == [
        {"message_id": 1, "error": "400", "retryable": False},
        {"message_id": 2, "error": "503", "retry_in": "120.000 s"},
        {"message_id": 3, "error": "500"},
    ]


async def test_headers_travel_to_the_publisher() -> None:
    publisher = FakePublisher()
    await _relay(FakeSession(1), publisher).step()
    assert publisher.seen[0].headers == {"traceparent": "00-a-b-01"}


@pytest.mark.parametrize(
    ("claimed", "failing", "progress"),
    [
        (0, 0, Progress.NONE),
        (2, 0, Progress.SOME),
        (3, 0, Progress.FULL),
        (3, 2, Progress.FULL),
        (3, 3, Progress.NONE),
    ],
)
async def test_only_a_full_batch_with_a_success_asks_for_more(
    claimed: int, failing: int, progress: Progress
) -> None:
    answers = {number: Outcome(error="no") for number in range(1, failing + 1)}
    assert await _relay(FakeSession(claimed), FakePublisher(answers), 3).step() is progress


async def test_a_transport_that_is_down_charges_nobody_and_claims_nothing() -> None:
    session = FakeSession(500)
    relay = _relay(session, FakePublisher(TransportDown("no route")))
    for _ in range(3):
        with pytest.raises(TransportDown):
            await relay.step()
    assert session.told == []


async def test_a_transport_that_breaks_in_the_middle_gets_its_batch_released_once() -> None:
    # given a broker that was there when asked and broke with the batch
    session = FakeSession(500, 500)
    publisher = FakePublisher()
    relay = _relay(session, publisher)
    await relay.step()
    publisher.answers = TransportDown("broken pipe")
    # when the relay goes on trying
    for _ in range(3):
        with pytest.raises(TransportDown):
            await relay.step()
    # then all 500 were released, nothing was settled, and nothing more was claimed than what had
    # been asked for when it broke
    (release,) = session.arguments(calls.OUTBOX_RELEASE)
    assert release["message_ids"] is None
    assert len(session.arguments(calls.OUTBOX_SETTLE)) == 1
    assert len(session.arguments(calls.OUTBOX_CLAIM)) == 3
    # and it goes on when the broker is back
    publisher.answers = None
    assert await relay.step() is Progress.NONE


async def test_what_a_broker_in_trouble_did_not_take_is_released_beside_the_settled() -> None:
    session = FakeSession(3)
    answers = {2: Outcome(error="OOM", unreached=True), 3: Outcome(error="too large")}
    with pytest.raises(TransportDown, match="OOM"):
        await _relay(session, FakePublisher(answers)).step()
    (settle,) = session.arguments(calls.OUTBOX_SETTLE)
    (release,) = session.arguments(calls.OUTBOX_RELEASE)
    assert settle["done"] == [1]
    assert [failure["message_id"] for failure in settle["failed"].obj] == [3]
    assert release["message_ids"] == [2]
    assert release["retry_in"] > timedelta(0)


async def test_publishing_stops_before_its_lease_ends_and_asks_for_less() -> None:
    # given a broker slower than the lease
    session = FakeSession(500, 250, lease=0.1)
    publisher = FakePublisher()
    publisher.takes = 5
    relay = _relay(session, publisher)
    # when a batch does not get through in time
    with pytest.raises(TransportDown, match="longer than"):
        await relay.step()
    # then it is given back, and the next is half as large
    assert len(session.arguments(calls.OUTBOX_RELEASE)) == 1
    publisher.takes = 0
    await relay.step()
    assert [claim["limit"] for claim in session.arguments(calls.OUTBOX_CLAIM)] == [500, 250]


async def test_a_lease_that_is_gone_is_counted_and_no_error() -> None:
    relay = _relay(FakeSession(5, lost=True), FakePublisher())
    await relay.step()
    assert (relay.totals.lost, relay.totals.published) == (5, 0)


async def test_each_claim_has_a_lease_id_of_its_own() -> None:
    session = FakeSession(1, 1)
    relay = _relay(session, FakePublisher())
    await relay.step()
    await relay.step()
    first, second = (claim["lease_id"] for claim in session.arguments(calls.OUTBOX_CLAIM))
    assert first != second


async def test_the_next_batch_is_claimed_while_one_is_published_if_that_is_quick() -> None:
    # given a broker that is quick, and three full batches
    session = FakeSession(500, 500, 500)
    relay = _relay(session, FakePublisher())
    # when two have been relayed: the first shows how quick it is
    await relay.step()
    assert len(session.arguments(calls.OUTBOX_CLAIM)) == 1
    await relay.step()
    # then the third is claimed, and the next step claims no other before it
    assert len(session.arguments(calls.OUTBOX_CLAIM)) == 3
    assert await relay.step() is Progress.FULL
    assert relay.totals.published == 1500


async def test_where_a_bell_is_answered_the_next_is_claimed_with_the_settlement() -> None:
    # given a relay that is woken, and batches that are not full
    session = FakeSession(3, 2)
    relay = _relay(session, FakePublisher(), is_woken=lambda: True)
    # when it relays the first, then it has the second, and is to go on at once
    assert await relay.step() is Progress.FULL
    assert session.together == 1
    # and with the second it learns that there is no third
    assert await relay.step() is Progress.SOME
    assert relay.totals.published == 5
    assert len(session.arguments(calls.OUTBOX_CLAIM)) == 3


@pytest.mark.parametrize(
    "refusal", [NoSuchChannel("no such topic"), psycopg.errors.QueryCanceled("too long")]
)
async def test_a_claim_that_fails_takes_no_settlement_with_it(refusal: Exception) -> None:
    session = FakeSession(3)
    session.refuses = refusal
    relay = _relay(session, FakePublisher(), is_woken=lambda: True)
    assert await relay.step() is Progress.SOME
    assert len(session.arguments(calls.OUTBOX_SETTLE)) == 1
    assert relay.totals.published == 3


async def test_what_a_broker_in_trouble_got_is_settled_alone() -> None:
    session = FakeSession(2, 2)
    answers = {2: Outcome(error="stopped", unreached=True)}
    relay = _relay(session, FakePublisher(answers), is_woken=lambda: True)
    with pytest.raises(TransportDown):
        await relay.step()
    assert (session.together, len(session.arguments(calls.OUTBOX_CLAIM))) == (0, 1)


async def test_what_was_claimed_with_a_settlement_is_given_back() -> None:
    session = FakeSession(3, 2)
    relay = _relay(session, FakePublisher(), is_woken=lambda: True)
    await relay.step()
    await relay.close()
    claims = [claim["lease_id"] for claim in session.arguments(calls.OUTBOX_CLAIM)]
    assert [each["lease_id"] for each in session.arguments(calls.OUTBOX_RELEASE)] == claims[1:]


async def test_what_was_claimed_ahead_is_given_back() -> None:
    for breaks in (False, True):
        session = FakeSession(500, 500, 500)
        publisher = FakePublisher()
        relay = _relay(session, publisher)
        await relay.step()
        if breaks:
            # when the broker breaks with the batch before it
            publisher.answers = TransportDown("broken pipe")
            with pytest.raises(TransportDown):
                await relay.step()
        else:
            # or when the relay is told to stop after it
            await relay.step()
            await relay.close()
        claims = [claim["lease_id"] for claim in session.arguments(calls.OUTBOX_CLAIM)]
        given_back = [each["lease_id"] for each in session.arguments(calls.OUTBOX_RELEASE)]
        assert given_back == (claims[1:] if breaks else claims[2:])


async def test_nothing_is_claimed_ahead_that_could_wait_longer_than_its_lease() -> None:
    # given a batch that was claimed ahead, and waits too long for its turn
    session = FakeSession(500, 500, 500, 500, lease=0.5)
    relay = _relay(session, FakePublisher())
    await relay.step()
    await relay.step()
    await asyncio.sleep(0.5)
    # then it is given back uncharged, and another is claimed
    assert await relay.step() is Progress.FULL
    claims = [claim["lease_id"] for claim in session.arguments(calls.OUTBOX_CLAIM)]
    assert session.arguments(calls.OUTBOX_RELEASE)[0]["lease_id"] == claims[2]
    assert session.arguments(calls.OUTBOX_SETTLE)[2]["lease_id"] == claims[3]


async def test_in_order_nothing_is_claimed_ahead() -> None:
    session = FakeSession(500, 500)
    relay = Relay(session, FakePublisher(), "orders", ordered=True)  # type: ignore[arg-type]
    await relay.step()
    await relay.step()
    assert len(session.arguments(calls.QUEUE_CLAIM_TEXT)) == 2
