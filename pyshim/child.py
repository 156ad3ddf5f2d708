"""A process that runs sync handlers for a worker: one message at a time, until told to end.

Started by `pyshim.children` as `python -m pyshim.child module:registry DESCRIPTOR`. What it is told
and what it answers are lines of JSON over the socket of that descriptor. When the socket closes,
the worker has gone or wants no more: an idle child ends as any interpreter does, a busy one at
once, with whatever it has started.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from pyshim import handling, registry, telemetry

ACKED = b'{"acked": true}\n'  # told as soon as a handler has acked in a transaction of its own

_PR_SET_PDEATHSIG = 1


def request(row: Mapping[str, Any], queue_name: str, schema: str, task: str | None) -> bytes:
    """The line that asks a child to handle a row of a claim."""
    plain = {
        **row,
        "event_id": str(row["event_id"]),
        "lease_id": str(row["lease_id"]),
        "enqueued_at": row["enqueued_at"].isoformat(),
        "lease_left": None,
    }
    asked = {"row": plain, "queue": queue_name, "schema": schema, "task": task}
    return json.dumps(asked).encode() + b"\n"


def answer(line: bytes) -> handling.Outcome:
    """The outcome that a child's line tells."""
    return handling.Outcome(**json.loads(line))


def main(arguments: list[str]) -> None:
    """Handle what comes, until the socket closes."""
    reference, descriptor = arguments
    wire = socket.socket(fileno=int(descriptor))
    wire.set_inheritable(False)
    incoming = wire.makefile("rb")
    # Whoever stops the worker may signal all its processes: when to end is the worker's decision. A
    # function, unlike SIG_IGN, is not inherited by what a handler starts.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it, for them too
            signal.signal(number, lambda *_: None)
    _die_with_parent()
    sys.path[:] = json.loads(incoming.readline())
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    busy = threading.Event()

    def listen() -> None:
        with contextlib.suppress(OSError):
            for line in incoming:
                busy.set()
                requests.put(line)
        if busy.is_set():
            _kill_all()
        requests.put(None)

    busy.set()
    threading.Thread(target=listen, name="tidegate-listen", daemon=True).start()
    try:
        telemetry.configure()
        handlers = registry.load(reference)
    except BaseException as error:
        wire.sendall(json.dumps({"broken": str(error) or type(error).__name__}).encode() + b"\n")
        return
    busy.clear()
    wire.sendall(b'{"ready": true}\n')
    while (line := requests.get()) is not None:
        outcome = _handle(handlers, json.loads(line), lambda: wire.sendall(ACKED))
        busy.clear()
        with contextlib.suppress(OSError):  # the worker has gone
            wire.sendall(json.dumps(asdict(outcome)).encode() + b"\n")


def _handle(
    handlers: registry.Registry, asked: Any, on_ack: Callable[[], None]
) -> handling.Outcome:
    row = asked["row"]
    row["event_id"] = UUID(row["event_id"])
    row["lease_id"] = UUID(row["lease_id"])
    row["enqueued_at"] = datetime.fromisoformat(row["enqueued_at"])
    handler = handlers.find(asked["queue"], asked["task"])
    if handler is None:
        # Newer code than the worker's: another process, or the next version, may know it.
        return handling.Outcome("failed", "the handler's process knows no such handler")
    try:
        delivery = registry.delivery(row, asked["queue"], asked["schema"], on_ack=on_ack)
    except registry.Malformed as error:
        return handling.failed(error)
    return handling.call(handler, delivery)


def _die_with_parent() -> None:
    """Ask the kernel, where it can: a handler that holds the GIL would not see the socket close."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_all() -> None:
    """End this process and what it has started."""
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
