"""Log lines: one event a line, as key=value or JSON, with secrets redacted and payloads never given
to it."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import datetime, timezone
from typing import Any, Literal

from pyshim.config import redact

Format = Literal["text", "json"]

_MAX_VALUE = 500
_BARE = re.compile(r"[\w.:/*+@-]+")


def event(
    logger: logging.Logger, level: int, name: str, /, said: str | None = None, **fields: Any
) -> None:
    """Log one event. Fields that are None are left out; exceptions are written as one line. `said`
    is the sentence of a log that was not configured here, as of a command that acts once."""
    if logger.isEnabledFor(level):
        kept = {key: _plain(value) for key, value in fields.items() if value is not None}
        logger.log(level, "%s", said or name, extra={"fields": {"event": name, **kept}})


def configure(fmt: Format = "text", level: int = logging.INFO, stream: Any = None) -> None:
    """Send the log lines of this package, and psycopg's warnings, to `stream` (standard error), in
    `fmt`."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if fmt == "json" else TextFormatter())
    for name, least in (("tidegate", level), ("psycopg", max(level, logging.WARNING))):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(least)
        logger.propagate = False


def one_line(error: BaseException) -> str:
    """An error as one redacted line of at most 500 characters, with its SQLSTATE."""
    text = " ".join(str(error).split()) or type(error).__name__
    sqlstate = getattr(error, "sqlstate", None)
    return str(_plain(f"{sqlstate} {text}" if sqlstate else text))


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, BaseException):
        return one_line(value)
    text = redact(" ".join(str(value).split()))
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"


def _head(record: logging.LogRecord) -> dict[str, Any]:
    at = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
    head = {"at": at, "level": record.levelname.lower(), "event": _plain(record.getMessage())}
    return {**head, **getattr(record, "fields", {})}


class TextFormatter(logging.Formatter):
    """`at=… level=info event=swept claimed=500`."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(value)}" for key, value in _head(record).items())


class JsonFormatter(logging.Formatter):
    """The same fields as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_head(record), ensure_ascii=False)


def _quoted(value: Any) -> str:
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
