"""The house style of sql/functions: to sqlfluff the text between $$ is but one string."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "sql"
FILES = sorted((ROOT / "functions").glob("**/*.sql"))
WIDTH = 120  # as .sqlfluff says for everything around the bodies
HEAD = re.compile(
    r"^create or replace (?:function|procedure) \{\{ schema \}\}\.(\w+)", re.MULTILINE
)
COMMENT = re.compile(
    r"^comment on (?:function|procedure) \{\{ schema \}\}\.(\w+)\(.*?\) is\s+'", re.M | re.S
)
BODY = re.compile(r"^as (\$\w*\$)\n(.*?)^\1;", re.MULTILINE | re.DOTALL)
NOT_CODE = re.compile(r"/\*.*?\*/|--[^\n]*|'(?:[^']|'')*'|\{[%#{].*?[}%#]\}", re.DOTALL)
SHOUTED = re.compile(r"\b[A-Z][A-Z]+\b")


def one_routine_named_like_its_file(path: Path, text: str) -> list[str]:
    """A stranger finds a routine by its name."""
    names = HEAD.findall(text)
    return [] if names == [path.stem] else [f"defines {names or 'nothing'}"]


def commented_in_the_same_file(path: Path, text: str) -> list[str]:
    """The catalog's sentence stands beside the routine."""
    names = COMMENT.findall(text)
    return [] if names == [path.stem] else [f"comments on {names or 'nothing'}"]


def no_tabs_or_trailing_blanks(path: Path, text: str) -> list[str]:
    """Nothing invisible."""
    return [
        f"line {number}: tab or trailing blank"
        for number, line in enumerate(text.split("\n"), 1)
        if "\t" in line or line != line.rstrip()
    ]


def bodies_are_lower_case(path: Path, text: str) -> list[str]:
    """Key words are not shouted; the names of things in strings and comments are free."""
    return [
        f"{word!r} is shouted"
        for _, body in BODY.findall(text)
        for word in SHOUTED.findall(NOT_CODE.sub(" ", body))
    ]


def bodies_fit_the_page(path: Path, text: str) -> list[str]:
    """A line of a body is at most WIDTH columns wide."""
    return [
        f"{len(line)} columns: {line.strip()[:40]} …"
        for _, body in BODY.findall(text)
        for line in body.splitlines()
        if len(line) > WIDTH
    ]


def ends_in_one_newline(path: Path, text: str) -> list[str]:
    """So that files can be joined."""
    return [] if text.endswith("\n") and not text.endswith("\n\n") else ["ends oddly"]


def whoever_forbids_a_scan_forbids_the_compiler(path: Path, text: str) -> list[str]:
    """Before PostgreSQL 18 a forbidden node costs 1e10 where there is no other way, as for a table
    of one row, and a cost like that starts the JIT compiler: tens of milliseconds a statement."""
    head = text.split("\nas $", 1)[0]
    forbids = re.search(r"^set enable_\w+ = off$", head, re.MULTILINE)
    return ["lacks set jit = off"] if forbids and "\nset jit = off\n" not in head + "\n" else []


RULES: list[Callable[[Path, str], list[str]]] = [
    one_routine_named_like_its_file,
    commented_in_the_same_file,
    no_tabs_or_trailing_blanks,
    bodies_are_lower_case,
    bodies_fit_the_page,
    ends_in_one_newline,
    whoever_forbids_a_scan_forbids_the_compiler,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_routine_follows(rule: Callable[[Path, str], list[str]]) -> None:
    offences = [
        f"{path.relative_to(ROOT)}: {offence}"
        for path in FILES
        for offence in rule(path, path.read_text(encoding="utf-8"))
    ]
    assert FILES
    assert offences == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_rule_bites(rule: Callable[[Path, str], list[str]]) -> None:
    good = (
        "create or replace function {{ schema }}.thing_list(\n    p_limit integer\n) returns void\n"
        "language plpgsql volatile\nas $$\n/* A TG error. */\nbegin\n    raise 'NO'; -- NOT yet\n"
        "end;\n$$;\n\ncomment on function {{ schema }}.thing_list(integer) is\n'Nothing.';\n"
    )
    bad = {
        one_routine_named_like_its_file: good.replace(".thing_list(\n", ".thing_lists(\n"),
        commented_in_the_same_file: good.replace("comment on", "-- comment on"),
        no_tabs_or_trailing_blanks: good.replace("volatile\n", "volatile \n"),
        bodies_are_lower_case: good.replace("begin", "BEGIN"),
        bodies_fit_the_page: good.replace("begin", "begin" + " " * WIDTH + "null;"),
        ends_in_one_newline: good + "\n",
        whoever_forbids_a_scan_forbids_the_compiler: good.replace(
            "as $$", "set enable_seqscan = off\nas $$"
        ),
    }[rule]
    path = Path("thing_list.sql")
    assert rule(path, good) == []
    assert rule(path, bad) != []


def test_install_sql_includes_every_routine() -> None:
    text = (ROOT / "install.sql").read_text(encoding="utf-8")
    named = re.findall(r'include "functions/([\w/]+\.sql)"', text)
    assert sorted(named) == [str(path.relative_to(ROOT / "functions")) for path in FILES]
