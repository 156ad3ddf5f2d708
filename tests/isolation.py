"""pytest plugin: every .spec file below tests/sql/isolation is run and compared with its .out file.

A spec is what PostgreSQL's own `isolationtester` reads: sessions made of named steps, and
permutations that say in which order the steps are sent. Where that program is at hand the spec is
run by it, and always by the small runner in this module; both must print expected/<name>.out.

The runner knows the part of the language that our specs use: `setup`, `teardown`, `session`,
`step`, and `permutation` with the markers `(*)` (the step is shown as waiting whatever happens) and
`(step)` (it is not shown as completed before that step is).
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import pq
from psycopg.conninfo import make_conninfo

from pyshim import config, embedded
from pyshim.errors import EmbeddedUnavailable

ROOT = Path(__file__).parent / "sql" / "isolation"
SEARCH_PATH = "tidegate,t,tap,public"
TIME_LIMIT = 60  # seconds that one step may take, waiting included
TOKEN = re.compile(r'\s+|#[^\n]*|"([^"]*)"|\{(.*?)\}|([A-Za-z_]\w*)|([(),*])', re.DOTALL)


class SpecError(Exception):
    """A spec file cannot be read, or a run of it cannot go on."""


@dataclass(frozen=True)
class Step:
    """A named piece of SQL that one session sends."""

    name: str
    sql: str
    session: int


@dataclass(frozen=True)
class Turn:
    """A step at its place in a permutation, with its markers."""

    step: Step
    always_waits: bool = False
    not_before: tuple[str, ...] = ()


@dataclass
class Spec:
    """A parsed spec file. `session_setup` and `session_teardown` are by session index."""

    setup: list[str] = field(default_factory=list)
    teardown: str | None = None
    sessions: list[str] = field(default_factory=list)
    session_setup: dict[int, str] = field(default_factory=dict)
    session_teardown: dict[int, str] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    permutations: list[list[Turn]] = field(default_factory=list)


# --------------------------------------------------------------------------------------- reading


def parse(text: str) -> Spec:
    """Read a spec; raise SpecError on anything the runner does not know."""
    tokens = list(_tokens(text))
    spec = Spec()
    at = 0

    def take(kind: str) -> str:
        nonlocal at
        if at >= len(tokens) or tokens[at][0] != kind:
            raise SpecError(f"expected {kind}, found {tokens[at : at + 1] or 'the end'}")
        at += 1
        return tokens[at - 1][1]

    def turn() -> Turn:
        nonlocal at
        step = spec.steps[take("name")]
        always, others = False, []
        if at < len(tokens) and tokens[at] == ("sign", "("):
            at += 1
            while tokens[at] != ("sign", ")"):
                kind, value = tokens[at]
                always = always or (kind, value) == ("sign", "*")
                if kind == "name":
                    others.append(value)
                at += 1
            at += 1
        return Turn(step, always, tuple(others))

    while at < len(tokens):
        match take("name"):
            case "setup" if spec.sessions:
                spec.session_setup[len(spec.sessions) - 1] = take("sql")
            case "setup":
                spec.setup.append(take("sql"))
            case "teardown" if spec.sessions:
                spec.session_teardown[len(spec.sessions) - 1] = take("sql")
            case "teardown":
                spec.teardown = take("sql")
            case "session":
                spec.sessions.append(take("name"))
            case "step":
                name = take("name")
                spec.steps[name] = Step(name, take("sql"), len(spec.sessions) - 1)
            case "permutation":
                turns = []
                while at < len(tokens) and tokens[at][1] != "permutation":
                    turns.append(turn())
                spec.permutations.append(turns)
            case other:
                raise SpecError(f"unknown word {other!r}")
    if not spec.permutations:
        raise SpecError("a spec names the permutations that it is about")
    return spec


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if not match:
            raise SpecError(f"cannot read {text[at : at + 20]!r}")
        at = match.end()
        quoted, sql, word, sign = match.groups()
        if quoted is not None or word is not None:
            yield "name", quoted if quoted is not None else word
        elif sql is not None:
            yield "sql", sql.strip(" \t\r\f")
        elif sign is not None:
            yield "sign", sign


# --------------------------------------------------------------------------------------- running


class Session:
    """One connection of a permutation; sends a step and waits for it without blocking."""

    def __init__(self, conninfo: str, name: str) -> None:
        self.name = name
        self.conn = psycopg.connect(conninfo, autocommit=True)
        self.pg = self.conn.pgconn
        self.pid = self.pg.backend_pid
        self.notices: list[str] = []
        self.conn.add_notice_handler(
            lambda note: self.notices.append(f"{name}: {note.severity}:  {note.message_primary}")
        )

    def send(self, sql: str) -> None:
        self.pg.send_query(sql.encode())

    def busy(self, seconds: float) -> bool:
        """Wait up to `seconds` for the step that was sent; tell whether it still runs."""
        while self.pg.is_busy():
            if not select.select([self.pg.socket], [], [], seconds)[0]:
                return True
            self.pg.consume_input()
        return False

    def results(self) -> Iterator[str]:
        while result := self.pg.get_result():
            yield from show(result)

    def run(self, sql: str) -> Iterator[str]:
        self.send(sql)
        deadline = time.monotonic() + TIME_LIMIT
        while self.busy(1):
            if time.monotonic() > deadline:
                raise SpecError(f"{self.name}: {sql!r} did not end within {TIME_LIMIT} s")
        yield from self.results()


def show(result: pq.abc.PGresult) -> Iterator[str]:
    """Print a result as isolationtester does: rows as an aligned table, errors in one line."""
    if result.status == pq.ExecStatus.TUPLES_OK:
        yield _table(result)
    elif result.status == pq.ExecStatus.FATAL_ERROR:
        severity, message = (
            (result.error_field(part) or b"").decode()
            for part in (pq.DiagnosticField.SEVERITY, pq.DiagnosticField.MESSAGE_PRIMARY)
        )
        yield f"{severity}:  {message}\n"


def _table(result: pq.abc.PGresult) -> str:
    columns = range(result.nfields)
    head = [(result.fname(column) or b"").decode() for column in columns]
    rows = [
        [(result.get_value(row, column) or b"").decode() for column in columns]
        for row in range(result.ntuples)
    ]
    widths = [max(len(line[column]) for line in [head, *rows]) for column in columns]
    right = [all(_numeric(row[column]) for row in rows if row[column]) for column in columns]

    def line(values: list[str]) -> str:
        cells = zip(values, widths, right, strict=True)
        return "|".join(v.rjust(w) if is_right else v.ljust(w) for v, w, is_right in cells) + "\n"

    rule = "+".join("-" * width for width in widths) + "\n"
    count = f"({len(rows)} row{'' if len(rows) == 1 else 's'})\n\n"
    return line(head) + rule + "".join(line(row) for row in rows) + count


def _numeric(value: str) -> bool:
    return re.fullmatch(r"[0-9.Ee -]*[0-9]", value) is not None and value[0] not in "Ee"


class Run:
    """One permutation of a spec."""

    def __init__(self, spec: Spec, conninfo: str) -> None:
        self.spec = spec
        self.control = Session(conninfo, "control")
        self.sessions = [Session(conninfo, name) for name in spec.sessions]
        self.pids = [session.pid for session in (self.control, *self.sessions)]
        self.waiting: list[Turn] = []
        self.printed: list[str] = []

    def close(self) -> None:
        for session in (self.control, *self.sessions):
            session.conn.close()

    def play(self, turns: list[Turn]) -> str:
        spec = self.spec
        names = " ".join(turn.step.name for turn in turns)
        self.printed = [f"\nstarting permutation: {names}\n"]
        for sql in spec.setup:
            self.printed += self.control.run(sql)
        for index, sql in spec.session_setup.items():
            self._plain(self.sessions[index], sql)
        for turn in turns:
            self._free(turn.step.session)
            session = self.sessions[turn.step.session]
            session.send(turn.step.sql)
            blocked = self._settle(turn, first=True)
            self._look_again()
            if blocked:
                self.waiting.append(turn)
        deadline = time.monotonic() + TIME_LIMIT
        while self.waiting:
            self._look_again()
            if time.monotonic() > deadline:
                raise SpecError(f"still waiting at the end: {[t.step.name for t in self.waiting]}")
        for index, sql in spec.session_teardown.items():
            self._plain(self.sessions[index], sql)
        if spec.teardown is not None:
            self.printed += self.control.run(spec.teardown)
        return "".join(self.printed)

    def _plain(self, session: Session, sql: str) -> None:
        self.printed += session.run(sql)
        self._notices()

    def _free(self, index: int) -> None:
        """Wait until the session has no step under way: it can send only one at a time."""
        deadline = time.monotonic() + TIME_LIMIT
        while any(turn.step.session == index for turn in self.waiting):
            self._look_again()
            if time.monotonic() > deadline:
                raise SpecError(f"session {self.spec.sessions[index]} is still waiting")

    def _look_again(self) -> None:
        """Report the waiting steps that have ended, until none of the others has."""
        progress = True
        while progress:
            progress = False
            for turn in list(self.waiting):
                if not self._settle(turn, first=False):
                    self.waiting.remove(turn)
                    progress = True

    def _settle(self, turn: Turn, first: bool) -> bool:
        """Report the step if it has ended or is seen to wait; tell whether it still waits."""
        step, session = turn.step, self.sessions[turn.step.session]
        if first and turn.always_waits:
            self.printed.append(f"step {step.name}: {step.sql} <waiting ...>\n")
            return True
        deadline = time.monotonic() + TIME_LIMIT
        while session.busy(0.01):
            if self._blocked(session):
                if first:
                    self._notices()
                    self.printed.append(f"step {step.name}: {step.sql} <waiting ...>\n")
                return True
            if time.monotonic() > deadline:
                raise SpecError(f"step {step.name} runs for {TIME_LIMIT} s and waits for nobody")
        if any(turn_.step.name in turn.not_before for turn_ in self.waiting):
            if first:
                self.printed.append(f"step {step.name}: {step.sql} <waiting ...>\n")
            return True
        self._notices()
        said = f"{step.sql}" if first else "<... completed>"
        self.printed.append(f"step {step.name}: {said}\n")
        self.printed += session.results()
        self._notices()
        return False

    def _notices(self) -> None:
        for session in self.sessions:
            self.printed += [f"{note}\n" for note in session.notices]
            session.notices.clear()

    def _blocked(self, session: Session) -> bool:
        row = self.control.conn.execute(
            "select pg_catalog.pg_isolation_test_session_is_blocked(%s, %s)",
            (session.pid, self.pids),
        ).fetchone()
        return bool(row and row[0])


def run_ours(path: Path, conninfo: str) -> str:
    """Run every permutation of a spec and return what isolationtester would print."""
    spec = parse(path.read_text(encoding="utf-8"))
    printed = [f"Parsed test spec with {len(spec.sessions)} sessions\n"]
    for turns in spec.permutations:
        run = Run(spec, make_conninfo(conninfo, options=f"-c search_path={SEARCH_PATH}"))
        try:
            printed.append(run.play(turns))
        finally:
            run.close()
    return "".join(printed)


def run_theirs(path: Path, conninfo: str, isolationtester: str) -> str:
    """Run a spec with PostgreSQL's own isolationtester."""
    done = subprocess.run(
        [isolationtester, conninfo],
        input=path.read_text(encoding="utf-8"),
        env={
            **os.environ,
            "PGOPTIONS": f"-c search_path={SEARCH_PATH}",
            "PG_TEST_TIMEOUT_DEFAULT": str(TIME_LIMIT // 2),  # a step may take twice that
        },
        capture_output=True,
        text=True,
        timeout=10 * TIME_LIMIT,
        check=False,
    )
    if done.returncode:
        raise SpecError(f"isolationtester ended with {done.returncode}\n{done.stderr}{done.stdout}")
    return done.stdout


# ------------------------------------------------------------------------------------ collecting


def find_isolationtester() -> str | None:
    """Return the path of an isolationtester: Debian's, or the one inside the server's wheel."""
    roots = [Path("/usr/lib/postgresql")]
    with contextlib.suppress(EmbeddedUnavailable):
        roots.append(embedded.installation(config.embedded_version()))
    found = [str(path) for root in roots for path in root.glob("**/isolation/isolationtester")]
    return found[-1] if found else None


class SpecFile(pytest.File):
    """Collects a spec once for each runner at hand."""

    def collect(self) -> Iterator[pytest.Item]:
        yield pytest.Function.from_parent(self, name="ours", callobj=_test_of(self.path, None))
        if program := find_isolationtester():
            theirs = pytest.Function.from_parent(
                self, name="isolationtester", callobj=_test_of(self.path, program)
            )
            theirs.add_marker(pytest.mark.slow)
            yield theirs


def _test_of(path: Path, program: str | None) -> Callable[[str], None]:
    def test(database: str) -> None:
        printed = run_theirs(path, database, program) if program else run_ours(path, database)
        expected = path.parent / "expected" / f"{path.stem}.out"
        if os.environ.get("TIDEGATE_ACCEPT"):
            expected.write_text(printed, encoding="utf-8")
        assert printed.splitlines() == expected.read_text(encoding="utf-8").splitlines()

    return test


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix == ".spec" and ROOT in file_path.parents:
        return SpecFile.from_parent(parent, path=file_path)
    return None
