"""Log lines: one event a line, in both formats, without secrets."""

from __future__ import annotations

import io
import json
import logging

import pytest

from pyshim import logs

log = logging.getLogger("tidegate")


@pytest.fixture
def lines() -> io.StringIO:
    return io.StringIO()


def test_text_lines_are_key_value_and_one_line_each(lines: io.StringIO) -> None:
    logs.configure("text", stream=lines)
    logs.event(log, logging.INFO, "swept", claimed=5, first_error='two\nlines "x"', nothing=None)
    (line,) = lines.getvalue().splitlines()
    assert line.endswith(' level=info event=swept claimed=5 first_error="two lines \\"x\\""')


def test_json_lines_carry_the_same_fields(lines: io.StringIO) -> None:
    logs.configure("json", stream=lines)
    logs.event(log, logging.WARNING, "failed", claimed=5, error=ValueError("no\nway"))
    record = json.loads(lines.getvalue())
    del record["at"]
    assert record == {"level": "warning", "event": "failed", "claimed": 5, "error": "no way"}


@pytest.mark.parametrize("fmt", ["text", "json"])
def test_passwords_are_redacted_and_values_bounded(lines: io.StringIO, fmt: logs.Format) -> None:
    logs.configure(fmt, stream=lines)
    error = ConnectionError("cannot reach redis://u:hunter2@h:1/0 " + "x" * 2000)
    logs.event(log, logging.WARNING, "failed", error=error)
    assert "hunter2" not in lines.getvalue()
    assert len(lines.getvalue()) < 700


def test_warnings_of_psycopg_are_lines_like_ours(lines: io.StringIO) -> None:
    logs.configure("text", logging.DEBUG, lines)
    psycopg = logging.getLogger("psycopg.pool")
    psycopg.info("connecting")
    psycopg.warning("query cancellation failed: %s", "no\nway password=hunter2")
    (line,) = lines.getvalue().splitlines()
    assert line.startswith("at=") and "hunter2" not in line
    assert ' level=warning event="query cancellation failed: no way' in line


def test_what_is_below_the_level_is_not_written(lines: io.StringIO) -> None:
    logs.configure("text", logging.INFO, lines)
    logs.event(log, logging.DEBUG, "swept")
    assert lines.getvalue() == ""
