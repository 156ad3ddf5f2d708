"""docs/howto/tracing.md is tried: one trace from a put to whoever handles it, and what it costs
nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pyshim import Client, telemetry
from pyshim.errors import BadArgument, ConfigError, NoSuchChannel
from pyshim.publishers import Message, Outcome, TransportDown
from pyshim.telemetry import TracedPublisher
from tests.commands import Tell
from tests.py.test_howto import snippets

client = Client("tidegate")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What an application that traces has; gone after the test."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection[Any]]:
    """Topics and queues: `orders` is delivered to `emails`, `payments` is for a relay."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("set search_path = tidegate")
        connection.execute("select topic_create('orders'), topic_create('payments')")
        connection.execute(
            """select queue_create('emails', '{"backoff_base": "0", "jitter": 0}')"""
        )
        connection.execute("select outbox_route('orders', 'emails')")
        yield connection


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page's module."""
    (module,) = snippets("tracing.md", "python")
    (tmp_path / "shop.py").write_text(module.replace('Client("jobs")', 'Client("tidegate")'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    import shop

    return shop


def named(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """The newest of each name."""
    return {span.name: span for span in spans.get_finished_spans()}


def parent(span: ReadableSpan) -> int | None:
    """The id of its parent."""
    return span.parent.span_id if span.parent else None


def test_one_trace_from_the_put_to_the_handler(
    spans: InMemorySpanExporter, conn: psycopg.Connection[Any], shop: Any, tell: Tell
) -> None:
    shop.checkout(conn, {"id": 7})
    assert tell("sweep").code == 0
    told = tell("work", "shop:registry", "--drain")
    assert told.code == 0, told.err
    assert "thank you for 7" in told.out
    found = named(spans)
    assert set(found) == {"checkout", "create orders", "sweep", "process emails", "smtp"}
    in_trace = [found[n] for n in ("checkout", "create orders", "process emails", "smtp")]
    assert len({span.context.trace_id for span in in_trace}) == 1
    for child, its_parent in zip(in_trace[1:], in_trace, strict=False):
        assert parent(child) == its_parent.context.span_id
    assert [span.kind.name for span in in_trace] == ["INTERNAL", "PRODUCER", "CONSUMER", "INTERNAL"]
    assert found["sweep"].parent is None
    assert found["sweep"].attributes == {
        "tidegate.claimed": 1,
        "tidegate.dispatched": 1,
        "tidegate.retried": 0,
        "tidegate.dead_lettered": 0,
    }
    process = dict(found["process emails"].attributes or {})
    assert process["tidegate.verdict"] == "done"
    assert process["messaging.destination.name"] == "emails"


def test_one_trace_from_the_put_to_the_broker(
    spans: InMemorySpanExporter, conn: psycopg.Connection[Any], tell: Tell
) -> None:
    with trace.get_tracer("app").start_as_current_span("checkout") as span:
        client.put(conn, "payments", {"n": 1}, headers={"task": "x"})
    conn.execute("""select outbox_put('payments', '{"n": 2}')""")  # without a trace
    told = tell("relay", "payments", "--to", "stdout", "--drain")
    first, second = map(json.loads, told.out.splitlines())
    found = named(spans)
    assert len(spans.get_finished_spans()) == 3, "what has no trace gets none here"
    create, send = found["create payments"], found["send payments"]
    assert create.context.trace_id == send.context.trace_id == span.get_span_context().trace_id
    assert parent(send) == create.context.span_id
    assert (send.kind.name, (send.attributes or {})["messaging.system"]) == ("CLIENT", "stdout")
    # the broker gets the context that the event was made with, and the headers of the put
    made = f"00-{create.context.trace_id:032x}-{create.context.span_id:016x}"
    assert first["headers"].keys() == {"task", "traceparent"}
    assert first["headers"]["traceparent"].startswith(made)
    assert not second["headers"]


def test_a_trace_is_kept_through_retry_death_and_requeue(
    spans: InMemorySpanExporter, conn: psycopg.Connection[Any], tmp_path: Path, tell: Tell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "fails.py").write_text(
        "from pyshim.registry import Registry\n"
        "registry = Registry()\n"
        "@registry.handler('emails')\n"
        "async def fail(message):\n"
        "    raise ValueError('no smtp')\n"
    )
    monkeypatch.chdir(tmp_path)
    with trace.get_tracer("app").start_as_current_span("checkout"):
        client.send(conn, "emails", {}, max_attempts=2)
    assert tell("work", "fails:registry", "--drain").code == 0
    assert conn.execute("select count(*) from dead_letter_list()").fetchone() == (1,)
    conn.execute("select dead_letter_requeue(array(select dead_letter_id from dead_letter_list()))")
    assert tell("work", "fails:registry", "--drain").code == 0
    attempts = [span for span in spans.get_finished_spans() if span.name == "process emails"]
    send = named(spans)["send emails"]
    assert [(s.attributes or {})["tidegate.attempt"] for s in attempts] == [1, 2, 1, 2]
    assert {parent(span) for span in attempts} == {send.context.span_id}
    assert {span.status.status_code.name for span in attempts} == {"ERROR"}
    assert "no smtp" in (attempts[0].status.description or "")


def test_a_barrier_and_its_members_carry_the_trace_of_who_opened_it(
    spans: InMemorySpanExporter, conn: psycopg.Connection[Any]
) -> None:
    conn.execute("select queue_create('done')")
    with trace.get_tracer("app").start_as_current_span("fan out") as span:
        opened = client.barrier_send(conn, "b", "emails", [1], callback_queue="done")
    conn.execute("select queue_ack(lease_id) from queue_claim('emails', 10)")
    trace_id = f"{span.get_span_context().trace_id:032x}"
    assert opened.outcome == "opened"
    for (headers,) in conn.execute("select headers from queue_claim('done')").fetchall():
        assert headers["traceparent"].split("-")[1] == trace_id
        break
    else:
        pytest.fail("the callback is not there")


def test_what_was_given_is_not_overwritten_and_baggage_travels(
    spans: InMemorySpanExporter, conn: psycopg.Connection[Any]
) -> None:
    theirs = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    try:
        with trace.get_tracer("app").start_as_current_span("app"):
            client.send(conn, "emails", 1, headers={"traceparent": theirs})
            client.send_many(conn, "emails", [2, 3])
            client.send_specs(conn, "emails", [{"payload": 4, "headers": {"task": "x"}}])
    finally:
        context.detach(token)
    rows = conn.execute("select payload, headers from queue_claim('emails', 9)").fetchall()
    by_payload = dict(rows)
    assert by_payload[1] == {"traceparent": theirs}
    assert by_payload[2] == by_payload[3]
    assert by_payload[2]["baggage"] == by_payload[4]["baggage"] == "tenant=acme"
    assert by_payload[4]["task"] == "x"
    count = [
        (s.attributes or {}).get("messaging.batch.message_count")
        for s in spans.get_finished_spans()
    ]
    assert count == [None, 2, 1, None]


async def test_an_async_send_is_in_its_span_and_a_refused_one_says_so(
    spans: InMemorySpanExporter, conn: psycopg.Connection[Any], database: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await client.put(connection, "payments", 1)
        with pytest.raises(NoSuchChannel):
            await client.put(connection, "nowhere", 1)
    with pytest.raises(BadArgument):
        client.put(conn, "payments", float("nan"))
    with pytest.raises(BadArgument):
        client.put(conn, "payments", 1, headers="no dict")  # type: ignore[arg-type]
    verdicts = [(span.name, span.status.status_code.name) for span in spans.get_finished_spans()]
    assert verdicts == [
        ("create payments", "UNSET"), ("create nowhere", "ERROR"), ("create payments", "ERROR"),
    ]  # fmt: skip
    assert conn.execute("select count(*) from ready where headers ? 'traceparent'").fetchone() == (
        1,
    )


class _Broker:
    """Answers what it was given."""

    def __init__(self, answer: Sequence[Outcome] | Exception) -> None:
        self._answer = answer

    async def probe(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def publish(self, messages: Sequence[Message]) -> list[Outcome]:
        if isinstance(self._answer, Exception):
            raise self._answer
        return list(self._answer)


async def test_what_a_broker_refuses_is_seen(spans: InMemorySpanExporter) -> None:
    headers = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    message = Message(UUID(int=1), "t", 1, 1, "{}", datetime.now(timezone.utc), headers=headers)
    refused = TracedPublisher(_Broker([Outcome("too large", retryable=False)]))
    assert (await refused.publish([message]))[0].error == "too large"
    with pytest.raises(TransportDown):
        await TracedPublisher(_Broker(TransportDown("gone: nats://u:hunter2@h"))).publish([message])
    told = [
        (s.status.description, (s.attributes or {})["error.type"])
        for s in spans.get_finished_spans()
    ]
    assert told == [("too large", "failed"), ("gone: nats://u:***@h", "TransportDown")]
    assert {f"{s.context.trace_id:032x}" for s in spans.get_finished_spans()} == {"a" * 32}


def test_without_it_nothing_is_imported(database: str) -> None:
    """A process that does not use OpenTelemetry does not load it, though it is installed."""
    script = (
        "import sys, psycopg\n"
        "from pyshim import Client, cli, handling, relay, sweeper, worker\n"
        "from pyshim import telemetry\n"
        "telemetry.configure()\n"
        f"with psycopg.connect({database!r}) as conn:\n"
        "    conn.execute(\"select tidegate.queue_create('q')\")\n"
        "    Client('tidegate').send(conn, 'q', {})\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=_plain())


def _plain() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return clean | {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_process_of_handlers_exports_what_the_environment_says(
    database: str, conn: psycopg.Connection[Any], tmp_path: Path
) -> None:
    (tmp_path / "plain.py").write_text(
        "from pyshim.registry import Registry\n"
        "registry = Registry()\n"
        "@registry.handler('emails')\n"
        "def work(message):\n"
        "    pass\n"
    )
    headers = {"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}
    client.send(conn, "emails", {}, headers=headers)
    done = subprocess.run(
        [sys.executable, "-m", "pyshim", "work", "plain:registry", "--drain"],
        env=_plain() | {"OTEL_TRACES_EXPORTER": "console", "TIDEGATE_DATABASE_URL": database},
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    span = json.loads(done.stdout)
    assert (span["name"], span["context"]["trace_id"]) == ("process emails", "0x" + "a" * 32)
    assert span["resource"]["attributes"]["service.name"] == "tidegate"


@pytest.mark.parametrize("name", ["nowhere", "otlp"])
def test_an_exporter_that_is_not_there_is_a_mistake_with_its_name(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", name)
    with pytest.raises(ConfigError, match=f"OTEL_TRACES_EXPORTER names '{name}'"):
        telemetry.configure()
