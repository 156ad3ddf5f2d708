"""A block of lines at the foot of a terminal, redrawn in place; what is written meanwhile goes
above it."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Sequence
from typing import TextIO


class Live:
    """A text stream. On a terminal `show` keeps its lines at the foot; elsewhere it shows
    nothing."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self._lock = threading.Lock()
        self._shown: list[str] = []
        self.is_terminal = self._out.isatty()

    def write(self, text: str) -> int:
        """Write whole lines, above the block."""
        with self._lock:
            self._erase()
            self._out.write(text)
            self._draw()
        return len(text)

    def flush(self) -> None:
        """Flush what is below."""
        self._out.flush()

    def show(self, lines: Sequence[str]) -> None:
        """Put `lines` in place of the block."""
        if not self.is_terminal:
            return
        with self._lock:
            self._erase()
            width = shutil.get_terminal_size().columns
            self._shown = [line[: width - 1] for line in lines]
            self._draw()
            self._out.flush()

    def _erase(self) -> None:
        if self._shown:
            self._out.write(f"\x1b[{len(self._shown)}A\x1b[J")

    def _draw(self) -> None:
        self._out.writelines(line + "\n" for line in self._shown)
