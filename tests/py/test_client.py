"""The client of applications: one statement on their connection, in their transaction."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import rows

from pyshim import Client, Sent
from pyshim.errors import BadArgument, NoSuchChannel, SchemaMismatch, SchemaNameError

client = Client("tidegate")

CHANNELS = "select tidegate.queue_create('q'), tidegate.topic_create('t')"
LOOK = "select payload, headers, priority, group_key from tidegate.queue_claim('q', 100)"


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    """An application's connection, as psycopg makes it by default."""
    with psycopg.connect(database) as connection:
        connection.execute(CHANNELS)
        connection.commit()
        yield connection


@pytest.fixture
async def aconn(database: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """The same, async."""
    async with await psycopg.AsyncConnection.connect(database) as connection:
        await connection.execute(CHANNELS)
        await connection.commit()
        yield connection


def depth(database: str, name: str = "q") -> int:
    """What stands in a queue or topic, as another session sees it."""
    with psycopg.connect(database) as other:
        found = other.execute(
            "select ready + scheduled from tidegate.backlog where name = %s", (name,)
        ).fetchone()
    assert found
    return int(found[0])


def test_a_send_exists_when_the_callers_transaction_commits(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    sent = client.send(conn, "q", {"to": "a@example.org"})
    assert isinstance(sent, Sent)
    assert (sent.outcome, sent.message_id > 0) == ("inserted", True)
    assert depth(database) == 0
    conn.commit()
    assert depth(database) == 1


def test_a_send_is_gone_when_the_callers_transaction_rolls_back(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    client.send(conn, "q", {})
    client.put_many(conn, "t", [1, 2])
    conn.rollback()
    assert (depth(database), depth(database, "t")) == (0, 0)


async def test_the_async_form_does_the_same(
    database: str, aconn: psycopg.AsyncConnection[Any]
) -> None:
    assert (await client.send(aconn, "q", {"n": 1})).outcome == "inserted"
    assert len(await client.send_many(aconn, "q", [{"n": 2}, {"n": 3}])) == 2
    assert len(await client.put_specs(aconn, "t", [{"payload": 1, "group_key": "g"}])) == 1
    assert depth(database) == 0
    await aconn.commit()
    assert (depth(database), depth(database, "t")) == (3, 1)
    with pytest.raises(NoSuchChannel):
        await client.send(aconn, "nope", {})
    await aconn.rollback()
    assert not aconn.closed


def test_many_are_answered_one_by_one_in_order(conn: psycopg.Connection[Any]) -> None:
    sent = client.send_many(conn, "q", ({"n": n} for n in range(250)))
    ids = [one.message_id for one in sent]
    assert len(ids) == 250
    assert ids == sorted(set(ids))
    assert client.send_many(conn, "q", []) == []
    payloads = [row[0]["n"] for row in conn.execute(LOOK.replace("100", "250"))]
    assert payloads == list(range(250))


def test_options_arrive(conn: psycopg.Connection[Any]) -> None:
    event_id = uuid4()
    trace = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    client.send(
        conn, "q", [1], headers=trace, priority=3, group_key="g", event_id=event_id, tenant="acme",
        run_id="r", max_attempts=1, idempotency_key=None,
    )  # fmt: skip
    conn.commit()
    row = conn.execute(
        "select headers, priority, group_key, event_id, tenant, run_id, max_attempts"
        " from tidegate.queue_claim('q')"
    ).fetchone()
    assert row == (trace, 3, "g", event_id, "acme", "r", 1)


def test_a_run_at_delays(database: str, conn: psycopg.Connection[Any]) -> None:
    due = datetime.now(timezone.utc) + timedelta(hours=1)
    client.send(conn, "q", {}, run_at=due)
    conn.commit()
    row = conn.execute("select next_due_at from tidegate.backlog where name = 'q'").fetchone()
    assert row == (due,)


def test_a_run_at_without_a_zone_is_refused_as_it_would_mean_the_sessions(
    conn: psycopg.Connection[Any],
) -> None:
    naive = datetime(2030, 1, 2, 3, 4)
    with pytest.raises(BadArgument, match="without a time zone"):
        client.send(conn, "q", {}, run_at=naive)
    with pytest.raises(BadArgument, match="without a time zone"):
        client.send_specs(conn, "q", [{"payload": 1, "run_at": naive}])


def test_the_same_idempotency_key_answers_the_first_message(
    conn: psycopg.Connection[Any],
) -> None:
    first = client.send(conn, "q", {"n": 1}, idempotency_key="k")
    assert client.send(conn, "q", {"n": 2}, idempotency_key="k") == (
        first.message_id,
        "deduplicated",
    )
    many = client.put_many(conn, "t", [1, 2], idempotency_key="k")
    again = client.put_many(conn, "t", [1, 2], idempotency_key="k")
    assert [one.message_id for one in again] == [one.message_id for one in many]
    assert {one.outcome for one in again} == {"deduplicated"}


def test_a_job_key_replaces(conn: psycopg.Connection[Any]) -> None:
    client.send(conn, "q", {"n": 1}, job_key="j")
    assert client.send(conn, "q", {"n": 2}, job_key="j").outcome == "replaced"
    kept = client.send(conn, "q", {"n": 3}, job_key="j", key_mode="dedupe")
    assert kept.outcome == "deduplicated"
    assert [row[0] for row in conn.execute(LOOK)] == [{"n": 2}]


def test_a_backoff_of_its_own_is_kept(conn: psycopg.Connection[Any]) -> None:
    client.send(conn, "q", {}, backoff={"base": "1 hour", "cap": "1 hour", "jitter": 0})
    conn.commit()
    conn.execute("select tidegate.queue_nack(lease_id) from tidegate.queue_claim('q')")
    conn.commit()
    row = conn.execute(
        "select next_due_at > now() + interval '59 minutes' from tidegate.backlog where name = 'q'"
    ).fetchone()
    assert row == (True,)


def test_specs_carry_options_of_their_own(conn: psycopg.Connection[Any]) -> None:
    event_id = UUID("0dc1105c-7e71-8544-8000-000000000081")
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    specs: list[dict[str, Any]] = [
        {"payload": {"n": 1}, "group_key": "g", "headers": {"a": "b"}, "priority": 0},
        {"payload": None, "event_id": event_id, "tenant": None},
        {"payload": {"n": 3}, "run_at": later},
    ]
    assert len(client.put_specs(conn, "t", specs)) == 3
    conn.commit()
    seen = conn.execute(
        "select payload, group_key, headers, event_id from tidegate.outbox_claim('t', 10)"
    ).fetchall()
    assert seen[0][:3] == ({"n": 1}, "g", {"a": "b"})
    assert seen[1] == (None, None, None, event_id)
    assert len(seen) == 2
    assert len(client.send_specs(conn, "q", [{"payload": 1, "job_key": "j"}])) == 1
    with pytest.raises(BadArgument, match="priorty"):
        client.put_specs(conn, "t", [{"payload": 1, "priorty": 1}])


@pytest.mark.parametrize("payload", [None, 0, "", [], {}, "é€😀", {"a": [1.5, True]}, "\\u0000"])
def test_what_is_json_arrives_as_it_was(conn: psycopg.Connection[Any], payload: Any) -> None:
    client.send(conn, "q", payload)
    client.send_many(conn, "q", [payload])
    assert [row[0] for row in conn.execute(LOOK)] == [payload, payload]


NOT_JSON = {
    "nan": (float("nan"), "payload cannot be written as JSON"),
    "deep": ({"a": [float("-inf")]}, "Out of range float"),
    "type": ({"price": Decimal("1.5")}, "Decimal is not JSON serializable"),
    "nul": ({"name": "a\0b"}, r"holds \\u0000"),
    "half": ("a\ud83d", r"holds \\ud83d"),
}


@pytest.mark.parametrize(("payload", "said"), NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_refused_and_leaves_the_transaction_as_it_was(
    conn: psycopg.Connection[Any], payload: Any, said: str
) -> None:
    conn.execute("create temp table mine as select 1 as n")
    with pytest.raises(BadArgument, match=said) as error:
        client.send(conn, "q", payload)
    assert error.value.hint
    with pytest.raises(BadArgument, match=r"payloads\[1\]"):
        client.put_many(conn, "t", [1, payload])
    with pytest.raises(BadArgument, match=r"specs\[0\]\.payload"):
        client.put_specs(conn, "t", [{"payload": payload}])
    with pytest.raises(BadArgument, match="headers"):
        client.put(conn, "t", 1, headers={"h": payload})
    assert conn.execute("select n from mine").fetchone() == (1,)


def test_the_caller_says_how_json_is_written(conn: psycopg.Connection[Any]) -> None:
    def to_bytes(value: Any) -> bytes:
        return json.dumps(value, default=str).encode()

    for dumps in (functools.partial(json.dumps, default=str), to_bytes):
        Client("tidegate", dumps=dumps).send(conn, "q", {"price": Decimal("1.50")})
    assert [row[0] for row in conn.execute(LOOK)] == [{"price": "1.50"}] * 2


@pytest.mark.parametrize("payload", ["\0", "\\\0", "\ud83d", "\ude00", "\ude00\ud83d", "\ud83da"])
def test_escapes_of_no_character_are_seen_too(conn: psycopg.Connection[Any], payload: str) -> None:
    escaping = Client("tidegate", dumps=json.dumps)
    with pytest.raises(BadArgument, match="cannot store as a character"):
        escaping.send(conn, "q", [payload])
    for fine in ("😀", "\\u0000", "\\\\ud83d", "\\\n"):
        escaping.send(conn, "q", fine)


def test_what_the_database_refuses_has_its_type_and_ends_the_transaction(
    conn: psycopg.Connection[Any],
) -> None:
    with pytest.raises(NoSuchChannel, match="nope") as error:
        client.send(conn, "nope", {})
    assert error.value.hint
    assert isinstance(error.value.__cause__, psycopg.Error)
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        client.send(conn, "q", {})
    conn.rollback()
    with pytest.raises(BadArgument, match="priority"), conn.transaction():
        client.send(conn, "q", {}, priority=10)
    client.send(conn, "q", {})


def test_other_errors_come_as_psycopg_raises_them(conn: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.InvalidDatetimeFormat):
        client.send(conn, "q", {}, run_at="soon")
    conn.close()
    with pytest.raises(psycopg.OperationalError):
        client.send(conn, "q", {})


def test_where_nothing_is_installed_the_next_step_is_said(
    conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SchemaMismatch, match="elsewhere") as error:
        Client("elsewhere").send(conn, "q", {})
    assert error.value.hint == "run: tidegate migrate --schema elsewhere"
    conn.rollback()
    # an older schema, which has not all options
    conn.execute("drop function tidegate.queue_send_many")
    with pytest.raises(SchemaMismatch, match="queue_send_many"):
        client.send_many(conn, "q", [1])


def test_the_schema_is_the_environments_unless_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Client().schema == "tidegate"
    monkeypatch.setenv("TIDEGATE_SCHEMA", "app_jobs")
    assert (Client().schema, Client("Odd-Name").schema) == ("app_jobs", "Odd-Name")
    with pytest.raises(SchemaNameError):
        Client('a"b')


def test_a_misspelt_option_is_told_before_anything_is_sent(
    database: str, conn: psycopg.Connection[Any]
) -> None:
    with pytest.raises(TypeError, match=r"send\(\) has no option 'runat'; it has .*run_at"):
        client.send(conn, "q", {}, runat=None)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"put\(\) has no option 'job_key'"):
        client.put(conn, "t", {}, job_key="j")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"send_many\(\) has no option 'job_key'"):
        client.send_many(conn, "q", [], job_key="j")
    with pytest.raises(TypeError, match="the connection is of type str"):
        client.send(database, "q", {})  # type: ignore[call-overload]


WRONG: list[tuple[str, Any, str]] = [
    ("priority", "high", "priority is 'high', of type str; allowed: a whole number"),
    ("priority", True, "priority is True, of type bool"),
    ("priority", 2**31, "priority is 2147483648"),
    ("max_attempts", 1.5, "max_attempts is 1.5, of type float"),
    ("event_id", "x", "event_id is 'x', of type str; allowed: a UUID"),
    ("event_id", 5, "event_id is 5"),
    ("run_at", timedelta(minutes=1), "run_at is .*, of type timedelta; allowed: a datetime"),
    ("run_at", 1700000000, "run_at is 1700000000, of type int"),
    ("headers", [1], r"headers is \[1\], of type list; allowed: a dict"),
    ("backoff", "1s", "backoff is '1s'"),
    *(
        (name, value, said)
        for name in ("group_key", "job_key", "idempotency_key", "run_id", "tenant", "key_mode")
        for value, said in (
            ("a\0b", rf"{name} holds \\u0000"),
            ("a\ud83d", rf"{name} holds \\ud83d"),
            (7, f"{name} is 7, of type int; allowed: a text"),
        )
    ),
]


@pytest.mark.parametrize(
    ("name", "value", "said"), WRONG, ids=[f"{name} {value!r}"[:40] for name, value, _ in WRONG]
)
def test_a_wrong_option_is_told_before_the_server_is_asked(
    conn: psycopg.Connection[Any], name: str, value: Any, said: str
) -> None:
    with pytest.raises(BadArgument, match=f"^{said}"):
        client.send(conn, "q", {}, **{name: value})
    with pytest.raises(BadArgument, match=rf"^specs\[1\]\.{said}"):
        client.send_specs(conn, "q", [{"payload": 1}, {"payload": 1, name: value}])
    # then the transaction goes on
    assert client.send(conn, "q", {}).outcome == "inserted"


@pytest.mark.parametrize("name", [5, None, "a\0", "\udc80"])
def test_a_wrong_name_is_told_before_the_server_is_asked(
    conn: psycopg.Connection[Any], name: Any
) -> None:
    for call in (client.send, client.send_many, client.send_specs):
        with pytest.raises(BadArgument, match=r"^queue "):
            call(conn, name, [])  # type: ignore[operator]
    for call in (client.put, client.put_many, client.put_specs):
        with pytest.raises(BadArgument, match=r"^topic "):
            call(conn, name, [])  # type: ignore[operator]
    assert client.send(conn, "q", {}).outcome == "inserted"


@pytest.mark.parametrize("mistaken", ["abc", b"abc", {"a": 1}, None, 5])
def test_what_is_no_list_is_told_before_the_server_is_asked(
    conn: psycopg.Connection[Any], mistaken: Any
) -> None:
    shown = f"of type {type(mistaken).__name__}; allowed: a list, an item each"
    with pytest.raises(BadArgument, match=f"^payloads is .*{shown}"):
        client.send_many(conn, "q", mistaken)
    with pytest.raises(BadArgument, match=f"^specs is .*{shown}"):
        client.put_specs(conn, "t", mistaken)
    with pytest.raises(BadArgument, match=r"^specs\[0\] is 1, of type int; allowed: a dict"):
        client.send_specs(conn, "q", [1])  # type: ignore[list-item]
    with pytest.raises(BadArgument, match=r"^a key of specs\[0\] is 1"):
        client.send_specs(conn, "q", [{1: 1}])  # type: ignore[dict-item]
    assert client.send(conn, "q", {}).outcome == "inserted"


def test_what_our_function_cannot_find_is_no_missing_installation(
    conn: psycopg.Connection[Any],
) -> None:
    conn.execute("drop function tidegate.queue_send_many")
    conn.execute(
        "create function tidegate.queue_send_many(p_queue text, p_payloads jsonb[])"
        " returns table (message_id bigint, outcome text)"
        " language plpgsql as 'begin perform public.nowhere_to_be_found(); end'"
    )
    with pytest.raises(psycopg.errors.UndefinedFunction, match="nowhere_to_be_found"):
        client.send_many(conn, "q", [1])


FACTORIES = [rows.tuple_row, rows.dict_row, rows.namedtuple_row, rows.scalar_row]


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("autocommit", [False, True])
def test_any_connection_will_do(database: str, autocommit: bool, factory: Any) -> None:
    with psycopg.connect(database, autocommit=autocommit, row_factory=factory) as conn:
        conn.execute("select tidegate.queue_create('q')")
        conn.commit()
        assert client.send(conn, "q", {}, priority=0).outcome == "inserted"
        assert depth(database) == (1 if autocommit else 0)


@pytest.mark.parametrize("cursor", [psycopg.ClientCursor, psycopg.RawCursor])
def test_any_cursor_factory_will_do(conn: psycopg.Connection[Any], cursor: Any) -> None:
    conn.cursor_factory = cursor
    assert client.send(conn, "q", {}, run_at="2020-01-01Z", priority=1).outcome == "inserted"
    assert len(client.send_many(conn, "q", [{"a": '"\\{}'}], headers={})) == 1


def test_no_prepared_name_is_left_behind(database: str) -> None:
    with psycopg.connect(database, prepare_threshold=0) as conn:
        conn.execute("select tidegate.queue_create('q')", prepare=False)
        client.send(conn, "q", {})
        count = conn.execute("select count(*) from pg_prepared_statements", prepare=False)
        assert count.fetchone() == (0,)


def test_a_pipeline_may_be_open(conn: psycopg.Connection[Any]) -> None:
    with conn.pipeline():
        assert [client.send(conn, "q", n).outcome for n in range(3)] == ["inserted"] * 3


@pytest.mark.heavy
async def test_behind_a_transaction_pooler_sends_are_the_callers(
    database: str, pooled: str
) -> None:
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(CHANNELS)
    for round_ in range(20):
        with psycopg.connect(pooled) as conn:
            client.send_many(conn, "q", [1, 2, 3])
            if round_ % 2:
                conn.rollback()
        async with await psycopg.AsyncConnection.connect(pooled) as aconn:
            for _ in range(10):  # more than psycopg's threshold for preparing
                await client.send(aconn, "q", {}, headers={})
    assert depth(database) == 10 * 3 + 20 * 10


def test_importing_the_package_loads_nothing() -> None:
    show = "import sys; print([name for name in sys.modules if name.startswith('psycopg')])"
    for code in ("import pyshim", "import pyshim.errors; from pyshim import __version__"):
        done = subprocess.run(
            [sys.executable, "-c", f"{code}; {show}"], capture_output=True, text=True, check=True
        )
        assert (done.stdout.strip() == "[]") == (code == "import pyshim")
    with pytest.raises(ImportError, match="Nobody"):
        from pyshim import Nobody  # type: ignore[attr-defined]  # noqa: F401
