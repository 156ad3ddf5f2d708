"""What a worker tells the database; the database here is a fake that only listens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from pyshim import calls
from pyshim.errors import BadArgument, ConfigError, DatabaseUnavailable
from pyshim.heart import Beat, Pulse
from pyshim.loops import Progress, Stop
from pyshim.registry import Delivery, Registry, Retry
from pyshim.worker import QueueWorker


class Row(SimpleNamespace):
    def _asdict(self) -> dict[str, Any]:
        return dict(vars(self))


class FakeSession:
    """Hands out so many messages, once a claim; answers what `answers` holds for a call."""

    schema = "tidegate"

    def __init__(self, *batches: int, lease: float = 60) -> None:
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.errors: dict[str, list[Exception]] = {}
        self.lost = False
        self.closed = False
        self._batches = list(batches)
        self._lease = timedelta(seconds=lease)
        self._next = 0

    async def call(self, statement: str, arguments: Mapping[str, Any]) -> list[Any]:
        await asyncio.sleep(0)
        self._tell(statement, arguments)
        count = self._batches.pop(0) if self._batches else 0
        first, self._next = self._next, self._next + count
        return [self._row(arguments["lease_id"], n) for n in range(first, first + count)]

    async def one(self, statement: str, arguments: Mapping[str, Any]) -> Any:
        await asyncio.sleep(0)
        self._tell(statement, arguments)
        if statement == calls.QUEUE_RELEASE:
            retried = len(arguments["message_ids"] or ())
            return SimpleNamespace(acked=0, retried=retried, dead_lettered=0, lost=self.lost)
        return SimpleNamespace(
            acked=len(arguments["done"]),
            retried=len(arguments["failed"].obj),
            dead_lettered=0,
            lost=self.lost,
        )

    async def close(self) -> None:
        self.closed = True

    def arguments(self, statement: str) -> list[Mapping[str, Any]]:
        return [arguments for told, arguments in self.told if told == statement]

    def _tell(self, statement: str, arguments: Mapping[str, Any]) -> None:
        self.told.append((statement, arguments))
        if errors := self.errors.get(statement):
            raise errors.pop(0)

    def _row(self, lease_id: UUID, number: int) -> Row:
        return Row(
            lease_id=lease_id, message_id=number, event_id=UUID(int=number), topic=None,
            attempt=1, max_attempts=5, payload=str(number), headers=None, priority=0,
            group_key=None, job_key=None, run_id=None, tenant=None, barrier=None, epoch=None,
            member=None,
            enqueued_at=datetime.now(timezone.utc), lease_left=self._lease,
        )  # fmt: skip


class FakeHeart:
    def __init__(self) -> None:
        self.pulses: list[Pulse] = []
        self.dropped: list[Pulse] = []

    def keep(self, pulse: Pulse) -> None:
        self.pulses.append(pulse)

    def drop(self, pulse: Pulse) -> None:
        self.dropped.append(pulse)


class Bench:
    def __init__(
        self, session: FakeSession, function: Callable[[Delivery], Any], **options: Any
    ) -> None:
        self.session = session
        self.heart = FakeHeart()
        self.stop = Stop()
        registry = Registry()
        registry.handler("q", **options)(function)
        self.worker = QueueWorker(
            registry, "q", session, session, self.heart, self.stop  # type: ignore[arg-type]
        )  # fmt: skip

    async def settled(self) -> None:
        for _ in range(500):
            if not self.worker.in_hand:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("not settled in time")

    def beat(self, expires_in: float = 60, *, lost: bool = False, cancelled: set[int] = set()):  # noqa: B006
        now = time.monotonic()
        self.heart.pulses[-1].tell(
            Beat(now, now + expires_in, now + 600, frozenset(cancelled), lost)
        )

    @property
    def done(self) -> list[int]:
        return [n for settle in self.session.arguments(calls.QUEUE_SETTLE) for n in settle["done"]]


async def _nothing(delivery: Delivery) -> None:
    pass


async def _for_ever(delivery: Delivery) -> None:
    await asyncio.sleep(3600)


async def test_what_finishes_together_is_settled_together() -> None:
    bench = Bench(FakeSession(100), _nothing, batch=100)
    assert await bench.worker.step() is Progress.FULL
    await bench.settled()
    assert sorted(bench.done) == list(range(100))
    assert len(bench.session.arguments(calls.QUEUE_SETTLE)) < 20
    assert bench.worker.totals.done == 100
    assert bench.heart.dropped == bench.heart.pulses


async def test_what_finishes_early_is_settled_while_others_go_on() -> None:
    async def handle(delivery: Delivery) -> None:
        await asyncio.sleep(3600 if delivery.payload == 0 else 0)

    bench = Bench(FakeSession(3), handle, concurrency=3, batch=3)
    await bench.worker.step()
    await asyncio.sleep(0.1)
    assert sorted(bench.done) == [1, 2]
    assert bench.worker.in_hand == 1
    await bench.worker.finish(0)


@pytest.mark.parametrize(
    ("answered", "progress"), [(0, Progress.NONE), (2, Progress.SOME), (3, Progress.FULL)]
)
async def test_only_a_full_claim_asks_for_more(answered: int, progress: Progress) -> None:
    bench = Bench(FakeSession(answered), _nothing, batch=3, concurrency=1)
    assert await bench.worker.step() is progress
    await bench.settled()


async def test_a_claim_whose_answer_was_lost_is_asked_again_under_the_same_id() -> None:
    session = FakeSession(0, 1, 1)
    lost = psycopg.OperationalError("gone")
    session.errors[calls.QUEUE_CLAIM_TEXT] = [lost, lost]
    bench = Bench(session, _nothing)
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError):
            await bench.worker.step()
    for _ in range(3):
        await bench.worker.step()
    ids = [claim["lease_id"] for claim in session.arguments(calls.QUEUE_CLAIM_TEXT)]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids[2:])) == 3
    await bench.settled()


async def test_a_claim_that_may_have_arrived_is_given_back_at_the_end() -> None:
    session = FakeSession(0)
    session.errors[calls.QUEUE_CLAIM_TEXT] = [psycopg.OperationalError("gone")]
    bench = Bench(session, _nothing)
    with pytest.raises(psycopg.OperationalError):
        await bench.worker.step()
    await bench.worker.finish(1)
    (claim,) = session.arguments(calls.QUEUE_CLAIM_TEXT)
    (release,) = session.arguments(calls.QUEUE_RELEASE)
    assert (release["lease_id"], release["message_ids"]) == (claim["lease_id"], None)
    assert session.closed


async def test_a_settlement_is_repeated_until_the_database_answers() -> None:
    session = FakeSession(2)
    session.errors[calls.QUEUE_SETTLE] = [psycopg.OperationalError("gone")] * 3
    bench = Bench(session, _nothing)
    await bench.worker.step()
    await bench.settled()
    settles = session.arguments(calls.QUEUE_SETTLE)
    assert len(settles) == 4
    assert all(settle == settles[0] for settle in settles)
    assert bench.worker.totals.done == 2


async def test_a_settlement_that_is_refused_is_said_again_more_plainly() -> None:
    async def handle(delivery: Delivery) -> None:
        raise ValueError("ungültig")

    session = FakeSession(1)
    session.errors[calls.QUEUE_SETTLE] = [BadArgument("no")]
    bench = Bench(session, handle)
    await bench.worker.step()
    await bench.settled()
    first, second = (
        settle["failed"].obj[0]["error"] for settle in session.arguments(calls.QUEUE_SETTLE)
    )
    assert (first, second) == ("ValueError: ungültig", "ValueError: ung?ltig")


class Fussy(FakeSession):
    """Refuses every settlement or release that names one of `poison`."""

    def __init__(self, *batches: int, poison: set[int]) -> None:
        super().__init__(*batches)
        self.poison = poison

    def _tell(self, statement: str, arguments: Mapping[str, Any]) -> None:
        super()._tell(statement, arguments)
        if statement == calls.QUEUE_SETTLE:
            failed = {entry["message_id"] for entry in arguments["failed"].obj}
            refused = self.poison & {*arguments["done"], *failed}
        else:
            refused = self.poison & {*(arguments.get("message_ids") or ())}
        if refused:
            raise psycopg.errors.CheckViolation("poison") if 9 in refused else BadArgument("poison")


@pytest.mark.parametrize("poison", [{1}, {2}, {9}, {1, 2, 4}])
async def test_what_cannot_be_settled_is_left_alone_and_holds_nothing_back(
    poison: set[int], caplog: pytest.LogCaptureFixture
) -> None:
    # given messages of which the even fail, and one or some that the database will not hear of
    async def handle(delivery: Delivery) -> None:
        await asyncio.sleep(0)
        if delivery.payload % 2 == 0:
            raise ValueError(f"no {delivery.payload}")

    session = Fussy(10, poison=poison)
    bench = Bench(session, handle, batch=10, concurrency=10)
    await bench.worker.step()
    # then the rest is settled, each once, and those are left to expire: nobody renews their lease
    await bench.settled()
    totals = bench.worker.totals
    good = set(range(10)) - poison
    assert totals.done == len([n for n in good if n % 2])
    assert totals.retried == len([n for n in good if n % 2 == 0])
    assert totals.lost == len(poison)
    assert bench.heart.dropped == bench.heart.pulses
    left = [r.fields["message_id"] for r in caplog.records if r.message == "left to expire"]  # type: ignore[attr-defined]
    assert sorted(left) == sorted(poison)


class OfABarrier(FakeSession):
    """Messages of members; refuses a settlement that carries the result of message 1."""

    def _row(self, lease_id: UUID, number: int) -> Row:
        row = super()._row(lease_id, number)
        row.barrier, row.epoch, row.member = "b", 7, number + 1
        return row

    def _tell(self, statement: str, arguments: Mapping[str, Any]) -> None:
        super()._tell(statement, arguments)
        if "1" in json.loads(arguments.get("results") or "{}"):
            raise psycopg.errors.NumericValueOutOfRange("value overflows numeric format")


async def test_a_result_that_the_database_refuses_fails_its_member_and_no_other() -> None:
    # given handlers that return, one of them what only the database finds wrong
    async def handle(delivery: Delivery) -> Any:
        return {"n": delivery.payload}

    session = OfABarrier(4)
    bench = Bench(session, handle, batch=4, concurrency=4)
    await bench.worker.step()
    await bench.settled()
    # then the others arrive with theirs, and that one fails for good, with the refusal
    told = session.arguments(calls.QUEUE_SETTLE)
    last = {n: told for told in session.arguments(calls.QUEUE_SETTLE) for n in told["done"]}
    for n in (0, 2, 3):
        assert json.loads(last[n]["results"]) == {str(n): {"n": n}}
    (failed,) = [told["failed"].obj for told in told if told["failed"].obj]
    assert failed == [
        {
            "message_id": 1,
            "error": "the result was refused: value overflows numeric format",
            "retryable": False,
        }
    ]
    assert (bench.worker.totals.done, bench.worker.totals.lost) == (3, 0)


async def test_large_results_are_settled_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyshim.worker._MOST_RESULTS", 50)

    async def handle(delivery: Delivery) -> str:
        return "x" * (100 if delivery.payload == 4 else 20)

    session = OfABarrier(1, 5)
    bench = Bench(session, handle, batch=5, concurrency=5)
    session._next = 2
    await bench.worker.step()
    await bench.settled()
    await bench.worker.step()
    await bench.settled()
    sizes = [len(told["done"]) for told in session.arguments(calls.QUEUE_SETTLE)]
    assert sum(sizes) == 6 and max(sizes) == 2


async def test_what_cannot_be_given_back_holds_nothing_back() -> None:
    async def handle(delivery: Delivery) -> None:
        raise Retry(charge=False)

    bench = Bench(Fussy(3, poison={1}), handle, batch=3)
    await bench.worker.step()
    await bench.settled()
    assert (bench.worker.totals.released, bench.worker.totals.lost) == (2, 1)


async def test_a_claim_that_cannot_have_arrived_is_not_given_back() -> None:
    # given a database that was never reached: to give back means as many attempts to connect again
    session = FakeSession(0)
    session.errors[calls.QUEUE_CLAIM_TEXT] = [DatabaseUnavailable("down")]
    bench = Bench(session, _nothing)
    with pytest.raises(DatabaseUnavailable):
        await bench.worker.step()
    await bench.worker.finish(1)
    assert [told for told, _ in session.told] == [calls.QUEUE_CLAIM_TEXT]
    # but one that was reached before may have got the claim before it went away
    session = FakeSession(0)
    session.errors[calls.QUEUE_CLAIM_TEXT] = [
        psycopg.OperationalError("gone"),
        DatabaseUnavailable("down"),
    ]
    bench = Bench(session, _nothing)
    for _ in range(2):
        with pytest.raises((psycopg.OperationalError, DatabaseUnavailable)):
            await bench.worker.step()
    await bench.worker.finish(1)
    assert len(session.arguments(calls.QUEUE_RELEASE)) == 1


async def test_a_lost_lease_ends_its_handlers_and_settles_nothing() -> None:
    ended: list[int] = []

    async def handle(delivery: Delivery) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(delivery.payload)

    bench = Bench(FakeSession(5), handle, concurrency=2, batch=5)
    await bench.worker.step()
    await asyncio.sleep(0.01)
    bench.beat(lost=True)
    await bench.settled()
    assert sorted(ended) == [0, 1]
    assert [told for told, _ in bench.session.told] == [calls.QUEUE_CLAIM_TEXT]
    assert bench.worker.totals.lost == 5


async def test_a_settlement_answered_lost_ends_the_rest_of_its_lease() -> None:
    async def handle(delivery: Delivery) -> None:
        await asyncio.sleep(3600 if delivery.payload else 0)

    bench = Bench(FakeSession(3), handle, concurrency=2, batch=3)
    bench.session.lost = True
    await bench.worker.step()
    await bench.settled()
    assert len(bench.session.arguments(calls.QUEUE_SETTLE)) == 1
    assert (bench.worker.totals.done, bench.worker.totals.lost) == (0, 3)


async def test_nothing_starts_under_a_lease_that_may_be_over_until_it_is_renewed() -> None:
    seen: list[int] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.payload)
        await asyncio.sleep(0.1)

    bench = Bench(FakeSession(2, lease=0.05), handle, concurrency=1, batch=2)
    await bench.worker.step()
    await asyncio.sleep(0.2)
    assert seen == [0]
    bench.beat(60)
    await asyncio.sleep(0.05)
    assert seen == [0, 1]
    await bench.settled()


async def test_a_lease_counts_from_when_it_was_asked_for() -> None:
    # given an answer that took longer than its lease, as for a process that was frozen meanwhile
    class Late(FakeSession):
        async def call(self, statement: str, arguments: Mapping[str, Any]) -> list[Any]:
            rows = await super().call(statement, arguments)
            await asyncio.sleep(0.2)
            return rows

    seen: list[int] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(delivery.payload)

    bench = Bench(Late(1, lease=0.1), handle)
    await bench.worker.step()
    await asyncio.sleep(0.05)
    assert seen == []
    bench.beat(60)
    await bench.settled()
    assert seen == [0]


async def test_what_is_cancelled_ends_or_never_starts_and_is_settled() -> None:
    bench = Bench(FakeSession(3), _for_ever, concurrency=1, batch=3)
    await bench.worker.step()
    await asyncio.sleep(0.01)
    bench.beat(cancelled={0, 1})
    await asyncio.sleep(0.1)
    failures = [f for s in bench.session.arguments(calls.QUEUE_SETTLE) for f in s["failed"].obj]
    assert sorted(f["message_id"] for f in failures) == [0, 1]
    assert {(f["error"], f["retryable"]) for f in failures} == {("cancelled", False)}
    await bench.worker.finish(0)
    assert bench.worker.totals.released == 1


async def test_a_claim_asks_for_what_can_start_and_more_only_of_quick_handlers() -> None:
    # given handlers that take their time: only free places are filled
    slow = Bench(FakeSession(10, 3), _for_ever, concurrency=10)
    await slow.worker.step()
    waiting = asyncio.ensure_future(slow.worker.step())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    slow.stop.set()
    assert await waiting is Progress.NONE
    await slow.worker.finish(0)

    # given quick ones: as many more as will start within a second
    async def a_fifth(delivery: Delivery) -> None:
        await asyncio.sleep(0.2)

    for function, ahead in ((_nothing, (100, 100)), (a_fifth, (40, 50))):
        quick = Bench(FakeSession(10, 10), function, concurrency=10)
        for _ in range(2):
            await quick.worker.step()
            await quick.settled()
        asked = [claim["limit"] for claim in quick.session.arguments(calls.QUEUE_CLAIM_TEXT)]
        assert asked[0] == 10
        assert ahead[0] <= asked[1] <= ahead[1]


async def test_a_batch_too_large_for_max_runtime_is_halved_and_only_who_ran_is_charged() -> None:
    # given four messages whose lease cannot be renewed beyond a tenth of a second from now
    bench = Bench(FakeSession(4, 2), _for_ever, concurrency=1, batch=4)
    await bench.worker.step()
    await asyncio.sleep(0.1)
    now = time.monotonic()
    bench.heart.pulses[-1].tell(Beat(now, now + 0.1, now + 0.1, frozenset(), False))
    await bench.settled()
    # then the one that ran is charged and ended, and the others are given back
    (settle,) = bench.session.arguments(calls.QUEUE_SETTLE)
    (failure,) = settle["failed"].obj
    assert (settle["done"], failure["message_id"], failure["retryable"]) == ([], 0, True)
    assert failure["error"].endswith("at the end of the queue's max_runtime")
    (release,) = bench.session.arguments(calls.QUEUE_RELEASE)
    assert (release["message_ids"], release["retry_in"]) == ([1, 2, 3], timedelta(0))
    # and the next claim asks for half
    await bench.worker.step()
    assert [c["limit"] for c in bench.session.arguments(calls.QUEUE_CLAIM_TEXT)] == [4, 2]
    await bench.worker.finish(0)


async def test_a_handler_that_cancels_itself_has_failed() -> None:
    async def handle(delivery: Delivery) -> None:
        raise asyncio.CancelledError

    bench = Bench(FakeSession(1), handle)
    await bench.worker.step()
    await bench.settled()
    (settle,) = bench.session.arguments(calls.QUEUE_SETTLE)
    assert settle["failed"].obj[0]["error"] == "CancelledError"


def test_a_registry_that_no_process_can_find_runs_no_sync_handler() -> None:
    with pytest.raises(ConfigError, match="in_thread"):
        Bench(FakeSession(), lambda delivery: None)
