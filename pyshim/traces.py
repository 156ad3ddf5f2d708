"""Errors as text: what every database takes, and where they came from."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path

from pyshim.config import redact

_LONGEST_ERROR = 1000  # what the database keeps
_NOT_THEIRS = (str(Path(__file__).parent), str(importlib.__file__), "<frozen importlib")


def clean(text: str) -> str:
    """Text that every database takes, passwords of URLs redacted."""
    text = text[: 4 * _LONGEST_ERROR].replace("\x00", "").encode("utf-8", "replace").decode()
    return redact(text)[:_LONGEST_ERROR]


def trace(error: BaseException) -> str:
    """Where an error came from, innermost first and in one line; our own frames
    and those of importing are left out."""
    seen: list[str] = []
    each: BaseException | None = error
    while each is not None and len(seen) < 5:
        frames = [
            f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
            for frame in reversed(traceback.extract_tb(each.__traceback__))
            if not frame.filename.startswith(_NOT_THEIRS)
        ]
        named = "" if each is error else f"{type(each).__name__}: {clean(str(each))} at "
        seen.append(named + " < ".join(frames[:20]))
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return " | after ".join(seen)
