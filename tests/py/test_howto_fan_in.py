"""docs/howto/fan-in.md does what it says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pyshim import migrate
from pyshim.connect import Connection

PAGE = Path(__file__).parents[2] / "docs/howto/fan-in.md"
BLOCKS = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
async def jobs(connection: Connection, empty_database: str) -> str:
    """A database with an installation called jobs."""
    await migrate.apply(connection, "jobs")
    return empty_database


def test_it_does_what_it_says(jobs: str, psql: str) -> None:
    command = [psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", jobs]
    printed = []
    for block in BLOCKS:
        done = subprocess.run(command, input=block, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (block, done.stderr)
        printed.append(done.stdout.strip())
    _, opened, acked, progress, callback, guarded, dynamic, ours, question, answer = printed
    assert re.fullmatch(r"\d+\|opened", opened)
    assert acked == "(1,0,0,f)"
    assert progress == "3|1|2|open"
    report = '{"report": 7}|[{"words": 100}, {"words": 200}, {"words": 300}]'
    assert callback.endswith(report)
    assert guarded.startswith("won")
    assert dynamic.split("\n") == ["1", "arrived", "sealed", "fired"]
    assert [line for line in ours.split("\n") if line] == [
        "open", "arrived", "1|1|{}",
        "error|barrier report-9: incomplete: 1 of 2 members outstanding",
        "expired|incomplete: 1 of 2 members outstanding",
    ]  # fmt: skip
    assert [line for line in question.split("\n") if line] == ["1", "report-10|2"]
    assert answer.split("\n") == ["failed|(1,0,0,f)", "aborted|expired"]
