"""OpenTelemetry spans, where a process has OpenTelemetry. Where it has not, nothing is imported.

The headers of a message carry the context that its sender made (traceparent, tracestate, baggage),
and nothing on its way alters them: not a sweep, not a retry, not a relay. So whoever handles it
goes on with the sender's trace, and a broker that tells a repeat by its bytes sees the same bytes.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

from pyshim.config import redact
from pyshim.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, Tracer

T = TypeVar("T")

# Deliveries, messages, outcomes and publishers are Any: whoever defines them stands above this.

_EXPORTERS = "opentelemetry_traces_exporter"  # entry points of the exporters' packages
_SCOPE = "tidegate"
_PROTOCOLS = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}


def configure() -> None:
    """Export spans where OTEL_TRACES_EXPORTER says, unless the process does so already
    (opentelemetry-instrument). Without that variable nothing is done."""
    asked = os.environ.get("OTEL_TRACES_EXPORTER", "")
    names = [name.strip() for name in asked.split(",") if name.strip() not in ("", "none")]
    if not names or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigError(
            f"OTEL_TRACES_EXPORTER is {asked!r}, and OpenTelemetry is not installed",
            hint="pip install opentelemetry-sdk, or unset the variable",
        ) from None
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    is_named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    provider = TracerProvider(
        resource=Resource.create({} if is_named else {"service.name": "tidegate"})
    )
    for name in names:
        provider.add_span_processor(BatchSpanProcessor(_exporter(name)))
    trace.set_tracer_provider(provider)


def _exporter(name: str) -> Any:
    protocol = os.environ.get(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    )
    wanted = _PROTOCOLS.get(protocol, protocol) if name == "otlp" else name
    found = list(metadata.entry_points(group=_EXPORTERS, name=wanted))
    if not found:
        there = sorted({point.name for point in metadata.entry_points(group=_EXPORTERS)})
        raise ConfigError(
            f"OTEL_TRACES_EXPORTER names {name!r}, and there is no exporter {wanted!r}",
            hint=f"installed: {', '.join(there) or 'none'};"
            " otlp_proto_http is of the package opentelemetry-exporter-otlp-proto-http",
        )
    return found[0].load()()


def is_there() -> bool:
    """Whether anybody in this process has OpenTelemetry in use."""
    return "opentelemetry.trace" in sys.modules


def carrier() -> dict[str, str]:
    """Headers by which whoever gets a message continues the current span; {} where there is
    none."""
    found: dict[str, str] = {}
    if is_there():
        from opentelemetry import propagate

        propagate.inject(found)
    return found


def sending(operation: str, destination: str, call: Callable[[Mapping[str, str]], T]) -> T:
    """What `call` answers, given the headers of a span of its own. A coroutine is awaited in it,
    too."""
    if not is_there():
        return call({})
    from opentelemetry import trace

    kind = trace.SpanKind.PRODUCER
    span = _tracer().start_span(
        f"{operation} {destination}", kind=kind, attributes=_about(operation, "send", destination)
    )
    try:
        with trace.use_span(span):
            answer = call(carrier())
    except BaseException:
        span.end()
        raise
    if inspect.iscoroutine(answer):
        later: Any = _awaited(span, answer)
        return later  # type: ignore[no-any-return]
    _tell_sent(span, answer)
    span.end()
    return answer


async def _awaited(span: Span, answer: Coroutine[Any, Any, T]) -> T:
    from opentelemetry import trace

    with trace.use_span(span, end_on_exit=True):
        sent = await answer
        _tell_sent(span, sent)
        return sent


def _tell_sent(span: Span, answer: Any) -> None:
    if isinstance(answer, list):
        span.set_attribute("messaging.batch.message_count", len(answer))
    elif (message_id := getattr(answer, "message_id", None)) is not None:
        span.set_attribute("tidegate.message_id", message_id)
        span.set_attribute("tidegate.outcome", answer.outcome)


@contextlib.contextmanager
def processing(delivery: Any) -> Iterator[Callable[[T], T]]:
    """The span in which a handler runs, a child of its sender's; told what became of it."""
    from opentelemetry import context, trace

    attributes = _about("process", "process", delivery.queue) | {
        "messaging.message.id": str(delivery.event_id),
        "tidegate.message_id": delivery.message_id,
        "tidegate.attempt": delivery.attempt,
    }
    # The whole context: baggage travels on in what the handler sends.
    token = context.attach(_extracted(delivery.headers))
    try:
        with _tracer().start_as_current_span(
            f"process {delivery.queue}", kind=trace.SpanKind.CONSUMER, attributes=attributes
        ) as span:

            def tell(outcome: Any) -> Any:
                span.set_attribute("tidegate.verdict", outcome.verdict)
                if outcome.verdict == "failed":
                    _fail(span, outcome.error or "", outcome.reason)
                return outcome

            yield tell
    finally:
        context.detach(token)


class TracedPublisher:
    """A publisher whose publishing is seen in the trace of each event that has one."""

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher
        self._system = type(publisher).__name__.removesuffix("Publisher").lower()

    async def probe(self) -> None:
        """As the publisher does."""
        await self._publisher.probe()

    async def close(self) -> None:
        """As the publisher does."""
        await self._publisher.close()

    async def publish(self, messages: Sequence[Any]) -> list[Any]:
        """As the publisher does; a span for each event that was put within a trace."""
        if not is_there():
            return list(await self._publisher.publish(messages))
        spans = [self._span(message) for message in messages]
        try:
            outcomes: list[Any] = await self._publisher.publish(messages)
            for span, outcome in zip(spans, outcomes, strict=False):
                if span is not None and outcome.error is not None:
                    _fail(span, outcome.error, "unreached" if outcome.unreached else None)
            return outcomes
        except BaseException as error:
            for span in filter(None, spans):
                _fail(span, str(error), type(error).__name__)
            raise
        finally:
            for span in filter(None, spans):
                span.end()

    def _span(self, message: Any) -> Span | None:
        from opentelemetry import trace

        parent = _extracted(message.traces())
        if not trace.get_current_span(parent).get_span_context().is_valid:
            return None
        # CLIENT, as the conventions have it where the message keeps the context it was made with.
        attributes = _about("send", "send", message.topic, self._system) | {
            "messaging.message.id": str(message.event_id),
            "tidegate.message_id": message.message_id,
            "tidegate.attempt": message.attempt,
        }
        kind: SpanKind = trace.SpanKind.CLIENT
        return _tracer().start_span(
            f"send {message.topic}", context=parent, kind=kind, attributes=attributes
        )


def swept(began: int, result: Any) -> None:
    """A span for a sweep that found something, in a trace of its own: events are moved by the
    database, and never come here, so there is nothing to link to. `began`: time.time_ns()."""
    if not (is_there() and result.claimed):
        return
    counts = {f"tidegate.{name}": getattr(result, name) for name in _SWEPT}
    span = _tracer().start_span("sweep", attributes=counts, start_time=began)
    if result.first_error:
        _fail(span, result.first_error, None)
    span.end()


_SWEPT = ("claimed", "dispatched", "retried", "dead_lettered")


def _tracer() -> Tracer:
    from opentelemetry import trace

    return trace.get_tracer(_SCOPE)


def _extracted(headers: Mapping[str, Any]) -> Context:
    from opentelemetry import context, propagate

    texts = {name: value for name, value in headers.items() if isinstance(value, str)}
    # Of the message alone: what runs here by chance is nobody's parent.
    return propagate.extract(texts, context.Context())


def _about(
    name: str, kind: str, destination: str, system: str = "tidegate"
) -> dict[str, str | int]:
    return {
        "messaging.system": system,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": destination,
    }


def _fail(span: Span, error: str, kind: str | None) -> None:
    from opentelemetry import trace

    span.set_attribute("error.type", kind or "failed")
    span.set_status(trace.Status(trace.StatusCode.ERROR, redact(error[:200])))
