"""docs/howto/fan-in.md does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
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


def test_its_python_does_what_it_says(jobs: str, tmp_path: Path) -> None:
    worker, sender = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "pages.py").write_text(worker)
    names: dict[str, Any] = {}
    exec(sender, names)
    with psycopg.connect(jobs) as conn:
        conn.execute("select jobs.queue_create('pages'), jobs.queue_create('reports')")
        assert names["split"](conn, 9, [1, 2]) > 0
        conn.commit()
        environment = {**os.environ, "TIDEGATE_DATABASE_URL": jobs, "TIDEGATE_SCHEMA": "jobs"}
        environment["PYTHONPATH"] = os.pathsep.join(each for each in sys.path if each)
        done = subprocess.run(
            [sys.executable, "-m", "pyshim", "work", "pages:registry", "--drain"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        row = conn.execute("select payload from jobs.queue_peek('reports')").fetchone()
    assert row and row[0]["results"] == [{"words": 100}, {"words": 200}]
    assert row[0]["payload"] == {"report": 9}
