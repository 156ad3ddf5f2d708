"""pytest plugin: every .sql file below tests/sql is a test item that psql runs.

A file is plain psql input. It sees the installed schema, then `t` (our helpers), then `tap` (pgTAP)
in its search_path, and works in a database of its own, a clone of the template. Its TAP lines are
its verdict: an item fails on `not ok` (a skipped test counts as one), on an SQL error, on a plan
that does not match what ran, and when nothing was tested at all.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent / "sql"
NOT_TESTS = ("_setup", "golden", "isolation", "upgrade")
SEARCH_PATH = "tidegate, t, tap, public"
PLAN = re.compile(r"^1\.\.(\d+)")
RESULT = re.compile(r"^(not )?ok (\d+)")
SKIPPED = re.compile(r"# (SKIP|TODO)\b", re.IGNORECASE)
TIME_LIMIT = 300  # seconds; a hung file must not hang the run


class TapFailure(Exception):
    """A .sql file did not pass; the message is what to show."""


@dataclass
class Verdict:
    """What the TAP lines of one run add up to; `problems` is empty when it passed."""

    ran: int = 0
    problems: list[str] = field(default_factory=list)


def judge(output: str, errors: str, exit_code: int) -> Verdict:
    """Read psql's output (TAP among other lines), its standard error and exit code."""
    planned: int | None = None
    verdict = Verdict()
    for line in output.splitlines():
        if match := PLAN.match(line):
            planned = int(match[1])
        elif match := RESULT.match(line):
            verdict.ran += 1
            if match[1] or SKIPPED.search(line):
                verdict.problems.append(line)
            if int(match[2]) != verdict.ran:
                verdict.problems.append(f"test {match[2]} came as number {verdict.ran}")
    if exit_code:
        verdict.problems.append(f"psql ended with {exit_code}")
    if re.search(r"^(psql:.*)?(ERROR|FATAL|PANIC): ", errors, re.MULTILINE):
        verdict.problems.append("an SQL error was raised")
    if planned is None:
        verdict.problems.append("no plan: the file calls neither plan() nor no_plan() and finish()")
    elif planned != verdict.ran:
        verdict.problems.append(f"{planned} tests planned, {verdict.ran} ran")
    if verdict.ran == 0:
        verdict.problems.append("nothing was tested")
    return verdict


def run_file(path: Path, psql: str, conninfo: str) -> int:
    """Run one file and return how many tests passed; raise TapFailure if it did not pass."""
    options = f"-c search_path={SEARCH_PATH} -c client_min_messages=warning".replace(", ", ",")
    try:
        done = subprocess.run(
            [psql, "-X", "-q", "-A", "-t", "-P", "pager=off", "-v", "ON_ERROR_STOP=1",
             "-d", conninfo, "-f", path.name],
            cwd=path.parent,
            env={**os.environ, "PGOPTIONS": options, "PGAPPNAME": path.stem[:60]},
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        raise TapFailure(f"{path.name} did not end within {TIME_LIMIT} s") from late
    verdict = judge(done.stdout, done.stderr, done.returncode)
    if verdict.problems:
        said = [line for line in done.stdout.splitlines() if line.strip()]
        raise TapFailure("\n".join([*verdict.problems, "", *said, done.stderr.rstrip()]))
    return verdict.ran


class SqlItem(pytest.Function):
    """One .sql file, run as one test."""

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]
        return (
            str(excinfo.value)
            if isinstance(excinfo.value, TapFailure)
            else super().repr_failure(excinfo)
        )

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, str(self.path.relative_to(ROOT.parent.parent))


class SqlFile(pytest.File):
    """Collects the single item of a .sql file."""

    def collect(self) -> Iterator[pytest.Item]:
        item = SqlItem.from_parent(self, name="tap", callobj=_test_of(self.path))
        if any(part == "heavy" for part in self.path.parts):
            item.add_marker(pytest.mark.heavy)
        yield item


def _test_of(path: Path) -> Callable[..., None]:
    def test(psql: str, database: str, record_property: Callable[[str, object], None]) -> None:
        record_property("tap", run_file(path, psql, database))

    return test


def is_test(path: Path) -> bool:
    """Whether a file is a test of its own."""
    return (
        path.suffix == ".sql"
        and ROOT in path.parents
        and path.relative_to(ROOT).parts[0] not in NOT_TESTS
    )


def sql_files() -> list[Path]:
    """All .sql tests."""
    return sorted(path for path in ROOT.glob("**/*.sql") if is_test(path))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    return SqlFile.from_parent(parent, path=file_path) if is_test(file_path) else None


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, str] | None:
    if not isinstance(report, pytest.TestReport):
        return None
    tests = dict(report.user_properties).get("tap")
    if report.when == "call" and report.passed and tests is not None:
        return "passed", ".", f"PASSED ({tests} ok)"
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = [
        int(str(tests))
        for report in terminalreporter.getreports("passed")
        if (tests := dict(report.user_properties).get("tap")) is not None
    ]
    if counts:
        terminalreporter.write_line(f"pgTAP: {sum(counts)} tests ok in {len(counts)} files")
