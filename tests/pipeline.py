"""Events through every role, while something is done to what they rest on; and who got them.

Even numbers are routed to a queue and worked on, odd ones are relayed; both are seen as lines that
the worker and the relay print.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from pyshim import Client
from pyshim.registry import Delivery, Registry
from tests.brokers import until
from tests.herd import Herd

registry = Registry()

ROLES: tuple[tuple[str, ...], ...] = (
    ("sweep", "--follow", "--interval", "100ms", "--no-cleanup"),
    ("relay", "relayed", "--to", "stdout", "--lease", "3s", "--limit", "100"),
    ("work", "tests.pipeline:registry", "--queue", "routed"),
    ("maintain", "--lease", "3s"),
)
RUN = """
[sweep]
interval = "100ms"
[[relay]]
topic = "relayed"
to = "stdout"
lease = "3s"
limit = 100
[[work]]
registry = "tests.pipeline:registry"
queues = ["routed"]
[maintain]
lease = "3s"
"""
_LEFT = "select coalesce(sum(ready + scheduled + blocked + leased), 0) from tidegate.backlog"


@registry.handler("routed")
async def handle(message: Delivery) -> None:
    """Say what came."""
    told = {"event_id": str(message.event_id), "payload": message.payload}
    sys.stdout.write(json.dumps(told) + "\n")  # at once: a relay may write there, too
    sys.stdout.flush()


class Pipeline:
    """`url` is how the roles and the producers reach the database."""

    def __init__(
        self, url: str, folder: Path, *, roles: tuple[tuple[str, ...], ...] = ROLES
    ) -> None:
        self.url = url
        self._roles = roles
        self.herd = Herd(url, folder / "herd")
        self.acknowledged: dict[int, int] = {}  # number → message_id
        self.doubtful: set[int] = set()  # the connection broke before the answer
        self._numbers = itertools.count()
        self._ending = threading.Event()
        self._producers = [threading.Thread(target=self._produce) for _ in range(2)]

    @contextlib.contextmanager
    def running(self) -> Iterator[Pipeline]:
        """Topics, roles and producers; all are ended at the end, whatever comes."""
        with psycopg.connect(self.url, autocommit=True, prepare_threshold=None) as conn:
            conn.execute(
                """
                select tidegate.topic_create('routed'),
                    tidegate.topic_create('relayed', '{"doorbell": "5 ms"}'),
                    tidegate.queue_create('routed', '{"lease": "3 s"}')
                """
            )
            conn.execute("select tidegate.outbox_route('routed', 'routed')")
        try:
            for words in self._roles:
                self.herd.start(*words)
            for producer in self._producers:
                producer.start()
            self.flow()
            until(lambda: any("event=leading" in line for line in self.herd.logged()))
            yield self
        finally:
            self._ending.set()
            for producer in self._producers:
                producer.join()
            self.herd.end()

    def put(self, count: int) -> None:
        """Wait until so many more have been acknowledged."""
        goal = len(self.acknowledged) + count
        until(lambda: len(self.acknowledged) >= goal, 120)

    def flow(self) -> None:
        """Wait until events that are put from now on arrive on both ways."""
        mark = max(self.acknowledged, default=0)
        until(lambda: {n % 2 for n in self.arrived() if n > mark} == {0, 1}, 120)

    def drain(self, admin: str) -> None:
        """Put no more, wait until all has arrived, and end the roles, gracefully."""
        self._ending.set()
        for producer in self._producers:
            producer.join()

        def is_empty() -> bool:
            with psycopg.connect(admin, prepare_threshold=None) as conn:
                return conn.execute(_LEFT.encode()).fetchone() == (0,)

        until(is_empty, 120)
        for words, process in self.herd.members:
            assert process.poll() is None, f"{words[0]} had ended by itself"
        self.herd.stop()
        self.herd.members.clear()

    def arrived(self) -> dict[int, Counter[str]]:
        """number → the event_ids under which it arrived, and how often."""
        found: dict[int, Counter[str]] = {}
        for event in self.herd.printed():
            found.setdefault(event["payload"]["n"], Counter())[event["event_id"]] += 1
        return found

    def check(self, lost: set[int] | None = None) -> dict[int, Counter[str]]:
        """Nothing acknowledged is lost, but for `lost`; nothing is invented; duplicates carry the
        same id, and no two events do; every line of a log is one event."""
        arrived = self.arrived()
        missing = set(self.acknowledged) - set(arrived) - (lost or set())
        assert not missing, f"{len(missing)} acknowledged events are lost: {sorted(missing)[:9]}"
        assert set(arrived) <= set(self.acknowledged) | self.doubtful
        names = {number: set(ids) for number, ids in arrived.items()}
        several = {number: ids for number, ids in names.items() if len(ids) > 1}
        assert not several, f"the same event under several ids: {several}"
        owners: dict[str, list[int]] = {}
        for number, ids in names.items():
            for event_id in ids:
                owners.setdefault(event_id, []).append(number)
        shared = {event_id: each for event_id, each in owners.items() if len(each) > 1}
        assert not shared, f"{len(shared)} ids of several events: {list(shared.items())[:3]}"
        odd = [line for line in self.herd.logged() if not line.startswith("at=")]
        assert not odd, f"not one line each: {odd[:5]}"
        return arrived

    def repeats(self) -> int:
        """How many arrivals were not the first of their event."""
        return sum(ids.total() - 1 for ids in self.arrived().values())

    def _produce(self) -> None:
        client = Client()
        while not self._ending.is_set():
            with contextlib.suppress(psycopg.OperationalError), self._connect() as conn:
                while not self._ending.is_set():
                    number = next(self._numbers)
                    topic = "relayed" if number % 2 else "routed"
                    self.doubtful.add(number)
                    sent = client.put(conn, topic, {"n": number})
                    assert sent.message_id is not None
                    self.acknowledged[number] = sent.message_id
                    self.doubtful.discard(number)
                    time.sleep(random.uniform(0.002, 0.006))
            self._ending.wait(0.1)

    def _connect(self) -> psycopg.Connection[Any]:
        """As an application does: with whatever psycopg prepares by default."""
        return psycopg.connect(self.url, autocommit=True, connect_timeout=2)
