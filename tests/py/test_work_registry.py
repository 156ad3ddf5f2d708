"""Handlers by queue: how they are registered, found and loaded, and what their errors say."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from pyshim import child, handling, traces
from pyshim.errors import ConfigError
from pyshim.registry import (
    MOST_RESULT_BYTES,
    Delivery,
    Malformed,
    Registry,
    Reject,
    Retry,
    delivery,
    load,
)

ROW = {
    "message_id": 7,
    "event_id": UUID(int=1),
    "lease_id": UUID(int=2),
    "attempt": 1,
    "max_attempts": 5,
    "priority": 0,
    "group_key": None,
    "job_key": None,
    "run_id": None,
    "tenant": "acme",
    "topic": None,
    "barrier": None,
    "epoch": None,
    "member": None,
    "enqueued_at": datetime(2024, 5, 6, tzinfo=timezone.utc),
    "payload": '{"n": 1}',
    "headers": None,
}


def _delivery(**changes: Any) -> Delivery:
    return delivery({**ROW, **changes}, "q", "tidegate")


def _nothing(delivery: Delivery) -> None:
    pass


async def _async_nothing(delivery: Delivery) -> None:
    pass


class AsyncCall:
    async def __call__(self, delivery: Delivery) -> None:
        pass


def test_a_message_goes_to_the_handler_of_its_task_or_to_the_one_without() -> None:
    registry = Registry()
    mail = registry.handler("q", task="mail")(_nothing)
    assert registry.find("q", "mail").function is mail  # type: ignore[union-attr]
    assert registry.find("q", "fax") is None
    assert registry.find("q", None) is None
    assert registry.find("other", "mail") is None
    registry.handler("q")(_async_nothing)
    for task in ("fax", None, 3, ["mail"]):
        assert registry.find("q", task).function is _async_nothing  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (_nothing, "process"),
        (_async_nothing, "async"),
        (functools.partial(_async_nothing), "async"),
        (AsyncCall(), "async"),
        (lambda delivery: None, "process"),
    ],
)
def test_what_is_async_runs_on_the_loop_and_what_is_not_in_a_process(
    function: Callable[[Delivery], Any], kind: str
) -> None:
    registry = Registry()
    registry.handler("q")(function)
    (handler,) = registry.handlers("q")
    assert (handler.is_async, handler.in_process) == (kind == "async", kind == "process")


def test_settings_of_a_queue_are_said_in_one_of_its_handlers() -> None:
    registry = Registry()
    registry.handler("q", task="a", concurrency=3, lease="2min")(_nothing)
    registry.handler("q", task="b", batch=50, concurrency=3)(_nothing)
    settings = registry.settings("q")
    assert (settings.concurrency, settings.batch) == (3, 50)
    assert settings.lease == timedelta(minutes=2)
    with pytest.raises(ConfigError, match="concurrency of queue 'q' is 3 in one handler and 4"):
        registry.handler("q", task="c", concurrency=4)(_nothing)
    assert registry.find("q", "c") is None


@pytest.mark.parametrize(
    ("options", "function", "said"),
    [
        ({"timeout": "soon"}, _nothing, "timeout of the handler of queue 'q' is 'soon'"),
        ({"timeout": 0}, _nothing, "positive"),
        ({"timeout": -1}, _nothing, "-1"),
        ({"lease": timedelta(0)}, _nothing, "positive"),
        ({"concurrency": 0}, _nothing, "concurrency of the handler of queue 'q' is 0"),
        ({"batch": 10_001, "task": "t"}, _nothing, "queue 'q', task 't' is 10001"),
        ({"in_thread": True}, _async_nothing, "is async"),
        ({"in_thread": True, "timeout": 5}, _nothing, "a thread cannot be ended"),
        ({}, lambda delivery: (yield), "generator"),
        ({}, "print", "handler of queue 'q' is 'print'; allowed: a function of one argument"),
        ({}, lambda: None, r"<lambda>\(\); allowed: a function of one argument, a Delivery"),
        ({}, lambda delivery, *, to: None, r"<lambda>\(delivery, \*, to\); allowed"),
        ({"parse": 5}, _nothing, "parse of the handler of queue 'q' is 5"),
        ({"reject": "x"}, _nothing, "reject of the handler of queue 'q' holds 'x'"),
        ({"reject": (KeyError, 5)}, _nothing, "holds 5; allowed: exception types"),
        ({"reject": int}, _nothing, "holds <class 'int'>"),
        ({"task": 5}, _nothing, "task 5 is 5; allowed: a text"),
        ({"task": ""}, _nothing, "is ''; allowed: a text"),
        ({"concurrency": "3"}, _nothing, "is '3'; allowed: 1 to 10000"),
        ({"timeout": [1]}, _nothing, r"is \[1\]; allowed: a duration"),
    ],
)
def test_a_handler_that_cannot_work_is_refused(
    options: dict[str, Any], function: Callable[[Delivery], Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        Registry().handler("q", **options)(function)


@pytest.mark.parametrize("queue", ["", 5, None])
def test_a_handler_names_its_queue(queue: Any) -> None:
    with pytest.raises(ConfigError, match=f"the queue of a handler is {queue!r}"):
        Registry().handler(queue)


def test_a_decorator_without_its_parentheses_is_no_silent_nothing() -> None:
    registry = Registry()
    with pytest.raises(ConfigError, match="without the name of its queue") as told:

        @registry.handler  # type: ignore[arg-type]
        def mail(delivery: Delivery) -> None:
            pass

    assert told.value.hint == "write @registry.handler('emails')"


@pytest.mark.parametrize("function", [print, functools.partial(print, 1), AsyncCall(), int])
def test_what_can_be_called_with_one_argument_may_be_a_handler(function: Any) -> None:
    Registry().handler("q")(function)


def test_a_missing_handler_is_told_with_what_there_is() -> None:
    registry = Registry()
    registry.reference = "jobs:registry"
    for n in range(30):
        registry.handler("q", task=f"t{n}")(_nothing)
    assert registry.told_missing("q", "x").startswith(
        "queue 'q' has no handler for task 'x' in jobs:registry; it has for the tasks 't0', 't1', "
    )
    assert registry.told_missing("q", None).endswith(" 't19', …")
    assert "has no handler without a task in" in registry.told_missing("q", None)


def test_a_delivery_holds_what_the_claim_answered() -> None:
    made = _delivery(headers='{"task": "mail"}', attempt=5)
    assert (made.payload, made.headers) == ({"n": 1}, {"task": "mail"})
    assert (made.queue, made.message_id, made.tenant) == ("q", 7, "acme")
    assert made.is_last_attempt
    assert not _delivery(attempt=4).is_last_attempt
    assert not _delivery(attempt=99, max_attempts=0).is_last_attempt


@pytest.mark.parametrize("payload", ["9" * 5000, "[" * 100_000 + "]" * 100_000])
def test_what_python_cannot_read_is_malformed(payload: str) -> None:
    with pytest.raises(Malformed):
        _delivery(payload=payload)


def _failed(error: BaseException, **options: Any) -> handling.Outcome:
    registry = Registry()
    registry.handler("q", **options)(_nothing)
    return handling.failed(error, registry.find("q", None))


def test_an_error_is_told_with_its_type_and_without_secrets() -> None:
    outcome = _failed(ValueError("no\x00 \udcff postgresql://u:hunter2@h/d"))
    assert outcome.error == "ValueError: no ? postgresql://u:***@h/d"
    assert outcome.retryable
    assert _failed(KeyError()).error == "KeyError"
    assert len(_failed(ValueError("x" * 1_000_000)).error or "") < 1100


def test_a_trace_is_one_line_innermost_first_with_causes() -> None:
    def inner() -> None:
        raise KeyError("x")

    def outer() -> None:
        try:
            inner()
        except KeyError as error:
            raise ValueError("y") from error

    with pytest.raises(ValueError, match="y") as caught:
        outer()
    trace = traces.trace(caught.value)
    assert trace.startswith("test_work_registry.py:")
    assert trace.index("in outer") < trace.index("after KeyError: 'x'") < trace.index("in inner")
    assert "\n" not in trace


@pytest.mark.parametrize(
    ("error", "verdict", "retryable", "retry_in"),
    [
        (Reject("no"), "failed", False, None),
        (Malformed("no"), "failed", False, None),
        (Retry("busy"), "failed", True, None),
        (Retry("busy", in_=timedelta(minutes=1)), "failed", True, 60),
        (Retry("busy", in_=3, charge=False), "released", True, 3),
        (Retry("busy", charge=False), "released", True, 5),
        (SystemExit(1), "failed", True, None),
        (OSError("gone"), "failed", False, None),
    ],
)
def test_what_is_raised_decides_what_becomes_of_the_message(
    error: BaseException, verdict: str, retryable: bool, retry_in: float | None
) -> None:
    outcome = _failed(error, reject=OSError)
    assert (outcome.verdict, outcome.retryable, outcome.retry_in) == (verdict, retryable, retry_in)


MEMBER = {"barrier": "b", "epoch": 3, "member": 1}


@pytest.mark.parametrize(
    "value", [0, "", [], {"é€😀": [1.5, True]}, "\\u0000", "x" * (MOST_RESULT_BYTES - 2)]
)
async def test_what_a_handler_returns_is_its_members_result(value: Any) -> None:
    async def handle(delivery: Delivery) -> Any:
        return value

    registry = Registry()
    registry.handler("q")(lambda delivery: value)
    registry.handler("q", task="async")(handle)
    plain, on_loop = registry.find("q", None), registry.find("q", "async")
    assert plain and on_loop
    for outcome in (
        handling.call(plain, _delivery(**MEMBER)),
        await handling.call_async(on_loop, _delivery(**MEMBER)),
        await handling.call_in_thread(plain, _delivery(**MEMBER)),
    ):
        assert (outcome.verdict, json.loads(outcome.result or "")) == ("done", value)
        # and it passes the wire of a child
        assert child.answer(json.dumps(asdict(outcome)).encode()) == outcome
    # but is nobody's where there is no member
    assert handling.call(plain, _delivery()) == handling.DONE


def test_nothing_returned_is_no_result() -> None:
    registry = Registry()
    registry.handler("q")(_nothing)
    handler = registry.find("q", None)
    assert handler and handling.call(handler, _delivery(**MEMBER)) == handling.DONE


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\0b", r"the result holds \\u0000"),
        ("\ud83d", r"the result holds \\ud83d"),
        (float("nan"), "the result cannot be written as JSON: Out of range"),
        (CIRCLE, "the result cannot be written as JSON: Circular"),
        ({1, 2}, "set is not JSON serializable"),
        ("x" * MOST_RESULT_BYTES, f"the result has {MOST_RESULT_BYTES + 2} bytes; allowed: "),
    ],
)
def test_a_result_that_cannot_be_stored_fails_its_message_for_good(value: Any, said: str) -> None:
    registry = Registry()
    registry.handler("q")(lambda delivery: value)
    handler = registry.find("q", None)
    assert handler
    outcome = handling.call(handler, _delivery(**MEMBER))
    assert (outcome.verdict, outcome.retryable, outcome.result) == ("failed", False, None)
    assert re.search(said, outcome.error or "")
    # and where nobody wants it, it is no mistake
    assert handling.call(handler, _delivery()) == handling.DONE


@pytest.mark.parametrize("in_", [-1, 1e12])
def test_a_pause_that_no_queue_can_keep_is_refused(in_: float) -> None:
    with pytest.raises(ValueError, match="in_ is"):
        Retry(in_=in_)


def test_a_registry_is_found_in_a_module_of_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    (tmp_path / "some_jobs.py").write_text(
        "from pyshim.registry import Registry\n"
        "registry = Registry(); other = Registry(); empty = Registry()\n"
        "registry.handler('a')(print); other.handler('b')(print)\n"
    )
    assert load("some_jobs").queues() == ["a"]
    assert load("some_jobs:other").queues() == ["b"]
    assert load("some_jobs").reference == "some_jobs:registry"
    for reference, said in (
        ("some_jobs:empty", "some_jobs:empty has no handlers"),
        ("some_jobs:none", "has no 'none'"),
        ("some_jobs:print", "has no 'print'"),
        ("nowhere_jobs:registry", "cannot import nowhere_jobs"),
        (":registry", "names no module"),
    ):
        with pytest.raises(ConfigError, match=said):
            load(reference)


def test_a_module_that_breaks_is_told_with_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    first = "from pyshim.registry import Registry\nregistry = Registry()\n"
    for name, text in {
        "broken_inner": "def f():\n    return 1 / 0\nf()\n",
        "broken_outer": "import broken_inner\n",
        "broken_twice": first + "for _ in 'ab':\n    registry.handler('a')(print)\n",
        "broken_syntax": "def\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    for name, said in {
        "broken_outer": "cannot import broken_outer: ZeroDivisionError: division by zero, at"
        " broken_inner.py:2 in f < broken_inner.py:3 in <module> < broken_outer.py:1 in <module>",
        "broken_twice": "there is a handler of queue 'a' already, at broken_twice.py:4 in <module>",
        "broken_syntax": "cannot import broken_syntax: SyntaxError: invalid syntax"
        " (broken_syntax.py, line 1)",
        "nowhere_jobs": "cannot import nowhere_jobs: ModuleNotFoundError: No module named"
        " 'nowhere_jobs'",
    }.items():
        with pytest.raises(ConfigError) as told:
            load(name)
        assert told.value.message == said
