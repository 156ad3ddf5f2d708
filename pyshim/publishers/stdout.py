"""One envelope a line on standard output."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from typing import Protocol

from pyshim.publishers.base import PUBLISHED, Message, Outcome, TransportGone


class Stream(Protocol):
    """What is written to."""

    def write(self, text: str, /) -> object:
        """Take `text`."""

    def flush(self) -> object:
        """Pass on what was taken."""


class StdoutPublisher:
    """Writes envelopes to a text stream. A reader that hangs up is gone for good."""

    def __init__(self, stream: Stream | None = None) -> None:
        self._stream = stream
        # A batch whose lease ended while the reader dawdled may still be writing.
        self._one_at_a_time = threading.Lock()

    async def probe(self) -> None:
        """Standard output is always there, until it is not."""

    async def publish(self, messages: Sequence[Message]) -> list[Outcome]:
        """Write and flush one line a message, in a thread: a slow reader must not stop the loop."""
        text = "".join(message.envelope() + "\n" for message in messages)
        await asyncio.to_thread(self._write, text)
        return [PUBLISHED] * len(messages)

    async def close(self) -> None:
        """Standard output is not ours to close."""

    def _write(self, text: str) -> None:
        stream: Stream = sys.stdout if self._stream is None else self._stream
        try:
            with self._one_at_a_time:
                stream.write(text)
                stream.flush()
        except BrokenPipeError as error:
            if self._stream is None:
                # Python flushes it once more at exit; let that go nowhere.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise TransportGone("the reader of standard output has gone") from error
