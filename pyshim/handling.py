"""One call of a handler, and what became of it."""

from __future__ import annotations

import asyncio
import inspect
import threading
from dataclasses import dataclass
from typing import Literal

from pyshim import telemetry
from pyshim.registry import Delivery, Handler, LeaseLost, Malformed, Reject, Retry
from pyshim.traces import clean, trace

Verdict = Literal["done", "acked", "failed", "released", "lost"]


@dataclass(frozen=True)
class Outcome:
    """What became of a message. acked: the handler settled it itself; released: given back
    uncharged; lost: no longer ours to settle. `result` is a member's, as JSON."""

    verdict: Verdict
    error: str | None = None
    retryable: bool = True
    retry_in: float | None = None
    reason: str | None = None
    trace: str | None = None
    result: str | None = None


DONE = Outcome("done")
ACKED = Outcome("acked")
LOST = Outcome("lost")


def failed(error: BaseException, handler: Handler | None = None) -> Outcome:
    """The outcome of a call that raised."""
    if isinstance(error, LeaseLost):
        return LOST
    text = clean(str(error))
    if isinstance(error, Malformed):
        return Outcome("failed", text or "malformed", retryable=False, reason="malformed")
    if isinstance(error, Reject):
        return Outcome("failed", text or "rejected by its handler", retryable=False)
    if isinstance(error, Retry):
        return Outcome("failed" if error.charge else "released", text, retry_in=error.in_)
    name = type(error).__name__
    return Outcome(
        "failed",
        f"{name}: {text}" if text else name,
        retryable=not (handler and isinstance(error, handler.reject)),
        trace=trace(error),
    )


def _returned(delivery: Delivery, answer: object) -> Outcome:
    """The outcome of a call that returned. Its result is written here, so that one that cannot be
    stored is its own message's failure."""
    if delivery.was_acked:
        return ACKED
    result = delivery.result_text(answer)
    return DONE if result is None else Outcome("done", result=result)


def timed_out(seconds: float | None) -> Outcome:
    """The outcome of a call that was ended after its timeout."""
    return Outcome("failed", f"timeout: ended after {seconds:g} s")


def call(handler: Handler, delivery: Delivery) -> Outcome:
    """Call a sync handler to its end."""
    if telemetry.is_there():
        with telemetry.processing(delivery) as told:
            return told(_call(handler, delivery))
    return _call(handler, delivery)


def _call(handler: Handler, delivery: Delivery) -> Outcome:
    try:
        answer = handler.function(handler.prepare(delivery))
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise TypeError("the handler returned an awaitable: declare it with `async def`")
        return _returned(delivery, answer)
    except BaseException as error:
        return failed(error, handler)


async def call_async(handler: Handler, delivery: Delivery) -> Outcome:
    """Call an async handler to its end. Cancelling this cancels it."""
    if telemetry.is_there():
        with telemetry.processing(delivery) as told:
            return told(await _call_async(handler, delivery))
    return await _call_async(handler, delivery)


async def _call_async(handler: Handler, delivery: Delivery) -> Outcome:
    try:
        answer = await handler.function(handler.prepare(delivery))
        return _returned(delivery, answer)
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # SystemExit, too: it would end the worker
        return failed(error, handler)


async def call_in_thread(handler: Handler, delivery: Delivery) -> Outcome:
    """Call a sync handler in a thread of its own. Nothing can end it: not even the interpreter's
    exit waits for it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Outcome] = loop.create_future()

    def tell(outcome: Outcome) -> None:
        if not future.done():
            future.set_result(outcome)

    def work() -> None:
        outcome = call(handler, delivery)
        try:
            loop.call_soon_threadsafe(tell, outcome)
        except RuntimeError:  # the loop has been closed meanwhile
            return

    name = f"{handler.queue}-{delivery.message_id}"
    threading.Thread(target=work, name=name, daemon=True).start()
    return await future
