"""A barrier against a plain model: whatever is called in whatever order, both say the same.

The model keeps sets; the barrier keeps bitmasks over slots, several of them, and former epochs
beside the present one. After each step what the barrier says of itself, its results and what stands
in its queues must be what the model has; so no state can be reached in which everybody arrived and
nobody was told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import psycopg.types.json
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

EXAMPLES = int(os.environ.get("TIDEGATE_BARRIER_EXAMPLES", "60"))
STEPS = 40
NAMES = ("one", "two")
# Sizes on both sides of what a slot holds, and of what is spread over several.
SIZES = st.sampled_from((0, 1, 2, 3, 8, 9, 17, 63, 130))


@dataclass
class Model:
    """One opening of a barrier."""

    epoch: int
    policy: str
    quorum: int | None
    is_sealed: bool
    members: int = 0
    state: str = "open"
    ended: dict[int, Any] = field(default_factory=dict)  # member → its result, or ("failed", error)
    keys: dict[str, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @property
    def failed(self) -> set[int]:
        return {member for member, end in self.ended.items() if isinstance(end, tuple)}

    def quorum_is_missed(self) -> bool:
        return (
            self.quorum is not None
            and self.is_sealed
            and self.members - len(self.failed) < self.quorum
        )

    def look(self) -> str | None:
        """Close it if nothing more is to come; what the one who did it is told."""
        if self.quorum_is_missed():
            return self.close("aborted", "quorum_missed")
        if self.is_sealed and len(self.ended) == self.members:
            return self.close("fired", "partial" if self.failed else "completed")
        return None

    def close(self, state: str, outcome: str) -> str:
        self.state = state
        if state != "resolved":
            self.said.append(outcome)
        return state

    def add(self, count: int) -> int:
        self.members += count
        return self.members - count + 1

    def end(self, member: int, result: Any) -> str:
        if not 1 <= member <= self.members:
            return "unknown"
        if member in self.ended:
            return "duplicate"
        if self.state != "open":
            return "closed"
        self.ended[member] = result
        if isinstance(result, tuple):
            if self.policy == "abort":
                return self.close("aborted", "aborted")
            return self.look() or "failed"
        return self.look() or "arrived"

    def seal(self) -> str:
        if self.state != "open":
            return "closed"
        if self.is_sealed:
            return "duplicate"
        self.is_sealed = True
        return self.look() or "sealed"

    def abort(self) -> str:
        return self.close("aborted", "aborted") if self.state == "open" else "closed"

    def resolve(self, outcome: str) -> str:
        if outcome == "keep":
            return "kept" if self.state == "open" else "closed"
        if outcome == "completed":
            if self.state == "open":
                self.close("resolved", "completed")
            return "completed" if self.state == "resolved" else "closed"
        if self.state == "open":
            self.close("aborted", "expired")
        return "failed" if self.said == ["expired"] else "closed"


class BarrierMachine(RuleBasedStateMachine):
    conn: psycopg.Connection[Any]

    @initialize()
    def begin(self) -> None:
        self.conn.execute(
            "truncate tidegate.ready, tidegate.body, tidegate.barrier, tidegate.barrier_epoch,"
            " tidegate.barrier_range, tidegate.barrier_sent, tidegate.barrier_slot,"
            " tidegate.barrier_result"
        )
        self.live: dict[str, Model] = {}
        self.former: list[tuple[str, Model]] = []

    def call(self, text: str, *values: Any) -> Any:
        """What a function answers, and, before that, a rolled back call: it must leave nothing."""
        query = f"select tidegate.{text}".encode()
        with self.conn.transaction(force_rollback=True):
            self.conn.execute(query, values)
        row = self.conn.execute(query, values).fetchone()
        assert row
        return row[0]

    def pick(self, name: str, back: int) -> tuple[int, Model | None, str | None]:
        """An epoch to call with, its model where it is alive, and else what is answered."""
        model = self.live.get(name)
        if model is None:
            return 7, None, "unknown"
        if back == 1:
            return model.epoch + 100, None, "unknown"
        if back == 2:
            former = [old.epoch for known, old in self.former if known == name]
            return (former[-1], None, "stale") if former else (0, None, "stale")
        return model.epoch, model, None

    @rule(
        name=st.sampled_from(NAMES),
        size=SIZES,
        policy=st.sampled_from(("abort", "collect", "quorum")),
        share=st.integers(1, 100),
        sealed=st.booleans(),
        by_send=st.booleans(),
        patience=st.integers(0, 5),
    )
    def open(
        self,
        name: str,
        size: int,
        policy: str,
        share: int,
        sealed: bool,
        by_send: bool,
        patience: int,
    ) -> None:
        if patience and name in self.live and self.live[name].state == "open":
            # A name that is opened again and again would never get anywhere.
            self.all_but_a_few_arrive(name, max(patience - 3, 0), by_send)
            return
        if policy == "quorum" and size == 0:
            policy = "collect"
        quorum = 1 + share * (size - 1) // 100 if policy == "quorum" else None
        options = (
            "'callbacks', %s::jsonb, %s, %s, 'failures', p_sealed => %s, p_inline_limit => 100000"
        )
        values = ('{"of": "it"}', policy, quorum, sealed)
        if by_send:
            query = f"barrier_send(%s, 'work', %s::jsonb[], {options})"
            row = self.conn.execute(
                f"select * from tidegate.{query}".encode(), (name, ["1"] * size, *values)
            ).fetchone()
        else:
            query = f"barrier_open(%s, %s, {options})"
            row = self.conn.execute(
                f"select * from tidegate.{query}".encode(), (name, size, *values)
            ).fetchone()
        assert row
        if name in self.live:
            assert row[0] > self.live[name].epoch
            self.former.append((name, self.live[name]))
        model = self.live[name] = Model(row[0], policy, quorum, sealed, size)
        assert row[1] == (model.look() or "opened")

    @rule(
        name=st.sampled_from(NAMES),
        back=st.sampled_from((0, 0, 0, 0, 1, 2)),
        count=st.sampled_from((1, 2, 20, 70)),
        key=st.sampled_from((None, None, "a", "b")),
    )
    def add(self, name: str, back: int, count: int, key: str | None) -> None:
        epoch, model, refusal = self.pick(name, back)
        text = "barrier_add(%s, %s, %s, %s)"
        if refusal == "unknown":
            with pytest.raises(psycopg.Error) as error:
                self.call(text, name, epoch, count, key)
            assert error.value.sqlstate == "TG080"
        elif model is None:
            assert self.call(text, name, epoch, count, key) is None
        elif key in model.keys:
            assert self.call(text, name, epoch, count, key) == model.keys[key]
        elif model.state != "open":
            assert self.call(text, name, epoch, count, key) is None
        elif model.is_sealed:
            with pytest.raises(psycopg.Error) as error:
                self.call(text, name, epoch, count, key)
            assert error.value.sqlstate == "TG081"
        else:
            first = model.add(count)
            if key:
                model.keys[key] = first
            assert self.call(text, name, epoch, count, key) == first

    @rule(
        name=st.sampled_from(NAMES),
        back=st.sampled_from((0, 0, 0, 0, 0, 1, 2)),
        where=st.integers(0, 10_000),
        fails=st.sampled_from((False, False, False, False, True)),
        result=st.none() | st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2),
        repeats=st.booleans(),
    )
    def end(
        self, name: str, back: int, where: int, fails: bool, result: Any, repeats: bool
    ) -> None:
        epoch, model, refusal = self.pick(name, back)
        member = where % (model.members + 2) if model else where
        for _ in range(1 + repeats):
            if fails:
                answer = self.call("barrier_fail(%s, %s, %s, 'no')", name, epoch, member)
                expected = refusal or (model.end(member, ("failed", "no")) if model else None)
            else:
                value = None if result is None else psycopg.types.json.Jsonb(result)
                answer = self.call("barrier_arrive(%s, %s, %s, %s)", name, epoch, member, value)
                expected = refusal or (model.end(member, result) if model else None)
            assert answer == expected

    def all_but_a_few_arrive(self, name: str, leave: int, backwards: bool) -> None:
        """Chance alone would rarely bring a barrier to its end."""
        model = self.live.get(name)
        if model is None:
            return
        left = sorted(set(range(1, model.members + 1)) - set(model.ended), reverse=backwards)
        for member in left[: max(len(left) - leave, 0)]:
            row = self.conn.execute(
                "select tidegate.barrier_arrive(%s, %s, %s, %s)",
                (name, model.epoch, member, psycopg.types.json.Jsonb(member)),
            ).fetchone()
            assert row and row[0] == model.end(member, member)

    @rule(name=st.sampled_from(NAMES), back=st.sampled_from((0, 0, 0, 1, 2)))
    def seal(self, name: str, back: int) -> None:
        epoch, model, refusal = self.pick(name, back)
        answer = self.call("barrier_seal(%s, %s)", name, epoch)
        assert answer == (refusal or (model and model.seal()))

    @rule(name=st.sampled_from(NAMES), back=st.sampled_from((0, 1, 2)))
    def abort(self, name: str, back: int) -> None:
        epoch, model, refusal = self.pick(name, back)
        answer = self.call("barrier_abort(%s, %s)", name, epoch)
        assert answer == (refusal or (model and model.abort()))

    @rule(
        name=st.sampled_from(NAMES),
        back=st.sampled_from((0, 0, 1, 2)),
        outcome=st.sampled_from(("failed", "completed", "keep", "keep")),
    )
    def resolve(self, name: str, back: int, outcome: str) -> None:
        epoch, model, refusal = self.pick(name, back)
        answer = self.call("barrier_resolve(%s, %s, %s)", name, epoch, outcome)
        assert answer == (refusal or (model and model.resolve(outcome)))

    @rule(name=st.sampled_from(NAMES), is_due=st.sampled_from((True, True, False)))
    def expire(self, name: str, is_due: bool) -> None:
        """Its time is over: recovery fails what is open. Members wait in `work`: none is lost."""
        if is_due:
            self.conn.execute(
                "update tidegate.barrier set look_at = clock_timestamp(),"
                " expires_at = clock_timestamp() where name = %s and state = 'open'",
                (name,),
            )
        row = self.conn.execute(
            "select failed, resent + refired + kept, errors from tidegate.recovery_sweep()"
        ).fetchone()
        model = self.live.get(name)
        expired = is_due and model is not None and model.state == "open"
        if model is not None and expired:
            model.close("aborted", "expired")
        assert row == (int(expired), 0, {})

    @rule()
    def trim(self) -> None:
        self.conn.execute("select tidegate._barrier_trim(50, clock_timestamp() - interval '1 day')")

    @invariant()
    def what_it_says_is_what_the_model_has(self) -> None:
        if not hasattr(self, "live"):
            return
        shown = self.conn.execute(
            "select name, epoch, state, is_sealed, members, arrived, failed, outstanding"
            " from tidegate.barrier_progress order by name"
        ).fetchall()
        assert shown == [
            (
                name,
                model.epoch,
                model.state,
                model.is_sealed,
                model.members,
                len(model.ended) - len(model.failed),
                len(model.failed),
                model.members - len(model.ended),
            )
            for name, model in sorted(self.live.items())
        ]
        # nothing open is full and sealed
        for model in self.live.values():
            assert not (
                model.state == "open"
                and model.is_sealed
                and (len(model.ended) == model.members or model.quorum_is_missed())
            )

    @invariant()
    def what_it_said_is_in_its_queues_once(self) -> None:
        if not hasattr(self, "live"):
            return
        sent = self.conn.execute(
            "select c.name, coalesce(r.payload, b.payload), r.event_id from tidegate.ready r"
            " join tidegate.channel c using (channel_id) left join tidegate.body b using (body_id)"
            " where c.name <> 'work'"
        ).fetchall()
        models = {m.epoch: (name, m) for name, m in [*self.former, *self.live.items()]}
        found: dict[int, list[str]] = {epoch: [] for epoch in models}
        for queue, payload, _ in sent:
            name, model = models[payload["epoch"]]
            found[payload["epoch"]].append(payload["outcome"])
            assert payload["barrier"] == name
            assert payload["failures"] == [
                {"member": member, "error": "no"} for member in sorted(model.failed)
            ]
            if queue == "callbacks":
                assert payload["outcome"] in ("completed", "partial")
                assert payload["payload"] == {"of": "it"}
                assert payload["results"] == [
                    None if isinstance(end, tuple) else end
                    for _, end in sorted(model.ended.items())
                ]
            else:
                assert queue == "failures"
                assert payload["results"] is None
        assert found == {epoch: model.said for epoch, (_, model) in models.items()}
        assert len({event for *_, event in sent}) == len(sent)

    @invariant()
    def results_are_kept(self) -> None:
        if not hasattr(self, "live"):
            return
        for name, model in self.live.items():
            rows = self.conn.execute(
                "select member, is_failed, result from tidegate.barrier_results(%s, %s)",
                (name, model.epoch),
            ).fetchall()
            assert rows == [
                (member, isinstance(end, tuple), None if isinstance(end, tuple) else end)
                for member, end in sorted(model.ended.items())
            ]


@pytest.fixture
def prepared(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("set synchronous_commit = off")
        for queue in ("work", "callbacks", "failures"):
            conn.execute("select tidegate.queue_create(%s)", (queue,))
        yield conn


def test_a_barrier_does_what_a_plain_model_does(prepared: psycopg.Connection[Any]) -> None:
    class Machine(BarrierMachine):
        conn = prepared

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
